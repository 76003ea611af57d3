//! Reads `limits` of a service, and of a route, whose own are held in addition; what it says of bodies replaces the service's.

use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::model::{BodyLimits, BodyRate, Limits, Rate, RequestLimits, WhenExceeded};
use crate::reader::{Node, Schema, Scope, Table};
use crate::value;

/// Reads the limits of a service with `mode = "http"`.
pub(super) fn of_service(table: &Table<'_>) -> Option<Limits> {
    let Some(node) = table.get("limits") else {
        return Some(Limits::default());
    };
    let table = node.table(EXPECTED, OF_SERVICE)?;
    let connections = connections(&table);
    let headers = table.optional("headers", None, |node| node.count(MAX_HEADERS).map(Some));
    let header_bytes = table.optional("header_bytes", None, |node| {
        node.number(HEADER_BYTES).map(NonZeroU32::new)
    });
    let request_head = table.optional("request_head", None, |node| time(node).map(Some));
    let requests = requests(&table);
    Some(Limits {
        headers: headers?,
        header_bytes: header_bytes?,
        request_head: request_head?,
        requests: requests?,
        ..connections?
    })
}

/// Reads the limits of a service with `mode = "tcp"`.
pub(super) fn of_connections(table: &Table<'_>) -> Option<Limits> {
    let Some(node) = table.get("limits") else {
        return Some(Limits::default());
    };
    let table = node.table("a table, such as { connections = 1000 }", OF_CONNECTIONS)?;
    connections(&table)
}

/// Reads what a route says in addition to its service, and what of both holds for bodies.
pub(super) fn of_route(scope: Scope<'_, '_>) -> Option<(RequestLimits, BodyLimits)> {
    let outer = match scope.base().get("limits") {
        None => Some(BodyLimits::default()),
        Some(node) => {
            let table = node.table(EXPECTED, OF_SERVICE)?;
            bodies(&table, BodyLimits::default())
        }
    };
    let Some(node) = scope.own("limits") else {
        return Some((RequestLimits::default(), outer?));
    };
    let table = node.table("a table, such as { requests = 100 }", OF_ROUTE)?;
    let requests = requests(&table);
    let bodies = bodies(&table, outer.unwrap_or_default());
    Some((requests?, bodies?))
}

fn connections(table: &Table<'_>) -> Option<Limits> {
    let count = |key| table.optional(key, None, |node| node.count(MOST).map(Some));
    let (all, per_client) = (count("connections"), count("connections_per_client"));
    let tls_handshake = table.optional("tls_handshake", None, |node| time(node).map(Some));
    Some(Limits {
        connections: all?,
        connections_per_client: per_client?,
        tls_handshake: tls_handshake?,
        ..Limits::default()
    })
}

fn time(node: &Node<'_>) -> Option<Duration> {
    value::duration(node, TIMES)
}

fn requests(table: &Table<'_>) -> Option<RequestLimits> {
    let concurrent = table.optional("requests", None, |node| node.count(MOST).map(Some));
    let rate = table.optional("rate", None, |node| rate(node).map(Some));
    let per_client = table.optional("rate_per_client", None, |node| self::rate(node).map(Some));
    let choices = [
        ("429", WhenExceeded::TooManyRequests),
        ("503", WhenExceeded::Unavailable),
        ("drop", WhenExceeded::Drop),
    ];
    let when_exceeded = table.optional("when_exceeded", WhenExceeded::default(), |node| {
        node.choice(&choices)
    });
    Some(RequestLimits {
        concurrent: concurrent?,
        rate: rate?,
        rate_per_client: per_client?,
        when_exceeded: when_exceeded?,
    })
}

/// A number for each second, or a table.
fn rate(node: &Node<'_>) -> Option<Rate> {
    const SECOND: Duration = Duration::from_secs(1);
    if !node.is_table() {
        let requests = node.count(MAX_RATE)?;
        return Some(Rate {
            requests,
            per: SECOND,
            burst: requests,
        });
    }
    let table = node.table(
        "a number for each second, or a table, such as { requests = 100, per = \"1m\", burst = 20 }",
        &["requests", "per", "burst"],
    )?;
    let requests: Option<NonZeroU32> =
        table.required("requests", "such as requests = 100", |node| {
            node.count(MAX_RATE)
        });
    let per = table.optional("per", SECOND, |node| value::duration(node, PERIODS));
    let burst = table.optional("burst", requests, |node| node.count(MAX_RATE).map(Some));
    let requests = requests?;
    Some(Rate {
        requests,
        per: per?,
        burst: burst?.unwrap_or(requests),
    })
}

fn bodies(table: &Table<'_>, outer: BodyLimits) -> Option<BodyLimits> {
    let max = table.optional("body", outer.max, |node| node.count(u32::MAX).map(Some));
    let rate = table.optional("body_rate", outer.rate, |node| body_rate(node).map(Some));
    Some(BodyLimits {
        max: max?,
        rate: rate?,
    })
}

/// A number of bytes for each second, or a table.
fn body_rate(node: &Node<'_>) -> Option<BodyRate> {
    if !node.is_table() {
        return Some(BodyRate {
            bytes_per_second: node.count(MAX_RATE)?,
            grace: DEFAULT_GRACE,
        });
    }
    let table = node.table(
        "bytes for each second, or a table, such as { bytes_per_second = 240, grace = \"10s\" }",
        &["bytes_per_second", "grace"],
    )?;
    let example = "such as bytes_per_second = 240";
    let rate = table.required("bytes_per_second", example, |node| node.count(MAX_RATE));
    let grace = table.optional("grace", DEFAULT_GRACE, time);
    Some(BodyRate {
        bytes_per_second: rate?,
        grace: grace?,
    })
}

/// What Exchange itself takes for a body in the virtual directory that a path begins with, in bytes (`maxAllowedContentLength`
/// and `maxRequestLength` of an Exchange 2019 front end).
pub(super) fn exchange_body(path: Option<&str>) -> u32 {
    match path.unwrap_or("/").split('/').nth(1) {
        Some("owa" | "ecp") => 35_000_000,
        Some("ews") => 67_108_864,
        Some("autodiscover" | "microsoft-server-activesync" | "oab" | "powershell" | "api") => {
            30_000_000
        }
        // Of MAPI and RPC; and of all of them.
        _ => 2_147_483_648,
    }
}

const EXPECTED: &str = "a table, such as { connections = 1000, rate_per_client = 50 }";

const OF_CONNECTIONS: Schema = &["connections", "connections_per_client", "tls_handshake"];
const OF_ROUTE: Schema = &[
    "requests",
    "rate",
    "rate_per_client",
    "when_exceeded",
    "body",
    "body_rate",
];
const OF_SERVICE: Schema = &[
    "connections",
    "connections_per_client",
    "tls_handshake",
    "headers",
    "header_bytes",
    "request_head",
    "requests",
    "rate",
    "rate_per_client",
    "when_exceeded",
    "body",
    "body_rate",
];

/// As many as a worker can have connections.
const MOST: u32 = crate::MAX_CONNECTIONS;
const MAX_RATE: u32 = 1_000_000_000;
const MAX_HEADERS: u32 = 10_000;
/// Kerberos tokens of users in many groups have some 64 KiB; below 8 KiB not even cookies fit.
const HEADER_BYTES: RangeInclusive<u32> = 8192..=1_048_576;
const TIMES: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(1);
const PERIODS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(24);
const DEFAULT_GRACE: Duration = Duration::from_secs(10);
