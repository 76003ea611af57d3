//! From lists and limits of a configuration to those of the proxy and of the XDP program.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use lb_config::WhenExceeded;
use lb_ebpf::abi::{ACCESS_ALLOW, ACCESS_DENY, AccessKey, AccessPrefix, mapped};
use lb_proxy::{
    Access, BodyLimits, BodyRate, ConnectionLimits, Entrance, Exceeded, Prefix, ProxyProtocol,
    Rate, RequestLimits,
};

/// Lists of networks, with what the files hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lists {
    /// Who may connect.
    pub(crate) allow: Vec<lb_config::Prefix>,
    /// Who may not.
    pub(crate) deny: Vec<lb_config::Prefix>,
}

impl Lists {
    /// Reads the file, if one is named.
    pub(super) fn load(access: &lb_config::Access, directory: &Path) -> Result<Self, String> {
        let mut deny = access.deny.clone();
        if let Some(path) = &access.deny_file {
            let path = directory.join(path);
            let shown = path.display();
            let text = std::fs::read_to_string(&path).map_err(|error| {
                format!("can't read {shown}: {error}; check the path and who may read it")
            })?;
            for (number, line) in (1..).zip(text.lines()) {
                let line = line.split('#').next().unwrap_or_default().trim();
                if line.is_empty() {
                    continue;
                }
                let prefix = line.parse().map_err(|error| {
                    format!("{shown}:{number}: `{}` is {error}", line.escape_debug())
                })?;
                deny.push(prefix);
            }
        }
        deny.sort_unstable();
        deny.dedup();
        Ok(Self {
            allow: access.allow.clone(),
            deny,
        })
    }

    /// Whether everyone may connect.
    pub(crate) fn is_empty(&self) -> bool {
        self.allow.is_empty() && self.deny.is_empty()
    }

    /// For the XDP program: the elements of its map, of the service with the number `scope` or of all.
    pub(crate) fn elements(&self, scope: u32) -> impl Iterator<Item = AccessPrefix> {
        let element = move |address: [u8; 16], length: u32, decision| AccessPrefix {
            key: AccessKey { scope, address },
            length: 32 + length,
            decision,
        };
        let of = move |decision| {
            move |prefix: &lb_config::Prefix| match prefix.address {
                IpAddr::V4(address) => element(
                    mapped(address.octets()),
                    96 + u32::from(prefix.length),
                    decision,
                ),
                IpAddr::V6(address) => element(address.octets(), prefix.length.into(), decision),
            }
        };
        // Who is in none of them.
        let others = (!self.allow.is_empty()).then(|| element([0; 16], 0, ACCESS_DENY));
        // The last one written stands, and so what is in both is denied; `::/0` of a list after what stands for all.
        let allowed = self.allow.iter().map(of(ACCESS_ALLOW));
        let denied = self.deny.iter().map(of(ACCESS_DENY));
        others.into_iter().chain(allowed).chain(denied)
    }

    /// For the proxy.
    pub(super) fn access(&self) -> Access {
        Access::new(prefixes(&self.allow), prefixes(&self.deny))
    }
}

fn prefixes(list: &[lb_config::Prefix]) -> impl Iterator<Item = Prefix> {
    // Checked: none is longer than its address.
    list.iter()
        .filter_map(|prefix| Prefix::new(prefix.address, prefix.length))
}

/// The entrance of a service with these lists, its own and that of all.
pub(super) fn entrance(
    service: &lb_config::Service,
    limits: &lb_config::Limits,
    lists: [&Arc<Access>; 2],
) -> Entrance {
    let lists = lists.into_iter().filter(|list| !list.is_open());
    let from = service.accept_proxy_protocol();
    let counted = limits.connections.or(limits.connections_per_client);
    Entrance {
        access: lists.map(Arc::clone).collect(),
        proxy_header: (!from.is_empty()).then(|| Access::new(prefixes(from), [])),
        connections: counted
            .map(|_| ConnectionLimits::new(limits.connections, limits.connections_per_client)),
    }
}

/// Limits of requests; `None` if there are none.
pub(super) fn requests(limits: &lb_config::RequestLimits) -> Option<Arc<RequestLimits>> {
    let rate = |rate: lb_config::Rate| Rate::new(rate.requests, rate.per, rate.burst);
    let exceeded = match limits.when_exceeded {
        WhenExceeded::TooManyRequests => Exceeded::TooManyRequests,
        WhenExceeded::Unavailable => Exceeded::Unavailable,
        WhenExceeded::Drop => Exceeded::Drop,
    };
    let (all, per_client) = (limits.rate.map(rate), limits.rate_per_client.map(rate));
    let any = limits.concurrent.is_some() || all.is_some() || per_client.is_some();
    any.then(|| RequestLimits::new(limits.concurrent, all, per_client, exceeded))
}

pub(super) fn body(limits: &lb_config::BodyLimits) -> BodyLimits {
    BodyLimits {
        max: limits.max.map(|max| u64::from(max.get())),
        rate: limits.rate.map(|rate| BodyRate {
            bytes_per_second: rate.bytes_per_second,
            grace: rate.grace,
        }),
    }
}

pub(super) fn proxy_protocol(version: lb_config::ProxyProtocol) -> ProxyProtocol {
    match version {
        lb_config::ProxyProtocol::V1 => ProxyProtocol::V1,
        lb_config::ProxyProtocol::V2 => ProxyProtocol::V2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Lists, String> {
        let directory = tempfile::TempDir::new().unwrap();
        std::fs::write(directory.path().join("deny.txt"), text).unwrap();
        let access = lb_config::Access {
            allow: Vec::new(),
            deny: vec!["192.0.2.0/24".parse().unwrap()],
            deny_file: Some("deny.txt".into()),
        };
        let shown = directory.path().join("deny.txt").display().to_string();
        Lists::load(&access, directory.path()).map_err(|error| error.replace(&shown, "deny.txt"))
    }

    #[test]
    fn a_file_adds_to_what_is_denied() {
        let lists =
            load("# scanners\n10.0.0.0/8\n\n 2001:db8::/32 # a network\n192.0.2.0/24\n").unwrap();
        let shown: Vec<_> = lists.deny.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["10.0.0.0/8", "192.0.2.0/24", "2001:db8::/32"]);
        assert!(!lists.access().is_open());
    }

    /// Both sides decide by the same rule: the proxy by its own lists, the program by its map.
    #[test]
    fn the_program_is_told_what_the_proxy_knows() {
        let list = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let cases: [(&[&str], &[&str]); 5] = [
            (&[], &["10.0.0.0/8", "2001:db8::/32"]),
            (&["10.0.0.0/8"], &[]),
            (&["10.0.0.0/8", "10.1.2.3"], &["10.1.0.0/16", "2001:db8::1"]),
            (&["::/0"], &["10.1.2.3"]),
            (&["10.0.0.0/8"], &["10.0.0.0/8", "0.0.0.0/0"]),
        ];
        let clients = [
            "10.1.2.3",
            "10.1.2.4",
            "10.2.0.1",
            "192.0.2.1",
            "2001:db8::1",
            "2001:db9::1",
        ];
        for (allow, deny) in cases {
            let lists = Lists {
                allow: list(allow),
                deny: list(deny),
            };
            let mut world = lb_ebpf::fixtures::world();
            world.access = Vec::new();
            for element in lists.elements(7) {
                // As in the map: one value for each prefix.
                world
                    .access
                    .retain(|other| (other.key, other.length) != (element.key, element.length));
                world.access.push(element);
            }
            let program = lb_ebpf::fixtures::HostTables::new(&world);
            for client in clients {
                let client: IpAddr = client.parse().unwrap();
                let address = match client {
                    IpAddr::V4(client) => mapped(client.octets()),
                    IpAddr::V6(client) => client.octets(),
                };
                let says =
                    lb_ebpf::decide::Shared::access(&program, &AccessKey { scope: 7, address });
                let denied = lists.access().decide(client) == lb_proxy::Decision::Deny;
                assert_eq!(
                    says == Some(ACCESS_DENY),
                    denied,
                    "{allow:?} {deny:?} {client}"
                );
            }
        }
    }

    #[test]
    fn a_mistake_in_a_file_is_placed_and_explained() {
        assert_eq!(
            load("10.0.0.0/8\n10.0.0.1/8\n").unwrap_err(),
            "deny.txt:2: `10.0.0.1/8` is not a network, such as \"10.0.0.0/8\" or \"2001:db8::/32\", with zeros behind the prefix"
        );
        let access = lb_config::Access {
            deny_file: Some("nowhere.txt".into()),
            ..lb_config::Access::default()
        };
        let error = Lists::load(&access, Path::new("/nowhere")).unwrap_err();
        assert!(
            error.starts_with("can't read /nowhere/nowhere.txt: "),
            "{error}"
        );
    }
}
