//! From a service with `mode = "tcp"` to a relay.

use std::path::Path;
use std::sync::Arc;

use lb_config::Tcp;
use lb_proxy::tls::{Alpn, Error};
use lb_proxy::{ClientTimeouts, CookieKey, Counter, Counters, Entrance, RelayService, Timeouts};

use super::balance::Common;
use super::{admission, tls};

/// The relay's service, with the files it names read in.
pub(super) fn service(
    service: &lb_config::Service,
    tcp: &Tcp,
    entrance: Entrance,
    directory: &Path,
    cookie_key: CookieKey,
) -> Result<RelayService, Error> {
    // What is inside is not HTTP.
    let tls = match &tcp.tls {
        Some(tls) => Some(tls::server_tls(tls, Alpn::Nothing, directory)?),
        None => None,
    };
    let upstream = match &tcp.upstream_tls {
        Some(tls) => Some(tls::upstream_with(tls, Alpn::Nothing, directory)?),
        None => None,
    };
    let common = Common::new(cookie_key, None);
    let servers = common.servers(&tcp.servers);
    let default = ClientTimeouts::default();
    Ok(RelayService {
        name: service.name.as_str().to_owned(),
        tls,
        entrance,
        timeouts: ClientTimeouts {
            idle: tcp.idle_timeout,
            tls_handshake: tcp.limits.tls_handshake.unwrap_or(default.tls_handshake),
            ..default
        },
        balancing: common.balancing(&tcp.balancing, &servers),
        servers,
        upstream_tls: upstream,
        proxy_protocol: tcp.proxy_protocol.map(admission::proxy_protocol),
        connect_timeout: Timeouts::default().connect,
        counters: Arc::new(Counters::default()),
        bytes_in: Counter::default(),
        bytes_out: Counter::default(),
        bulk: tcp.handover.map(super::handover::bulk),
    })
}
