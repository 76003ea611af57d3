//! Reads what a service with `mode = "l4"` has of its own.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::ops::RangeInclusive;

use super::{TIMEOUTS, server};
use crate::error::Problem;
use crate::health;
use crate::model::{
    Affinity, Forward, Health, L4, Protocol, Source, WhenDaemonGone, WhenServerFails,
};
use crate::reader::{Node, Schema, Scope, Table};
use crate::{DATAGRAM_IDLE_TIMEOUT, EXCHANGE_IDLE_TIMEOUT, value};

pub(crate) const KEYS: Schema = &[
    "source",
    "forward",
    "affinity",
    "mss",
    "when_server_fails",
    "when_daemon_gone",
];

/// Reads it, and the servers with their places.
pub(super) fn read(
    table: &Table<'_>,
    listen: Option<SocketAddr>,
    protocol: Option<Protocol>,
) -> (Option<L4>, Vec<server::Draft>) {
    let scope = Scope::of(table);
    let servers = server::list(scope).unwrap_or_default();
    let health = health::read(scope, &health::Context::default(), protocol);
    let l4 = settings(table, protocol, &servers, health);
    if let (Some(listen), Some(l4)) = (listen, &l4) {
        server::check_forwarded(table.report, listen, l4.forward, &servers);
    }
    (l4, servers)
}

fn settings(
    table: &Table<'_>,
    protocol: Option<Protocol>,
    servers: &[server::Draft],
    health: Option<Health>,
) -> Option<L4> {
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
        servers: server::finish(servers),
        // If it could not be read, that has been reported, and nobody will use this.
        health: health.unwrap_or(Health::Unchecked),
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

/// From what every IPv4 host takes (RFC 9293 §3.7.1) to what fits into a jumbo frame.
const MSS: RangeInclusive<u32> = 536..=8960;
