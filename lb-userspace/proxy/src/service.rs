//! What the proxy is told: a service, its routes' servers, its timeouts.
//!
//! Invariant: nothing here changes while the service runs, except what is known of servers (`balance`) and the
//! counters. Built by the control plane from its configuration; this crate reads no files but PEM.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;

use crate::admission::{BodyRate, RequestLimits};
use crate::balance::{Balancing, Server};
use crate::carriage::BulkThresholds;
use crate::counters::Counters;
use crate::entrance::Entrance;
use crate::expect::ExpectMode;
use crate::feed::Feed;
use crate::headers::HeaderPolicy;
use crate::pages::ErrorPages;
use crate::proxy_header::ProxyProtocol;
use crate::route::Route;
use crate::rules::Rules;
use crate::tls::{ServerTls, UpstreamTls};
use crate::tunnel::Tunnels;

/// One HTTP service: what every worker needs to serve its clients.
#[derive(Debug)]
pub struct Service {
    /// Name in logs.
    pub name: String,
    /// What becomes of requests; the first route that matches one takes it.
    pub routes: Vec<Route>,
    /// TLS towards clients; `None` for plain HTTP.
    pub tls: Option<Arc<ServerTls>>,
    /// How long is waited for the client.
    pub timeouts: ClientTimeouts,
    /// What is counted.
    pub counters: Arc<Counters>,
    /// Who may connect, and how often at once.
    pub entrance: Entrance,
    /// Lines in the head of a request; `None` for hyper's own limit, 100.
    pub max_headers: Option<usize>,
    /// Bytes in the head of a request; `None` for hyper's own limit, some 400 KB.
    pub max_header_bytes: Option<usize>,
    /// Of the requests of all routes together; `None` without limit.
    pub requests: Option<Arc<RequestLimits>>,
    /// `Strict-Transport-Security` of every response over TLS (RFC 6797).
    pub hsts: Option<HeaderValue>,
    /// For statuses that a route has no page for, and requests that no route takes.
    pub error_pages: ErrorPages,
    /// From where on the carrier of a connection is told that it carries bulk; `None` for never.
    pub bulk: Option<BulkThresholds>,
    /// Where its requests are told as they end.
    pub feed: Feed,
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
    /// Of the requests of this route; `None` without limit.
    pub requests: Option<Arc<RequestLimits>>,
    /// Of the body of each request.
    pub body: BodyLimits,
    /// How servers are told who a connection is from. Such a connection is that client's alone.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// How requests are spread over the servers.
    pub balancing: Balancing,
    /// What is changed besides; `None` for nothing.
    pub rules: Option<Box<Rules>>,
    /// For requests of this route that fail.
    pub error_pages: ErrorPages,
    /// What becomes of `Expect: 100-continue`.
    pub expect: ExpectMode,
    /// Which connections may become something else than HTTP.
    pub tunnels: Tunnels,
}

/// How large and how slow the body of a request may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BodyLimits {
    /// The most bytes.
    pub max: Option<u64>,
    /// The least speed.
    pub rate: Option<BodyRate>,
}

impl Forwarding {
    /// The route's own view of the server at `address`; `None` if that is none of its servers.
    pub(crate) fn server_at(&self, address: SocketAddr) -> Option<&Arc<Server>> {
        self.servers.get(self.index_at(address)?)
    }

    /// The index in the route of the server at `address`.
    pub(crate) fn index_at(&self, address: SocketAddr) -> Option<usize> {
        let mut servers = self.servers.iter();
        servers.position(|server| server.address() == address)
    }
}

/// How long a client is waited for, before its connection is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientTimeouts {
    /// From a client connection's start, or a request's first byte, to the end of the request's head.
    pub request_head: Duration,
    /// For the TLS handshake.
    pub tls_handshake: Duration,
    /// Silence in both directions of a connection on which no request was forwarded yet; then it is
    /// [`Timeouts::idle`] of the last request's route.
    pub idle: Duration,
}

impl Default for ClientTimeouts {
    fn default() -> Self {
        Self {
            request_head: Duration::from_secs(30),
            tls_handshake: Duration::from_secs(30),
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
