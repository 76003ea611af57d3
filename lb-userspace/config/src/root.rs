//! Reads the whole file, and checks what holds between services.
//!
//! Invariant: a check that needs two values runs whenever both could be read, however many mistakes
//! there are elsewhere. Called by [`crate::parse`] only.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::{Cost, Problem};
use crate::model::{AfXdp, Config, Flows, Forward, L4, Mode, Nat, PortRange, Protocol, Source};
use crate::reader::{Node, Read, Report, Schema, Table, unique};
use crate::service::{self, Draft};
use crate::{
    DEFAULT_ADMIN, DEFAULT_DRAIN_TIMEOUT, DEFAULT_FLOWS, DEFAULT_NAT_PORTS, DEFAULT_ORPHANED_AFTER,
    MAX_CONNECTIONS, MAX_FLOWS, MAX_MOVED_CONNECTIONS, MAX_MOVES_PER_SECOND, MAX_NAT_ADDRESSES,
    MAX_SERVERS, MAX_SERVICES, value,
};

/// The keys at the top of the file.
pub(crate) const SCHEMA: Schema = &[
    "interfaces",
    "admin",
    "drain_timeout",
    "af_xdp",
    "flows",
    "nat",
    "service",
    "allow",
    "deny",
    "deny_file",
];

/// Reads the configuration; warnings are left in the report.
pub(crate) fn read(table: &Table<'_>) -> Option<Config> {
    let example = "for example interfaces = [\"eth0\"]";
    let interfaces = table.required("interfaces", example, |node| {
        node.list(
            "a list of at least one interface, such as [\"eth0\"]",
            value::interface,
        )
    });
    let admin = table.optional("admin", PathBuf::from(DEFAULT_ADMIN), value::socket);
    let drain_timeout = table.optional("drain_timeout", DEFAULT_DRAIN_TIMEOUT, |node| {
        value::duration(node, DRAIN_TIMEOUT)
    });
    let af_xdp = table.optional("af_xdp", AfXdp::default(), af_xdp);
    let flows = table.optional(
        "flows",
        Flows {
            max: DEFAULT_FLOWS,
            hash_key: None,
            orphaned_after: DEFAULT_ORPHANED_AFTER,
        },
        flows,
    );
    let nat = table.optional("nat", NatDraft::default(), nat);
    let access = service::access::read(table);
    let services = table.required("service", "at least one [[service]]", |node| {
        node.list(
            "a list of [[service]] tables (two brackets on each side)",
            labelled_service,
        )
    });
    unique(table.report, interfaces.iter().flatten());
    let drafts: Vec<_> = services
        .iter()
        .flatten()
        .map(|draft| &draft.value)
        .collect();
    check_limits(table, &drafts);
    check_unique(table.report, &drafts);
    if let Some(nat) = &nat {
        check_nat(table, &drafts, nat);
    }
    check_loops(table.report, &drafts);
    Some(Config {
        interfaces: interfaces?
            .into_iter()
            .map(|interface| interface.value)
            .collect(),
        admin: admin?,
        drain_timeout: drain_timeout?,
        af_xdp: af_xdp?,
        flows: flows?,
        nat: nat?.finish(),
        access: access?,
        services: services?
            .into_iter()
            .map(|draft| draft.value.finish())
            .collect::<Option<_>>()?,
        warnings: Vec::new(),
    })
}

/// Reads a service; what is reported in it names the service as its owner does.
fn labelled_service(node: &Node<'_>) -> Option<Draft> {
    let subject = match node.peek("name") {
        Some(name) => format!("service \"{}\"", name.escape_debug()),
        None => node.spot.path.dotted.clone(),
    };
    service::read(&node.labelled(subject))
}

fn af_xdp(node: &Node<'_>) -> Option<AfXdp> {
    let expected = "a table, such as [af_xdp] with memory_mib = 512";
    let table = node.table(expected, AF_XDP)?;
    let default = AfXdp::default();
    let connections = table.optional("connections", default.connections, |node| {
        node.count(MAX_CONNECTIONS)
    });
    let memory_mib = table.optional("memory_mib", default.memory_mib, |node| {
        node.number(MEMORY_MIB)
    });
    let spin = table.optional("spin_us", default.spin, |node| {
        let micros = node.number(0..=MAX_SPIN_MICROS)?;
        Some(Duration::from_micros(micros.into()))
    });
    let moves_per_second = table.optional("moves_per_second", default.moves_per_second, |node| {
        node.count(MAX_MOVES_PER_SECOND)
    });
    let moved_connections = table.optional("moved_connections", None, |node| {
        node.count(MAX_MOVED_CONNECTIONS).map(Some)
    });
    Some(AfXdp {
        connections: connections?,
        memory_mib: memory_mib?,
        spin: spin?,
        moves_per_second: moves_per_second?,
        moved_connections: moved_connections?,
    })
}

const AF_XDP: Schema = &[
    "connections",
    "memory_mib",
    "spin_us",
    "moves_per_second",
    "moved_connections",
];

/// Below, a hundred clients with full windows wait for each other; above, it is no cap.
const MEMORY_MIB: RangeInclusive<u32> = 16..=65_536;

/// Longer than a packet is worth waiting for with a CPU.
const MAX_SPIN_MICROS: u32 = 1000;

fn flows(node: &Node<'_>) -> Option<Flows> {
    let expected = "a table, such as [flows] with max = 1_000_000";
    let table = node.table(expected, &["max", "hash_key", "orphaned_after"])?;
    let max = table.optional("max", DEFAULT_FLOWS, |node| node.count(MAX_FLOWS));
    let hash_key = table.optional("hash_key", None, |node| value::hash_key(node).map(Some));
    let orphaned_after = table.optional("orphaned_after", DEFAULT_ORPHANED_AFTER, |node| {
        value::duration(node, ORPHANED_AFTER)
    });
    Some(Flows {
        max: max?,
        hash_key: hash_key?,
        orphaned_after: orphaned_after?,
    })
}

/// A request of `ActiveSync` takes up to an hour.
const DRAIN_TIMEOUT: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(24);

/// The daemon says once a second that it is there.
const ORPHANED_AFTER: RangeInclusive<Duration> = Duration::from_secs(2)..=Duration::from_hours(24);

/// `[nat]` with the places of its addresses; without addresses if the file has none.
struct NatDraft {
    addresses: Vec<Read<IpAddr>>,
    ports: PortRange,
}

impl Default for NatDraft {
    fn default() -> Self {
        Self {
            addresses: Vec::new(),
            ports: DEFAULT_NAT_PORTS,
        }
    }
}

impl NatDraft {
    fn finish(self) -> Nat {
        let addresses = self
            .addresses
            .into_iter()
            .map(|address| address.value)
            .collect();
        Nat {
            addresses,
            ports: self.ports,
        }
    }
}

fn nat(node: &Node<'_>) -> Option<NatDraft> {
    let expected = "a table, [nat], with addresses = [\"10.203.2.100\"]";
    let table = node.table(expected, &["addresses", "ports"])?;
    let example = "for example addresses = [\"10.203.2.100\"]";
    let addresses = table.required("addresses", example, |node| {
        node.list(
            "a list of at least one address, such as [\"10.203.2.100\"]",
            value::address,
        )
    });
    let ports = table.optional("ports", DEFAULT_NAT_PORTS, value::ports);
    // Nothing is left if every address was bad: then the pool counts as unreadable, not as absent.
    let addresses = addresses.filter(|addresses| !addresses.is_empty())?;
    unique(table.report, addresses.iter());
    limit(
        &table,
        "addresses",
        "addresses",
        addresses.len(),
        MAX_NAT_ADDRESSES,
    );
    Some(NatDraft {
        addresses,
        ports: ports?,
    })
}

fn limit(table: &Table<'_>, key: &'static str, what: &'static str, found: usize, limit: usize) {
    if limit < found {
        table.fail::<()>(key, Problem::TooMany { what, found, limit });
    }
}

fn check_limits(table: &Table<'_>, drafts: &[&Draft]) {
    limit(table, "service", "services", drafts.len(), MAX_SERVICES);
    let servers = drafts.iter().map(|draft| draft.servers().count()).sum();
    limit(
        table,
        "service",
        "servers of all services",
        servers,
        MAX_SERVERS,
    );
}

fn check_unique(report: &Report<'_>, drafts: &[&Draft]) {
    unique(
        report,
        drafts.iter().filter_map(|draft| draft.name.as_ref()),
    );
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let same = drafts
            .iter()
            .filter(|draft| draft.protocol == Some(protocol));
        unique(report, same.filter_map(|draft| draft.listen.as_ref()));
    }
    for servers in drafts.iter().flat_map(|draft| &draft.pools) {
        unique(
            report,
            servers.iter().filter_map(|server| server.name.as_ref()),
        );
        unique(report, servers.iter().map(|server| &server.address));
    }
}

/// A server that is a service of this host: its packets never leave, and so never meet XDP.
fn check_loops(report: &Report<'_>, drafts: &[&Draft]) {
    let services: BTreeMap<SocketAddr, &str> = drafts
        .iter()
        .filter_map(|draft| draft.listen.as_ref())
        .map(|listen| (listen.value, listen.spot.path.dotted.as_str()))
        .collect();
    for server in drafts.iter().flat_map(|draft| draft.servers()) {
        if let Some(path) = services.get(&server.address.value) {
            let clash = format!(
                "{} is {path} of this load balancer itself; give the address of a real server",
                server.address.value
            );
            report.error(&server.address.spot, Problem::Contradiction(clash));
        }
    }
}

fn takes_nat(draft: &Draft) -> bool {
    let mode = draft.mode.as_ref().map(|mode| &mode.value);
    matches!(
        mode,
        Some(Mode::L4(L4 {
            forward: Forward::Nat(Source::Nat),
            ..
        }))
    )
}

fn check_nat(table: &Table<'_>, drafts: &[&Draft], nat: &NatDraft) {
    let modes = drafts.iter().filter_map(|draft| draft.mode.as_ref());
    let known = modes.count();
    let mut users = drafts.iter().filter(|draft| takes_nat(draft)).peekable();
    // A service that could not be read may be the one that uses the pool.
    if users.peek().is_none() && !nat.addresses.is_empty() && known == drafts.len() {
        table.warn("nat", Cost::UnusedNat);
    }
    for user in users {
        let (Some(mode), Some(listen)) = (&user.mode, &user.listen) else {
            continue;
        };
        let ipv6 = listen.value.is_ipv6();
        let same_family = |address: &Read<IpAddr>| address.value.is_ipv6() == ipv6;
        if nat.addresses.iter().any(same_family) {
            continue;
        }
        let family = if ipv6 { "IPv6" } else { "IPv4" };
        let clash = format!(
            "source = \"nat\" (the default) needs [nat] with {family} addresses that are routed to this host; add \
             one, or set source = \"client\""
        );
        table
            .report
            .error(&mode.spot, Problem::Contradiction(clash));
    }
    for listen in drafts.iter().filter_map(|draft| draft.listen.as_ref()) {
        let shared = nat
            .addresses
            .iter()
            .find(|address| address.value == listen.value.ip());
        if let Some(address) = shared.filter(|_| nat.ports.contains(listen.value.port())) {
            let clash = format!(
                "{} port {} is {} as well: replies of servers could not be told from clients; \
                 take another address, or ports outside {}",
                address.value,
                listen.value.port(),
                listen.spot.path.dotted,
                nat.ports
            );
            table
                .report
                .error(&address.spot, Problem::Contradiction(clash));
        }
    }
}
