//! Reads the `health` table of a service.
//!
//! Invariant: a key that the kind of check does not use is a mistake, not ignored.
//! Not here: probing, which `lb-userspace` does.

use std::ops::RangeInclusive;
use std::time::Duration;

use http::uri::{Authority, PathAndQuery};

use crate::error::{Cost, Problem};
use crate::model::{Check, Get, Health, Http, Mode, Profile, Protocol, Schedule, UpstreamTls};
use crate::reader::{Schema, Table};
use crate::service::{self, MISSING_TRUST, Trust};
use crate::value;
use crate::{DEFAULT_FALL, DEFAULT_INTERVAL, DEFAULT_PROBE_TIMEOUT, DEFAULT_RISE};

/// Reads `health` of `service`; `mode` is `None` if it could not be read.
pub(crate) fn read(
    service: &Table<'_>,
    mode: Option<&Mode>,
    protocol: Option<Protocol>,
) -> Option<Health> {
    let Some(node) = service.get("health") else {
        if protocol == Some(Protocol::Udp) {
            service.warn("protocol", Cost::UncheckedDatagrams);
            return Some(Health::Unchecked);
        }
        warn_blind(service, mode);
        return Some(Health::Checked {
            check: Check::Tcp,
            schedule: DEFAULT_SCHEDULE,
        });
    };
    let table = node.table(
        "a table, such as { kind = \"tcp\", interval = \"10s\" }",
        SCHEMA,
    )?;
    let schedule = schedule(&table);
    let kinds = [
        ("tcp", Kind::Tcp),
        ("http", Kind::Http),
        ("https", Kind::Https),
        ("none", Kind::None),
    ];
    let check = match table.optional("kind", Kind::Tcp, |node| node.choice(&kinds))? {
        Kind::None => {
            table.misplaced(NOT_FOR_NONE, "a check", "kind = \"none\"");
            table.warn("kind", Cost::Unchecked);
            return Some(Health::Unchecked);
        }
        Kind::Tcp => {
            table.misplaced(GET_KEYS, "kind = \"http\" or \"https\"", "kind = \"tcp\"");
            table.misplaced(TLS_KEYS, "kind = \"https\"", "kind = \"tcp\"");
            warn_blind(service, mode);
            Some(Check::Tcp)
        }
        Kind::Http => {
            table.misplaced(TLS_KEYS, "kind = \"https\"", "kind = \"http\"");
            get(&table, mode).map(Check::Http)
        }
        Kind::Https => https(&table, mode),
    };
    Some(Health::Checked {
        check: check?,
        schedule: schedule?,
    })
}

#[derive(Clone, Copy)]
enum Kind {
    Tcp,
    Http,
    Https,
    None,
}

fn warn_blind(service: &Table<'_>, mode: Option<&Mode>) {
    if is_exchange(mode) {
        service.warn("health", Cost::BlindCheck);
    }
}

fn is_exchange(mode: Option<&Mode>) -> bool {
    matches!(
        mode,
        Some(Mode::Http(Http {
            profile: Profile::Exchange,
            ..
        }))
    )
}

fn schedule(table: &Table<'_>) -> Option<Schedule> {
    let interval = table.optional("interval", DEFAULT_INTERVAL, |node| {
        value::duration(node, INTERVALS)
    });
    // A short interval alone should not be a contradiction with a default nobody wrote.
    let default_timeout = interval
        .unwrap_or(DEFAULT_INTERVAL)
        .min(DEFAULT_PROBE_TIMEOUT);
    let timeout = table.optional("timeout", default_timeout, |node| {
        value::duration(node, PROBE_TIMEOUTS)
    });
    let rise = table.optional("rise", DEFAULT_RISE, |node| node.count(MAX_RESULTS));
    let fall = table.optional("fall", DEFAULT_FALL, |node| node.count(MAX_RESULTS));
    let (interval, timeout) = (interval?, timeout?);
    if interval < timeout {
        let clash = format!(
            "{} is longer than the interval of {}, and probes of one server would overlap; make \
             it shorter, or the interval longer",
            value::text(timeout),
            value::text(interval)
        );
        return table.fail("timeout", Problem::Contradiction(clash));
    }
    Some(Schedule {
        interval,
        timeout,
        rise: rise?,
        fall: fall?,
    })
}

fn https(table: &Table<'_>, mode: Option<&Mode>) -> Option<Check> {
    let get = get(table, mode);
    let verify = match (service::verify(table), mode) {
        (Trust::Given(verify), _) => Some(verify),
        (
            Trust::Unsaid,
            Some(Mode::Http(Http {
                upstream_tls: Some(tls),
                ..
            })),
        ) => Some(tls.verify.clone()),
        // The mode, and with it what could be inherited, is reported already.
        (Trust::Broken, _) | (Trust::Unsaid, None) => None,
        (Trust::Unsaid, Some(_)) => table.fail("ca", MISSING_TRUST),
    };
    let get = get?;
    let host = get.host.host().trim_matches(['[', ']']);
    let Ok(server_name) = host.to_owned().try_into() else {
        let clash = format!("`{host}` can't be the name in a certificate; give a DNS name");
        return table.fail("host", Problem::Contradiction(clash));
    };
    Some(Check::Https(
        get,
        UpstreamTls {
            server_name,
            verify: verify?,
        },
    ))
}

fn get(table: &Table<'_>, mode: Option<&Mode>) -> Option<Get> {
    let (path, expect) = if is_exchange(mode) {
        EXCHANGE_PROBE
    } else {
        PLAIN_PROBE
    };
    let path = table.optional(
        "path",
        PathAndQuery::from_static(path),
        value::path_and_query,
    );
    let expect = table.optional("expect", expect.to_owned(), value::body_start);
    let host = match table.get("host") {
        Some(node) => value::authority(&node),
        None => inherited_host(table, mode),
    };
    Some(Get {
        path: path?,
        host: host?,
        expect: expect?,
    })
}

fn inherited_host(table: &Table<'_>, mode: Option<&Mode>) -> Option<Authority> {
    match mode? {
        Mode::Http(Http {
            upstream_tls: Some(tls),
            ..
        }) => {
            let name = tls.server_name.to_str();
            name.parse()
                .ok()
                .or_else(|| table.fail("host", MISSING_HOST))
        }
        _ => table.fail("host", MISSING_HOST),
    }
}

const MISSING_HOST: Problem = Problem::Missing {
    example: "the public name of the service, such as \"mail.example.com\"",
};

const GET_KEYS: Schema = &["path", "host", "expect"];
const TLS_KEYS: Schema = &["ca", "verify"];
const NOT_FOR_NONE: Schema = &[
    "path", "host", "expect", "ca", "verify", "interval", "timeout", "rise", "fall",
];
const SCHEMA: Schema = &[
    "kind", "path", "host", "expect", "ca", "verify", "interval", "timeout", "rise", "fall",
];

const DEFAULT_SCHEDULE: Schedule = Schedule {
    interval: DEFAULT_INTERVAL,
    timeout: DEFAULT_PROBE_TIMEOUT,
    rise: DEFAULT_RISE,
    fall: DEFAULT_FALL,
};

/// Managed Availability's page and its first bytes when all is well: `200 OK<br/>SERVER.FQDN`.
const EXCHANGE_PROBE: (&str, &str) = ("/owa/healthcheck.htm", "200 OK");
const PLAIN_PROBE: (&str, &str) = ("/", "");

const INTERVALS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_hours(1);
const PROBE_TIMEOUTS: RangeInclusive<Duration> =
    Duration::from_millis(10)..=Duration::from_hours(1);
const MAX_RESULTS: u32 = u8::MAX as u32;
