//! Settings of a service with `mode = "tcp"`.

use std::time::Duration;

use super::{
    Balancing, Handover, Health, Limits, Prefix, ProxyProtocol, Server, Tls, Transport, UpstreamTls,
};

/// Settings of a service with `mode = "tcp"`.
#[derive(Clone, Debug, PartialEq)]
pub struct Tcp {
    /// How client packets reach userspace.
    pub transport: Transport,
    /// As of an HTTP service; the lengths that HTTP announces mean nothing here.
    pub handover: Option<Handover>,
    /// TLS towards clients; `None` passes their bytes on as they are.
    pub tls: Option<Tls>,
    /// TLS towards servers.
    pub upstream_tls: Option<UpstreamTls>,
    /// At least one; addresses and names are unique within the service.
    pub servers: Vec<Server>,
    /// How servers are found to be up or down.
    pub health: Health,
    /// Silence in both directions after which a connection is closed.
    pub idle_timeout: Duration,
    /// How servers are told who a connection is from.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// From where a PROXY header must come, and from elsewhere no connection; empty if none is known.
    pub accept_proxy_protocol: Vec<Prefix>,
    /// Of connections; nothing else in it is set.
    pub limits: Limits,
    /// How connections are spread over the servers; never by a header, and persistent by source alone.
    pub balancing: Balancing,
}
