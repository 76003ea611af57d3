//! Reads one `[[service]]`.
//!
//! Invariant: reading goes on after a mistake, so a [`Draft`] holds whatever could be read and the
//! checks across services ([`crate::root`]) see the good parts of a bad service too. The one limit:
//! without a valid `mode` the keys that depend on it are not looked at.
//! Not here: health checks ([`crate::health`]).

pub(crate) mod access;
mod balance;
mod exchange;
mod handover;
mod headers;
mod http;
mod l4;
mod limits;
mod pages;
mod route;
mod rules;
mod server;
mod tcp;
mod template;
mod tls;

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::error::Problem;
use crate::model::{Access, Mode, Name, Protocol, Service};
use crate::reader::{Node, Read, Schema, Scope, Table};
use crate::value;

pub(crate) use tls::{MISSING_TRUST, Trust, verify};

/// What could be read of a service.
pub(crate) struct Draft {
    pub(crate) name: Option<Read<Name>>,
    pub(crate) listen: Option<Read<SocketAddr>>,
    pub(crate) protocol: Option<Protocol>,
    pub(crate) mode: Option<Read<Mode>>,
    access: Option<Access>,
    /// Those that could be read, pool by pool.
    pub(crate) pools: Vec<Vec<server::Draft>>,
}

impl Draft {
    /// The service, unless some of it is missing, which then has been reported.
    pub(crate) fn finish(self) -> Option<Service> {
        Some(Service {
            name: self.name?.value,
            listen: self.listen?.value,
            protocol: self.protocol?,
            mode: self.mode?.value,
            access: self.access?,
        })
    }

    /// The servers of all pools.
    pub(crate) fn servers(&self) -> impl Iterator<Item = &server::Draft> {
        self.pools.iter().flatten()
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
    let (mode, pools) = mode(&table, name.as_ref(), listen, protocol);
    Some(Draft {
        name: table.at("name", name),
        listen: table.at("listen", listen),
        protocol,
        // Where full NAT is asked for, or taken for granted.
        mode: table.at("source", mode),
        access: access::read(&table),
        pools,
    })
}

#[derive(Clone, Copy)]
enum Kind {
    Http,
    L4,
    Tcp,
}

fn mode(
    table: &Table<'_>,
    name: Option<&Name>,
    listen: Option<SocketAddr>,
    protocol: Option<Protocol>,
) -> (Option<Mode>, Vec<Vec<server::Draft>>) {
    let modes = [("http", Kind::Http), ("l4", Kind::L4), ("tcp", Kind::Tcp)];
    let example = "mode = \"http\" or mode = \"l4\"";
    match table.required("mode", example, |node| node.choice(&modes)) {
        None => {
            let servers = table.has("servers").then(|| server::list(Scope::of(table)));
            (None, servers.into_iter().flatten().collect())
        }
        Some(Kind::Http) => {
            if protocol == Some(Protocol::Udp) {
                let problem = "is only for mode = \"l4\"; HTTP over UDP (HTTP/3) can be forwarded, not proxied";
                table.fail::<()>("protocol", Problem::Contradiction(problem.to_owned()));
            }
            table.misplaced(l4::KEYS, "mode = \"l4\"", "mode = \"http\"");
            let (http, pools) = http::read(table, name);
            (http.map(Mode::Http), pools)
        }
        Some(Kind::L4) => {
            let here = "mode = \"l4\", which forwards TLS and HTTP untouched";
            table.misplaced(http::KEYS, "mode = \"http\"", here);
            table.misplaced(PROXIED, "mode = \"http\" and mode = \"tcp\"", here);
            let (l4, servers) = l4::read(table, listen, protocol);
            (l4.map(Mode::L4), vec![servers])
        }
        Some(Kind::Tcp) => {
            if protocol == Some(Protocol::Udp) {
                let problem = "is only for mode = \"l4\"; datagrams can be forwarded, not relayed";
                table.fail::<()>("protocol", Problem::Contradiction(problem.to_owned()));
            }
            let here = "mode = \"tcp\", which doesn't look at what it relays";
            table.misplaced(http::KEYS, "mode = \"http\"", here);
            table.misplaced(l4::KEYS, "mode = \"l4\"", "mode = \"tcp\"");
            let (tcp, servers) = tcp::read(table);
            (tcp.map(|tcp| Mode::Tcp(Box::new(tcp))), vec![servers])
        }
    }
}

/// What is for services that have connections of their own.
const PROXIED: Schema = &[
    "transport",
    "handover",
    "tls",
    "upstream_tls",
    "limits",
    "proxy_protocol",
    "accept_proxy_protocol",
    "balance",
    "persistence",
    "queue",
    "passive",
    "slow_start",
    "minimum_healthy",
    "retries",
];

const SCHEMA: Schema = &[
    "name",
    "listen",
    "mode",
    "protocol",
    "servers",
    "health",
    "idle_timeout", // both modes
    // mode = "http"
    "profile",
    "transport",
    "tls",
    "route",
    "headers",
    "upstream_tls",
    "response_timeout",
    "extended_protection",
    "balance",
    "persistence",
    "queue",
    "passive",
    "slow_start",
    "minimum_healthy",
    "retries",
    "expect",
    "upgrade",
    "connect",
    // mode = "l4"
    "source",
    "forward",
    "affinity",
    "mss",
    "when_server_fails",
    "when_daemon_gone",
    // mode = "http": headers, rules and pages
    "forwarded",
    "inbound",
    "request_rules",
    "response_rules",
    "hsts",
    "error_pages",
    // all modes
    "allow",
    "deny",
    "deny_file",
    // mode = "http" and mode = "tcp"
    "handover",
    "limits",
    "proxy_protocol",
    "accept_proxy_protocol",
];

/// LoadMaster's range of `Idletime` is up to 86,400 s as well.
const TIMEOUTS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(24);
