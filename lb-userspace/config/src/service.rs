//! Reads one `[[service]]`.
//!
//! Invariant: reading goes on after a mistake, so a [`Draft`] holds whatever could be read and the
//! checks across services ([`crate::root`]) see the good parts of a bad service too. The one limit:
//! without a valid `mode` the keys that depend on it are not looked at.
//! Not here: health checks ([`crate::health`]).

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::error::{Cost, Problem};
use crate::health;
use crate::model::{
    Affinity, Forward, HeaderMode, Health, Http, L4, Mode, Name, Profile, Protocol, Server,
    Service, Source, Tls, Transport, UpstreamTls, Verify, WhenDaemonGone, WhenServerFails,
};
use crate::reader::{Node, Read, Schema, Table};
use crate::{
    DATAGRAM_IDLE_TIMEOUT, EXCHANGE_IDLE_TIMEOUT, EXCHANGE_RESPONSE_TIMEOUT, MAX_WEIGHT,
    PLAIN_IDLE_TIMEOUT, PLAIN_RESPONSE_TIMEOUT, value,
};

/// What could be read of a service.
pub(crate) struct Draft {
    pub(crate) name: Option<Read<Name>>,
    pub(crate) listen: Option<Read<SocketAddr>>,
    pub(crate) protocol: Option<Protocol>,
    pub(crate) mode: Option<Read<Mode>>,
    /// Those that could be read; empty if there are none.
    pub(crate) servers: Vec<ServerDraft>,
    health: Option<Health>,
}

impl Draft {
    /// The service, unless some of it is missing, which then has been reported.
    pub(crate) fn finish(self) -> Option<Service> {
        Some(Service {
            name: self.name?.value,
            listen: self.listen?.value,
            protocol: self.protocol?,
            mode: self.mode?.value,
            servers: self
                .servers
                .into_iter()
                .map(ServerDraft::finish)
                .collect::<Option<_>>()?,
            health: self.health?,
        })
    }
}

/// A server with the places of what must be unique.
pub(crate) struct ServerDraft {
    /// As given: an address as a name can't clash with it.
    pub(crate) name: Option<Read<Name>>,
    pub(crate) address: Read<SocketAddr>,
    weight: Option<Read<u16>>,
}

impl ServerDraft {
    fn finish(self) -> Option<Server> {
        let address = self.address.value;
        let name = self.name.map(|name| name.value);
        Some(Server {
            name: name.unwrap_or_else(|| Name::of_address(address)),
            address,
            weight: self.weight?.value,
        })
    }
}

/// Reads the service in `node`; `None` if it is not even a table.
pub(crate) fn read(node: &Node<'_>) -> Option<Draft> {
    let table = node.table("a table, [[service]]", SCHEMA)?;
    let name = table.required("name", "for example name = \"exchange\"", value::name);
    let listen_example = "for example listen = \"10.203.1.100:443\"";
    let listen = table.required("listen", listen_example, value::endpoint);
    let protocols = [("tcp", Protocol::Tcp), ("udp", Protocol::Udp)];
    let protocol = table.optional("protocol", Protocol::Tcp, |node| node.choice(&protocols));
    let mode = mode(&table, protocol);
    let servers = table.required(
        "servers",
        "for example servers = [\"10.203.2.11:443\"]",
        |node| {
            node.list(
                "a list of at least one server, such as [\"10.203.2.11:443\"]",
                server,
            )
        },
    );
    let health = health::read(&table, mode.as_ref(), protocol);
    let draft = Draft {
        name: table.at("name", name),
        listen: table.at("listen", listen),
        protocol,
        // Where full NAT is asked for, or taken for granted.
        mode: table.at("source", mode),
        servers: servers
            .into_iter()
            .flatten()
            .map(|server| server.value)
            .collect(),
        health,
    };
    check_servers(&table, &draft);
    Some(draft)
}

/// What must be true of servers and service together.
fn check_servers(table: &Table<'_>, draft: &Draft) {
    let Some(listen) = &draft.listen else {
        return;
    };
    let mode = draft.mode.as_ref().map(|mode| &mode.value);
    let is_forwarded = !matches!(mode, Some(Mode::Http(_)));
    for server in &draft.servers {
        let address = server.address.value;
        // A proxy has a connection of its own to each server.
        if is_forwarded && address.is_ipv6() != listen.value.is_ipv6() {
            let clash = format!(
                "{address} and the service's {} are of different families, and addresses are not translated \
                 from one to the other; give an address of the same, or take mode = \"http\"",
                listen.value
            );
            table
                .report
                .error(&server.address.spot, Problem::Contradiction(clash));
        }
        check_port(table, mode, listen.value.port(), server);
        if let (Some(Mode::Http(_)), Some(weight)) = (mode, &server.weight)
            && weight.value == 0
        {
            let clash =
                "0 drains a server of mode = \"l4\"; in mode = \"http\" remove the server instead";
            table
                .report
                .error(&weight.spot, Problem::Contradiction(clash.to_owned()));
        }
    }
}

/// Where ports are not rewritten, the server sees the port of the service.
fn check_port(table: &Table<'_>, mode: Option<&Mode>, port: u16, server: &ServerDraft) {
    let Some(Mode::L4(L4 {
        forward: forward @ (Forward::Dsr | Forward::Ipip | Forward::Gue),
        ..
    })) = mode
    else {
        return;
    };
    let address = server.address.value;
    if address.port() != port {
        let clash = format!(
            "forward = \"{}\" leaves the port as it is, so the server must listen on {port} and not on {}; \
             change one of the two, or take forward = \"nat\"",
            forward.name(),
            address.port()
        );
        table
            .report
            .error(&server.address.spot, Problem::Contradiction(clash));
    }
}

fn mode(table: &Table<'_>, protocol: Option<Protocol>) -> Option<Mode> {
    let modes = [("http", Kind::Http), ("l4", Kind::L4)];
    let example = "mode = \"http\" or mode = \"l4\"";
    match table.required("mode", example, |node| node.choice(&modes))? {
        Kind::Http => {
            if protocol == Some(Protocol::Udp) {
                let problem = "is only for mode = \"l4\"; HTTP over UDP (HTTP/3) can be forwarded, not proxied";
                table.fail::<()>("protocol", Problem::Contradiction(problem.to_owned()));
            }
            table.misplaced(L4_KEYS, "mode = \"l4\"", "mode = \"http\"");
            http(table).map(Mode::Http)
        }
        Kind::L4 => {
            let here = "mode = \"l4\", which forwards TLS and HTTP untouched";
            table.misplaced(HTTP_KEYS, "mode = \"http\"", here);
            l4(table, protocol).map(Mode::L4)
        }
    }
}

fn l4(table: &Table<'_>, protocol: Option<Protocol>) -> Option<L4> {
    let modes = [
        ("nat", Forward::Nat(Source::Nat)),
        ("dsr", Forward::Dsr),
        ("ipip", Forward::Ipip),
        ("gue", Forward::Gue),
    ];
    let forward = table.optional("forward", Forward::Nat(Source::Nat), |node| {
        node.choice(&modes)
    });
    let forward = match forward {
        Some(Forward::Nat(_)) => {
            let sources = [("nat", Source::Nat), ("client", Source::Client)];
            let source = table.optional("source", Source::Nat, |node| node.choice(&sources));
            source.map(Forward::Nat)
        }
        Some(other) => {
            let here = "another mode of forwarding, in which the server always sees the client";
            table.misplaced(&["source"], "forward = \"nat\"", here);
            Some(other)
        }
        None => None,
    };
    let affinities = [("none", Affinity::None), ("client", Affinity::Client)];
    let affinity = table.optional("affinity", Affinity::None, |node| node.choice(&affinities));
    let default_idle = match protocol {
        Some(Protocol::Udp) => DATAGRAM_IDLE_TIMEOUT,
        _ => EXCHANGE_IDLE_TIMEOUT,
    };
    let idle_timeout = table.optional("idle_timeout", default_idle, |node| {
        value::duration(node, TIMEOUTS)
    });
    let mss = table.optional("mss", None, |node| mss(node, protocol).map(Some));
    let choices = [
        ("leave", WhenServerFails::Leave),
        ("cut", WhenServerFails::Cut),
    ];
    let when_server_fails = table.optional("when_server_fails", WhenServerFails::Leave, |node| {
        node.choice(&choices)
    });
    let choices = [
        ("forward", WhenDaemonGone::Forward),
        ("pass", WhenDaemonGone::Pass),
    ];
    let when_daemon_gone = table.optional("when_daemon_gone", WhenDaemonGone::Forward, |node| {
        node.choice(&choices)
    });
    Some(L4 {
        forward: forward?,
        affinity: affinity?,
        idle_timeout: idle_timeout?,
        mss: mss?,
        when_server_fails: when_server_fails?,
        when_daemon_gone: when_daemon_gone?,
    })
}

fn mss(node: &Node<'_>, protocol: Option<Protocol>) -> Option<NonZeroU16> {
    if protocol == Some(Protocol::Udp) {
        let problem = "is for TCP, and protocol = \"udp\" has none; remove it";
        return node.fail(Problem::Contradiction(problem.to_owned()));
    }
    let mss = node.number(MSS)?;
    NonZeroU16::new(u16::try_from(mss).ok()?)
}

#[derive(Clone, Copy)]
enum Kind {
    Http,
    L4,
}

fn http(table: &Table<'_>) -> Option<Http> {
    let profiles = [("exchange", Profile::Exchange), ("plain", Profile::Plain)];
    let profile = table.optional("profile", Profile::Plain, |node| node.choice(&profiles));
    let defaults = Defaults::of(profile.unwrap_or(Profile::Plain));
    let headers = table.optional("headers", defaults.headers, |node| {
        node.choice(&HEADER_MODES)
    });
    let transport = table.optional("transport", Transport::Auto, |node| {
        node.choice(&TRANSPORTS)
    });
    let tls = table.optional("tls", None, |node| tls(node).map(Some));
    let upstream_tls = table.optional("upstream_tls", None, |node| upstream_tls(node).map(Some));
    let idle_timeout = table.optional("idle_timeout", defaults.idle_timeout, |node| {
        value::duration(node, TIMEOUTS)
    });
    let response_timeout = table.optional("response_timeout", defaults.response_timeout, |node| {
        value::duration(node, TIMEOUTS)
    });
    let http = Http {
        profile: profile?,
        headers: headers?,
        transport: transport?,
        tls: tls?,
        upstream_tls: upstream_tls?,
        idle_timeout: idle_timeout?,
        response_timeout: response_timeout?,
    };
    if http.profile == Profile::Exchange {
        warn_exchange(table, &http);
    }
    Some(http)
}

/// What a profile says where the file says nothing.
struct Defaults {
    headers: HeaderMode,
    idle_timeout: Duration,
    response_timeout: Duration,
}

impl Defaults {
    fn of(profile: Profile) -> Self {
        match profile {
            Profile::Exchange => Self {
                headers: HeaderMode::None,
                idle_timeout: EXCHANGE_IDLE_TIMEOUT,
                response_timeout: EXCHANGE_RESPONSE_TIMEOUT,
            },
            Profile::Plain => Self {
                headers: HeaderMode::XForwardedFor,
                idle_timeout: PLAIN_IDLE_TIMEOUT,
                response_timeout: PLAIN_RESPONSE_TIMEOUT,
            },
        }
    }
}

fn warn_exchange(table: &Table<'_>, http: &Http) {
    if http.headers.adds_via() {
        table.warn("headers", Cost::Via);
    }
    if http.tls.is_some() && http.upstream_tls.is_none() {
        table.warn("tls", Cost::Offload);
    }
    if http.idle_timeout < SHORTEST_EXCHANGE_IDLE {
        table.warn("idle_timeout", Cost::ShortIdle);
    }
}

fn tls(node: &Node<'_>) -> Option<Tls> {
    let expected = "a table, such as { certificate = \"cert.pem\", key = \"key.pem\" }";
    let table = node.table(expected, &["certificate", "key"])?;
    let example = "the PEM file with the certificate chain, leaf first";
    let certificate = table.required("certificate", example, value::file);
    let key = table.required("key", "the PEM file with the private key", value::file);
    Some(Tls {
        certificate: certificate?,
        key: key?,
    })
}

fn upstream_tls(node: &Node<'_>) -> Option<UpstreamTls> {
    let expected = "a table, such as { ca = \"ca.pem\", server_name = \"mail.example.com\" }";
    let table = node.table(expected, &["ca", "server_name", "verify"])?;
    let example = "the name in the servers' certificate, such as \"mail.example.com\"";
    let server_name = table.required("server_name", example, value::server_name);
    let verify = match verify(&table) {
        Trust::Given(verify) => Some(verify),
        Trust::Broken => None,
        Trust::Unsaid => table.fail("ca", MISSING_TRUST),
    };
    Some(UpstreamTls {
        server_name: server_name?,
        verify: verify?,
    })
}

/// What `ca` and `verify` of a table say.
pub(crate) enum Trust {
    Given(Verify),
    /// Reported.
    Broken,
    Unsaid,
}

pub(crate) const MISSING_TRUST: Problem = Problem::Missing {
    example: "the PEM file with the root certificate of the servers (or verify = \"none\")",
};

/// Reads `ca` and `verify`, which exclude each other.
pub(crate) fn verify(table: &Table<'_>) -> Trust {
    let ca = table.get("ca").map(|node| value::file(&node));
    let none = table.get("verify").map(|node| node.choice(&[("none", ())]));
    match (ca, none) {
        (None, None) => Trust::Unsaid,
        (Some(Some(ca)), None) => Trust::Given(Verify::Ca(ca)),
        (None, Some(Some(()))) => {
            table.warn("verify", Cost::Unverified);
            Trust::Given(Verify::None)
        }
        (Some(Some(_)), Some(Some(()))) => {
            let clash = "with verify = \"none\" the ca is not used; remove one of the two";
            table.fail::<()>("verify", Problem::Contradiction(clash.to_owned()));
            Trust::Broken
        }
        _ => Trust::Broken,
    }
}

fn server(node: &Node<'_>) -> Option<ServerDraft> {
    if node.is_string() {
        let address = Read {
            value: value::endpoint(node)?,
            spot: node.spot.clone(),
        };
        return Some(ServerDraft {
            name: None,
            address,
            weight: Some(Read {
                value: 1,
                spot: node.spot.clone(),
            }),
        });
    }
    let expected = "an address such as \"10.203.2.11:443\", or a table such as \
                    { address = \"10.203.2.11:443\", weight = 2, name = \"ex1\" }";
    let table = node.table(expected, &["address", "weight", "name"])?;
    let example = "for example address = \"10.203.2.11:443\"";
    let address = table.required("address", example, value::endpoint);
    let weight = table.optional("weight", 1, |node| {
        let weight = node.number(0..=MAX_WEIGHT)?;
        u16::try_from(weight).ok()
    });
    let weight = table.at("weight", weight);
    let name = table.get("name").and_then(|node| value::name(&node));
    let address = table.at("address", address)?;
    let name = table.at("name", name);
    Some(ServerDraft {
        name,
        address,
        weight,
    })
}

const HTTP_KEYS: Schema = &[
    "profile",
    "headers",
    "transport",
    "tls",
    "upstream_tls",
    "response_timeout",
];
const L4_KEYS: Schema = &[
    "source",
    "forward",
    "affinity",
    "mss",
    "when_server_fails",
    "when_daemon_gone",
];
const SCHEMA: Schema = &[
    "name",
    "listen",
    "mode",
    "protocol",
    "servers",
    "health",
    "idle_timeout", // both modes
    "profile",
    "headers",
    "transport",
    "tls",
    "upstream_tls",
    "response_timeout",
    "source",
    "forward",
    "affinity",
    "mss",
    "when_server_fails",
    "when_daemon_gone",
];

const HEADER_MODES: [(&str, HeaderMode); 7] = [
    ("none", HeaderMode::None),
    ("x-forwarded-for", HeaderMode::XForwardedFor),
    ("x-forwarded-for+via", HeaderMode::XForwardedForVia),
    ("x-clientside", HeaderMode::XClientSide),
    ("x-clientside+via", HeaderMode::XClientSideVia),
    ("via", HeaderMode::Via),
    ("legacy", HeaderMode::LegacyXForwardedFor),
];

const TRANSPORTS: [(&str, Transport); 3] = [
    ("auto", Transport::Auto),
    ("af_xdp", Transport::AfXdp),
    ("kernel", Transport::Kernel),
];

/// From what every IPv4 host takes (RFC 9293 §3.7.1) to what fits into a jumbo frame.
const MSS: RangeInclusive<u32> = 536..=8960;

/// LoadMaster's range of `Idletime` is up to 86,400 s as well.
const TIMEOUTS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(24);

/// Longest stream of EWS `GetStreamingEvents`, and Exchange's own upper `KeepAliveTime`.
const SHORTEST_EXCHANGE_IDLE: Duration = Duration::from_mins(30);
