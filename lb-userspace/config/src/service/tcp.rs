//! Reads what a service with `mode = "tcp"` has of its own.

use super::http::TRANSPORTS;
use super::{TIMEOUTS, access, balance, handover, limits, server, tls};
use crate::model::{Health, Tcp, Transport};
use crate::reader::{Scope, Table};
use crate::{EXCHANGE_IDLE_TIMEOUT, health, value};

/// Reads it, and the servers with their places.
pub(super) fn read(table: &Table<'_>) -> (Option<Tcp>, Vec<server::Draft>) {
    let scope = Scope::of(table);
    let transport = table.optional("transport", Transport::Auto, |node| {
        node.choice(&TRANSPORTS)
    });
    let handover = handover::read(table, transport, handover::Of::Relay);
    let tls = table.optional("tls", None, |node| tls::tls(node).map(Some));
    tls::refuse_http2(table, tls.as_ref(), "mode = \"tcp\"");
    let upstream_tls = table.optional("upstream_tls", None, |node| {
        tls::upstream_tls(node).map(Some)
    });
    let servers = server::list(scope).unwrap_or_default();
    server::check_proxied(table.report, &servers);
    let context = health::Context {
        proof: health::Proof::of(upstream_tls.as_ref()),
        ..health::Context::default()
    };
    let health = health::read(scope, &context, None);
    let idle_timeout = table.optional("idle_timeout", EXCHANGE_IDLE_TIMEOUT, |node| {
        value::duration(node, TIMEOUTS)
    });
    let proxy_protocol = table.optional("proxy_protocol", None, |node| {
        node.choice(&access::VERSIONS).map(Some)
    });
    let accept_proxy_protocol = access::accept_proxy_protocol(table);
    let limits = limits::of_connections(table);
    let balancing = balance::read(scope, balance::Of::Connections, &servers, health.as_ref());
    let tcp = || {
        Some(Tcp {
            transport: transport?,
            handover: handover?,
            tls: tls?,
            upstream_tls: upstream_tls?,
            servers: server::finish(&servers),
            // If it could not be read, that has been reported, and nobody will use this.
            health: health.unwrap_or(Health::Unchecked),
            idle_timeout: idle_timeout?,
            proxy_protocol: proxy_protocol?,
            accept_proxy_protocol: accept_proxy_protocol?,
            limits: limits?,
            balancing: balancing?,
        })
    };
    (tcp(), servers)
}
