//! The validated configuration: what the rest of the daemon is built from.
//!
//! Invariant: a [`Config`] came from [`parse`](crate::parse), and so every value is in range, names
//! and addresses are unique, and no service lacks what its mode needs. Nobody downstream checks
//! again. Not here: anything read from files, resolved through DNS, or known only at run time.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU16, NonZeroU32};
use std::path::PathBuf;
use std::time::Duration;

use crate::error::Warning;

mod admission;
mod balance;
mod exchange;
mod handover;
mod headers;
mod health;
mod http_service;
mod pages;
mod rules;
mod tcp_service;
mod tls;

pub use admission::{
    Access, BodyLimits, BodyRate, Limits, NotANetwork, Prefix, ProxyProtocol, Rate, RequestLimits,
    WhenExceeded,
};
pub use balance::{BalanceMethod, Balancing, Passive, Persistence, Queue, Symptom};
pub use exchange::{Expect, Tunnels, UpgradeTo};
pub use handover::{Begin, Handover};
pub use headers::{Hsts, HstsReach, Inbound, Tell};
pub use health::{Check, Get, Greeting, Health, Mail, Schedule};
pub use http_service::{
    Action, Forwarding, HeaderEquals, HeaderMode, HostPattern, Http, PathPrefix, Profile, Redirect,
    Respond, Route, Transport, UpstreamTls, Verify, When,
};
pub use pages::{ErrorPage, ErrorPages};
pub use rules::{HeaderRule, Pattern, Piece, Rules, TargetPart, TargetRule, Template, Variable};
pub use tcp_service::Tcp;
pub use tls::{
    CertificateFiles, CipherSuite, Ciphers, ClientCertificateMode, ClientCertificates, Tls,
    TlsVersion,
};

/// Everything that `lb.toml` says.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Interfaces that get the XDP program; at least one, each named once.
    pub interfaces: Vec<InterfaceName>,
    /// Unix socket of the admin interface; absolute, at most 107 bytes.
    pub admin: PathBuf,
    /// How long a daemon that has handed over may go on serving what is left.
    pub drain_timeout: Duration,
    /// TCP of the workers.
    pub af_xdp: AfXdp,
    /// Flow table.
    pub flows: Flows,
    /// Source addresses of full NAT; not empty if any service has [`Source::Nat`].
    pub nat: Nat,
    /// Who may connect, to any service.
    pub access: Access,
    /// Services in the order of the file; at least one.
    pub services: Vec<Service>,
    /// What is legal but costly, in the order of the file.
    pub warnings: Vec<Warning>,
}

/// Name of a network interface: what the kernel's `dev_valid_name` accepts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceName(String);

impl InterfaceName {
    /// The name if the kernel could give it to an interface: 1 to 15 bytes, no slash, colon or
    /// white space, neither `.` nor `..` (net/core/dev.c, `dev_valid_name`).
    pub fn new(name: &str) -> Option<Self> {
        let fits = (1..=15).contains(&name.len());
        let plain = !name.contains(|c: char| matches!(c, '/' | ':' | '\0') || c.is_whitespace());
        let valid = fits && plain && name != "." && name != "..";
        valid.then(|| Self(name.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Name of a service or server, for logs, metrics and commands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// The name if it is 1 to 63 characters of `[a-z0-9-]`, so that it needs no quoting in a shell,
    /// a metric label or a file name.
    pub fn new(name: &str) -> Option<Self> {
        let fits = (1..=63).contains(&name.len());
        let plain = name
            .bytes()
            .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
        (fits && plain).then(|| Self(name.to_owned()))
    }

    /// The name of a server that the file leaves unnamed: its address.
    pub(crate) fn of_address(address: SocketAddr) -> Self {
        Self(address.to_string())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `[af_xdp]`: limits of each worker's own TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AfXdp {
    /// Connections at most; a SYN above that is not answered.
    pub connections: NonZeroU32,
    /// Bytes received and not read, or written and not acknowledged, of all connections together, in MiB. Windows shrink
    /// when half is used; SYNs are not answered when an eighth is left.
    pub memory_mib: u32,
    /// How long an idle worker looks for packets before it sleeps.
    pub spin: Duration,
    /// Connections that move to the kernel's TCP in a second; more stay where they are.
    pub moves_per_second: NonZeroU32,
    /// Connections that have moved and are still there, each of which has a file descriptor; more stay where they are. `None`
    /// for what the process may have open.
    pub moved_connections: Option<NonZeroU32>,
}

impl Default for AfXdp {
    fn default() -> Self {
        Self {
            connections: crate::DEFAULT_CONNECTIONS,
            memory_mib: 256,
            spin: Duration::ZERO,
            moves_per_second: crate::DEFAULT_MOVES_PER_SECOND,
            moved_connections: None,
        }
    }
}

/// `[flows]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flows {
    /// L4 flows of each family that must fit; the tables are at most half full then.
    pub max: NonZeroU32,
    /// What the keys of the flow hash are made from; drawn at random for each start if there is nothing.
    pub hash_key: Option<HashKey>,
    /// How long the daemon may be gone before services with [`WhenDaemonGone::Pass`] are left to the host's stack.
    pub orphaned_after: Duration,
}

/// A secret that all hosts of a cluster share, so that each chooses the same server for a flow. At least
/// [`MIN_HASH_KEY`](crate::MIN_HASH_KEY) bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct HashKey(String);

impl HashKey {
    /// The secret, if it is long enough not to be guessed.
    pub(crate) fn new(text: &str) -> Option<Self> {
        (text.len() >= crate::MIN_HASH_KEY).then(|| Self(text.to_owned()))
    }

    /// The secret.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Never into a log.
impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashKey(…)")
    }
}

/// `[nat]`: the pool of (address, port) that full NAT takes its source from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nat {
    /// Addresses, each once; empty if the file has no `[nat]`.
    pub addresses: Vec<IpAddr>,
    /// Ports used on each address.
    pub ports: PortRange,
}

/// An inclusive range of TCP ports that is not empty and does not hold port 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    first: NonZeroU16,
    last: NonZeroU16,
}

impl PortRange {
    /// The range `first..=last`, unless it is empty or starts with port 0.
    pub const fn new(first: u16, last: u16) -> Option<Self> {
        match (NonZeroU16::new(first), NonZeroU16::new(last)) {
            (Some(first), Some(last)) if first.get() <= last.get() => Some(Self { first, last }),
            _ => None,
        }
    }

    /// First port.
    pub const fn first(self) -> u16 {
        self.first.get()
    }

    /// Last port, itself in the range.
    pub const fn last(self) -> u16 {
        self.last.get()
    }

    /// Number of ports: at least 1; at most 65,535, because port 0 is never in the range.
    pub const fn count(self) -> u16 {
        self.last.get() - self.first.get() + 1
    }

    /// Whether `port` is in the range.
    pub const fn contains(self, port: u16) -> bool {
        self.first.get() <= port && port <= self.last.get()
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// `[[service]]`: one virtual address and the servers behind it.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Unique among services.
    pub name: Name,
    /// Virtual address and port; never unspecified, multicast or port 0. Unique among services of a protocol.
    pub listen: SocketAddr,
    /// What is balanced.
    pub protocol: Protocol,
    /// Who may connect, of those who may connect to any.
    pub access: Access,
    /// What is done with a connection, and the settings that only this mode has.
    pub mode: Mode,
}

impl Service {
    /// Its servers, pool by pool: one pool for `mode = "l4"` and `"tcp"`, one for each route that forwards for `mode = "http"`.
    pub fn pools(&self) -> Vec<PoolOf<'_>> {
        match &self.mode {
            Mode::L4(l4) => vec![PoolOf {
                route: None,
                servers: &l4.servers,
                health: &l4.health,
                minimum_healthy: None,
                proxy_protocol: None,
            }],
            Mode::Tcp(tcp) => vec![PoolOf {
                route: None,
                servers: &tcp.servers,
                health: &tcp.health,
                proxy_protocol: tcp.proxy_protocol,
                minimum_healthy: tcp.balancing.minimum_healthy,
            }],
            Mode::Http(http) => http.routes.iter().filter_map(Route::pool).collect(),
        }
    }

    /// How its packets get to userspace; `None` if they are forwarded in the kernel.
    pub fn transport(&self) -> Option<Transport> {
        match &self.mode {
            Mode::Http(http) => Some(http.transport),
            Mode::Tcp(tcp) => Some(tcp.transport),
            Mode::L4(_) => None,
        }
    }

    /// When its connections move to the kernel's TCP, if its transport allows that; `None` if they never do.
    pub fn handover(&self) -> Option<Handover> {
        match &self.mode {
            Mode::Http(http) => http.handover,
            Mode::Tcp(tcp) => tcp.handover,
            Mode::L4(_) => None,
        }
    }

    /// From where a PROXY header must come; empty if none is known.
    pub fn accept_proxy_protocol(&self) -> &[Prefix] {
        match &self.mode {
            Mode::Http(http) => &http.accept_proxy_protocol,
            Mode::Tcp(tcp) => &tcp.accept_proxy_protocol,
            Mode::L4(_) => &[],
        }
    }
}

/// The servers that one route, or a whole service, chooses from.
#[derive(Clone, Copy, Debug)]
pub struct PoolOf<'a> {
    /// The route; `None` if the service has none.
    pub route: Option<&'a Name>,
    /// At least one; addresses and names are unique within the pool.
    pub servers: &'a [Server],
    /// How they are found to be up or down.
    pub health: &'a Health,
    /// How they are told who a connection is from.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// How many of them should be up.
    pub minimum_healthy: Option<NonZeroU16>,
}

/// `protocol`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// Connections.
    Tcp,
    /// Datagrams; only with [`Mode::L4`].
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// `mode`.
#[derive(Clone, Debug, PartialEq)]
pub enum Mode {
    /// Terminated and proxied request by request, in userspace.
    Http(Http),
    /// Forwarded packet by packet, in the kernel.
    L4(L4),
    /// Terminated and relayed byte by byte, in userspace.
    Tcp(Box<Tcp>),
}

/// Settings of a service with `mode = "l4"`.
#[derive(Clone, Debug, PartialEq)]
pub struct L4 {
    /// At least one; addresses and names are unique within the service.
    pub servers: Vec<Server>,
    /// How servers are found to be up or down.
    pub health: Health,
    /// How packets get to the server, and back.
    pub forward: Forward,
    /// What goes to one server together.
    pub affinity: Affinity,
    /// Silence in both directions after which a flow is forgotten.
    pub idle_timeout: Duration,
    /// Greatest MSS that either side may announce in its SYN; `None` leaves it to them.
    pub mss: Option<NonZeroU16>,
    /// What becomes of the flows of a server that fails.
    pub when_server_fails: WhenServerFails,
    /// What becomes of its packets when the daemon is gone for long.
    pub when_daemon_gone: WhenDaemonGone,
}

/// `forward`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forward {
    /// Addresses and ports are rewritten; answers come back through this host.
    Nat(Source),
    /// Only hardware addresses are: the server is on the same link, owns the virtual address, and answers the client
    /// itself.
    Dsr,
    /// In another IP header, to a server that unwraps it, owns the virtual address, and answers the client itself.
    Ipip,
    /// As [`Ipip`](Self::Ipip), in UDP.
    Gue,
}

impl Forward {
    /// The word for it in the file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nat(_) => "nat",
            Self::Dsr => "dsr",
            Self::Ipip => "ipip",
            Self::Gue => "gue",
        }
    }
}

/// `affinity`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Affinity {
    /// Each flow by itself.
    None,
    /// All flows of a client address.
    Client,
}

/// `when_server_fails`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenServerFails {
    /// Its flows stay: it may only be its health page that fails.
    Leave,
    /// Its flows are forgotten: their clients are reset, or are given another server.
    Cut,
}

/// `when_daemon_gone`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenDaemonGone {
    /// They are forwarded as before, to servers that nobody checks any more.
    Forward,
    /// They are left to the host's stack, which has a listener of its own or resets the clients.
    Pass,
}

/// `source`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// One of [`Nat::addresses`]; replies come back by themselves.
    Nat,
    /// The client's own; the server's route to the client must lead through this host.
    Client,
}

/// One element of `servers`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// As given, or else the address.
    pub name: Name,
    /// Address and port.
    pub address: SocketAddr,
    /// Share of new connections, relative to the other servers; up to [`MAX_WEIGHT`](crate::MAX_WEIGHT). 0, only in
    /// [`Mode::L4`], is for a server that keeps its flows and gets no new ones.
    pub weight: u16,
    /// Most requests under way and pinned connections, or relayed ones; not in [`Mode::L4`].
    pub max_connections: Option<NonZeroU32>,
    /// Used only while no other server of the route is up; not in [`Mode::L4`].
    pub is_backup: bool,
}
