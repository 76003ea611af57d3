//! From a service with `mode = "tcp"` to a relay.

use std::num::NonZeroU16;
use std::path::Path;
use std::sync::Arc;

use lb_config::Tcp;
use lb_proxy::{
    Balancing, ClientTimeouts, Counter, Counters, Entrance, RelayService, Server, Timeouts, relay,
    tls,
};

use super::{admission, upstream_tls};

/// The relay's service, with the files it names read in.
pub(super) fn service(
    service: &lb_config::Service,
    tcp: &Tcp,
    entrance: Entrance,
    directory: &Path,
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
    let servers = tcp.servers.iter().map(|server| {
        // Checked: only servers of L4 may have none.
        let weight = NonZeroU16::new(server.weight).unwrap_or(NonZeroU16::MIN);
        Arc::new(Server::new(server.name.as_str(), server.address, weight))
    });
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
        servers: servers.collect(),
        balancing: Balancing::default(),
        upstream_tls: upstream,
        proxy_protocol: tcp.proxy_protocol.map(admission::proxy_protocol),
        connect_timeout: Timeouts::default().connect,
        counters: Arc::new(Counters::default()),
        bytes_in: Counter::default(),
        bytes_out: Counter::default(),
    })
}
