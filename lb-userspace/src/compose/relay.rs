//! From a service with `mode = "tcp"` to a relay.

use std::path::Path;
use std::sync::Arc;

use lb_config::Tcp;
use lb_proxy::{
    ClientTimeouts, CookieKey, Counter, Counters, Entrance, RelayService, Timeouts, relay, tls,
};

use super::balance::Common;
use super::{admission, upstream_tls};

/// The relay's service, with the files it names read in.
pub(super) fn service(
    service: &lb_config::Service,
    tcp: &Tcp,
    entrance: Entrance,
    directory: &Path,
    cookie_key: CookieKey,
) -> Result<RelayService, tls::Error> {
    let tls = match &tcp.tls {
        Some(tls) => {
            let (certificate, key) = (directory.join(&tls.certificate), directory.join(&tls.key));
            let config = tls::server_config(&certificate, &key)?;
            Some(relay::any_protocol(&config))
        }
        None => None,
    };
    let upstream = match &tcp.upstream_tls {
        Some(tls) => Some(relay::any_upstream_protocol(&upstream_tls(tls, directory)?)),
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
    })
}
