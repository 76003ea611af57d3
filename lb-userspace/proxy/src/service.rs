//! What the proxy is told: a service, its routes' servers, its timeouts.
//!
//! Invariant: nothing here changes while the service runs, except whether a server is up and the
//! counters. Built by the control plane from its configuration; this crate reads no files but PEM.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::counters::Counters;
use crate::expect::ExpectMode;
use crate::headers::HeaderPolicy;
use crate::route::Route;
use crate::tls::UpstreamTls;
use crate::tunnel::Tunnels;

/// One HTTP service: what every worker needs to serve its clients.
#[derive(Debug)]
pub struct Service {
    /// Name in logs.
    pub name: String,
    /// What becomes of requests; the first route that matches one takes it.
    pub routes: Vec<Route>,
    /// TLS towards clients, from [`tls::server_config`](crate::tls::server_config); `None` for plain HTTP.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// How long is waited for the client.
    pub timeouts: ClientTimeouts,
    /// What is counted.
    pub counters: Arc<Counters>,
}

/// How the requests of a route get to its servers.
#[derive(Debug)]
pub struct Forwarding {
    /// The servers; all of them equally able to answer any request of the route.
    pub servers: Vec<Arc<Server>>,
    /// TLS towards servers; `None` for plain HTTP.
    pub upstream_tls: Option<UpstreamTls>,
    /// What is added to and removed from requests.
    pub headers: HeaderPolicy,
    /// How long is waited for what.
    pub timeouts: Timeouts,
    /// What becomes of `Expect: 100-continue`.
    pub expect: ExpectMode,
    /// Which connections may become something else than HTTP.
    pub tunnels: Tunnels,
}

impl Forwarding {
    /// The route's own view of the server at `address`; `None` if that is none of its servers.
    pub(crate) fn server_at(&self, address: SocketAddr) -> Option<&Arc<Server>> {
        self.servers
            .iter()
            .find(|server| server.address() == address)
    }
}

/// A server of a pool; shared between the workers and the health checker.
#[derive(Debug)]
pub struct Server {
    name: String,
    address: SocketAddr,
    weight: NonZeroU16,
    up: AtomicBool,
}

impl Server {
    /// A server that counts as up until [`Server::set_up`] says otherwise.
    pub fn new(name: impl Into<String>, address: SocketAddr, weight: NonZeroU16) -> Self {
        Self {
            name: name.into(),
            address,
            weight,
            up: AtomicBool::new(true),
        }
    }

    /// Name in logs.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Address and port that requests are sent to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Share of new requests and pinned connections, relative to the other servers.
    pub fn weight(&self) -> NonZeroU16 {
        self.weight
    }

    /// Whether new requests may be sent here.
    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    /// Takes the server in or out. A request under way is finished; a client whose identity lives
    /// on a connection to a server that is down is disconnected at its next request, and so
    /// authenticates again with another.
    pub fn set_up(&self, up: bool) {
        self.up.store(up, Ordering::Relaxed);
    }
}

/// How long a client is waited for, before its connection is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientTimeouts {
    /// From a client connection's start, or a request's first byte, to the end of the request's head.
    pub request_head: Duration,
    /// Silence in both directions of a connection on which no request was forwarded yet; then it is
    /// [`Timeouts::idle`] of the last request's route.
    pub idle: Duration,
}

impl Default for ClientTimeouts {
    fn default() -> Self {
        Self {
            request_head: Duration::from_secs(30),
            idle: Timeouts::default().idle,
        }
    }
}

/// How long is waited for what, before a request is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For an upstream connection, TLS included.
    pub connect: Duration,
    /// Silence of a client connection in both directions. Doesn't run while a response head is
    /// awaited, for which there is `response_head`.
    pub idle: Duration,
    /// From the end of the request to the head of the response.
    pub response_head: Duration,
}

impl Default for Timeouts {
    /// Long enough for Exchange: its own TCP keep-alive (15 to 30 min) ends idle sessions before `idle`
    /// does, and `ActiveSync` holds a request for up to 3,540 s (MS-ASCMD 2.2.3.88.1).
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            idle: Duration::from_mins(40),
            response_head: Duration::from_hours(1),
        }
    }
}

/// The two ends of a client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddr {
    /// The client.
    pub peer: SocketAddr,
    /// The service's address that the client connected to.
    pub local: SocketAddr,
}
