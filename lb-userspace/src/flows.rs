//! `lb flows`: which connections the packet path carries just now, read from the live flow table.
//!
//! The daemon reads and filters, because it has the table in its address space; the command prints.
//! Field names are part of the interface: scripts read them.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use lb_ebpf::abi::Settings;
use lb_ebpf::family::{Family, V4, V6};
use lb_ebpf::flow::{FlowEntry, FlowSet, FlowSnapshot, Key, Table};
use lb_ebpf::mapped::MappedFlows;
use lb_ebpf::rewrite::Mode;
use lb_ebpf::tcp::Direction;
use lb_ebpf::wire::PROTOCOL_UDP;
use serde::{Deserialize, Serialize};

use crate::control::Control;

/// Which flows are asked for.
#[derive(Clone, Debug, Serialize, Deserialize, clap::Args)]
pub(crate) struct Query {
    /// Flows of this service only.
    #[arg(long, value_name = "NAME")]
    pub(crate) service: Option<String>,
    /// Flows to this server only.
    #[arg(long, value_name = "ADDR[:PORT]")]
    pub(crate) server: Option<Endpoint>,
    /// Flows of this client only.
    #[arg(long, value_name = "ADDR[:PORT]")]
    pub(crate) client: Option<Endpoint>,
    /// Flows in this state only.
    #[arg(long, value_parser = ["half-open", "established", "closing", "closed"])]
    pub(crate) state: Option<String>,
    /// Flows listed at most. The daemon has other things to do meanwhile.
    #[arg(long, default_value_t = 1000, value_name = "N")]
    pub(crate) limit: usize,
}

/// An address, and a port if it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(crate) struct Endpoint {
    address: IpAddr,
    port: Option<u16>,
}

impl Endpoint {
    fn is(self, other: SocketAddr) -> bool {
        self.address == other.ip() && self.port.is_none_or(|port| port == other.port())
    }
}

/// A text is no address.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} is neither an address nor one with a port, such as 192.0.2.1:25 or [2001:db8::1]:25"
)]
pub(crate) struct NoEndpoint(String);

impl FromStr for Endpoint {
    type Err = NoEndpoint;

    fn from_str(text: &str) -> Result<Self, NoEndpoint> {
        let bare = text.parse().map(|address| Self {
            address,
            port: None,
        });
        let with_port = || {
            let endpoint = text.parse::<SocketAddr>();
            endpoint.map(|endpoint| Self {
                address: endpoint.ip(),
                port: Some(endpoint.port()),
            })
        };
        bare.or_else(|_| with_port())
            .map_err(|_| NoEndpoint(text.to_owned()))
    }
}

impl TryFrom<String> for Endpoint {
    type Error = NoEndpoint;

    fn try_from(text: String) -> Result<Self, NoEndpoint> {
        text.parse()
    }
}

impl From<Endpoint> for String {
    fn from(Endpoint { address, port }: Endpoint) -> Self {
        match port {
            Some(port) => SocketAddr::new(address, port).to_string(),
            None => address.to_string(),
        }
    }
}

/// Everything that `lb flows --json` prints.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Flows {
    /// Flows, in no order.
    pub(crate) flows: Vec<Flow>,
    /// There may be more than the limit let through.
    pub(crate) truncated: bool,
}

/// One connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Flow {
    /// The client.
    pub(crate) client: SocketAddr,
    /// The address that it talks to.
    pub(crate) listen: SocketAddr,
    /// The client as the server sees it: another one with full NAT.
    pub(crate) source: SocketAddr,
    /// The server.
    pub(crate) server: SocketAddr,
    /// Name of the service.
    pub(crate) service: String,
    /// `tcp` or `udp`.
    pub(crate) protocol: String,
    /// `nat`, `dsr`, `ipip` or `gue`. In all but the first the server answers by itself, and nothing is counted out.
    pub(crate) forward: String,
    /// `half-open`, `established`, `closing` or `closed`.
    pub(crate) state: String,
    /// Seconds since the last packet in either direction.
    pub(crate) idle_seconds: u32,
    /// Packets to the server, modulo 2³².
    pub(crate) packets_in: u32,
    /// Bytes of them, Ethernet headers included.
    pub(crate) bytes_in: u64,
    /// Packets to the client, modulo 2³².
    pub(crate) packets_out: u32,
    /// Bytes of them, Ethernet headers included.
    pub(crate) bytes_out: u64,
}

/// Reads the tables.
pub(crate) fn list(control: &Control, query: &Query) -> anyhow::Result<Flows> {
    let dataplane = control.dataplane();
    let settings = dataplane.settings()?;
    let mut found = flows_of(control, dataplane.flows(), &settings)
        .chain(flows_of(control, dataplane.flows6(), &settings))
        .filter(|flow| query.matches(flow));
    let flows = found.by_ref().take(query.limit).collect();
    let truncated = found.next().is_some();
    Ok(Flows { flows, truncated })
}

fn flows_of<'a, F: Addressed>(
    control: &'a Control,
    sets: &'a MappedFlows<F>,
    settings: &'a Settings,
) -> impl Iterator<Item = Flow> + 'a {
    let table = Table::new(sets, settings);
    let entries = sets.iter().flat_map(FlowSet::entries);
    entries
        .filter_map(FlowEntry::snapshot)
        .filter(|entry| entry.direction == Direction::Forward)
        .map(move |entry| {
            let answers = entry
                .peer()
                .and_then(|peer| table.find_cold(&peer))
                .and_then(FlowEntry::snapshot);
            flow(control, &entry, answers.as_ref(), settings.tick)
        })
}

fn flow<F: Addressed>(
    control: &Control,
    entry: &FlowSnapshot<F>,
    answers: Option<&FlowSnapshot<F>>,
    tick: u32,
) -> Flow {
    let idle = |entry: &FlowSnapshot<F>| tick.saturating_sub(entry.last_tick);
    let (client, listen) = tuple(&entry.key);
    // Where nothing but the way to the server changes, it sees what the client has sent.
    let (source, server) = match entry.mode {
        Mode::Nat => tuple(&entry.rewritten),
        Mode::Dsr | Mode::Ipip | Mode::Gue => {
            let server = control.server_of(entry.service, entry.backend);
            (client, server.unwrap_or(listen))
        }
    };
    let service = control.service_of(entry.service);
    Flow {
        client,
        listen,
        source,
        server,
        // A flow that outlived the configuration it was opened under.
        service: service.map_or("?", |service| &service.name).to_owned(),
        protocol: protocol(entry.key.protocol).to_owned(),
        forward: forward(entry.mode).to_owned(),
        state: entry.state.name().to_owned(),
        idle_seconds: answers.map_or(idle(entry), |answers| idle(entry).min(idle(answers))),
        packets_in: entry.packets,
        bytes_in: entry.bytes,
        packets_out: answers.map_or(0, |answers| answers.packets),
        bytes_out: answers.map_or(0, |answers| answers.bytes),
    }
}

const fn protocol(number: u8) -> &'static str {
    match number {
        PROTOCOL_UDP => "udp",
        _ => "tcp",
    }
}

const fn forward(mode: Mode) -> &'static str {
    match mode {
        Mode::Nat => "nat",
        Mode::Dsr => "dsr",
        Mode::Ipip => "ipip",
        Mode::Gue => "gue",
    }
}

/// A family whose addresses userspace can name.
pub(crate) trait Addressed: Family {
    /// The address as the standard library has it.
    fn ip(address: Self::Address) -> IpAddr;
}

impl Addressed for V4 {
    fn ip(address: [u8; 4]) -> IpAddr {
        address.into()
    }
}

impl Addressed for V6 {
    fn ip(address: [u8; 16]) -> IpAddr {
        address.into()
    }
}

/// Source and destination of a key.
pub(crate) fn tuple<F: Addressed>(key: &Key<F>) -> (SocketAddr, SocketAddr) {
    let endpoint = |(address, port): (F::Address, u16)| SocketAddr::new(F::ip(address), port);
    (endpoint(key.source()), endpoint(key.destination()))
}

impl Query {
    fn matches(&self, flow: &Flow) -> bool {
        self.service
            .as_ref()
            .is_none_or(|name| *name == flow.service)
            && self.server.is_none_or(|server| server.is(flow.server))
            && self.client.is_none_or(|client| client.is(flow.client))
            && self.state.as_ref().is_none_or(|state| *state == flow.state)
    }
}

impl fmt::Display for Flows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for flow in &self.flows {
            writeln!(f, "{flow}")?;
        }
        if self.truncated {
            writeln!(f, "… and more: narrow the question, or raise --limit")?;
        }
        Ok(())
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            client,
            listen,
            source,
            server,
            service,
            protocol,
            forward,
            state,
            idle_seconds,
            ..
        } = self;
        write!(
            f,
            "{protocol} {client} > {listen} > {server}  {service}  {state}"
        )?;
        if forward != "nat" {
            write!(f, "  {forward}")?;
        }
        if source != client {
            write!(f, "  nat {source}")?;
        }
        write!(
            f,
            "  idle {idle_seconds} s  in {} packets {} bytes  out {} packets {} bytes",
            self.packets_in, self.bytes_in, self.packets_out, self.bytes_out
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: &str = "192.0.2.1:40000";

    fn sample() -> Flow {
        Flow {
            client: CLIENT.parse().unwrap(),
            listen: "198.51.100.1:25".parse().unwrap(),
            source: "203.0.113.9:1025".parse().unwrap(),
            server: "203.0.113.2:25".parse().unwrap(),
            service: "smtp".to_owned(),
            protocol: "tcp".to_owned(),
            forward: "nat".to_owned(),
            state: "established".to_owned(),
            idle_seconds: 3,
            packets_in: 4,
            bytes_in: 500,
            packets_out: 6,
            bytes_out: 700,
        }
    }

    #[test]
    fn a_query_matches_what_it_names() {
        let any = Query {
            service: None,
            server: None,
            client: None,
            state: None,
            limit: 1,
        };
        let check = |query: Query, expected| {
            assert_eq!(query.matches(&sample()), expected, "{query:?}");
        };
        let endpoint = |text: &str| Some(text.parse::<Endpoint>().unwrap());
        let name = |text: &str| Some(text.to_owned());
        check(any.clone(), true);
        for (service, expected) in [("smtp", true), ("web", false)] {
            let service = name(service);
            check(
                Query {
                    service,
                    ..any.clone()
                },
                expected,
            );
        }
        for (client, expected) in [
            ("192.0.2.1", true),
            (CLIENT, true),
            ("192.0.2.1:4", false),
            ("192.0.2.2", false),
        ] {
            let client = endpoint(client);
            check(
                Query {
                    client,
                    ..any.clone()
                },
                expected,
            );
        }
        for (server, expected) in [("203.0.113.2", true), ("203.0.113.9", false)] {
            let server = endpoint(server);
            check(
                Query {
                    server,
                    ..any.clone()
                },
                expected,
            );
        }
        for (state, expected) in [("established", true), ("closed", false)] {
            let state = name(state);
            check(
                Query {
                    state,
                    ..any.clone()
                },
                expected,
            );
        }
    }

    #[test]
    fn a_line_says_who_and_how_much() {
        assert_eq!(
            sample().to_string(),
            "tcp 192.0.2.1:40000 > 198.51.100.1:25 > 203.0.113.2:25  smtp  established  nat 203.0.113.9:1025  \
             idle 3 s  in 4 packets 500 bytes  out 6 packets 700 bytes"
        );
    }

    #[test]
    fn endpoints_survive_the_way_to_the_daemon() {
        for text in ["192.0.2.1", CLIENT] {
            let endpoint: Endpoint = text.parse().unwrap();
            let json = serde_json::to_string(&endpoint).unwrap();
            assert_eq!(serde_json::from_str::<Endpoint>(&json).unwrap(), endpoint);
        }
        assert!("mail.example".parse::<Endpoint>().is_err());
    }
}
