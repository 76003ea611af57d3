//! Reads the `health` table of a service.
//!
//! Invariant: a key that the kind of check does not use is a mistake, not ignored.
//! Not here: probing, which `lb-userspace` does.

use std::ops::RangeInclusive;
use std::time::Duration;

use http::uri::{Authority, PathAndQuery};
use rustls_pki_types::ServerName;

use crate::error::{Cost, Problem};
use crate::model::{
    Check, Get, Greeting, Health, Mail, PathPrefix, Profile, Protocol, Schedule, UpstreamTls,
    Verify,
};
use crate::reader::{Schema, Scope, Table};
use crate::service::{self, MISSING_TRUST, Trust};
use crate::value;
use crate::{DEFAULT_FALL, DEFAULT_INTERVAL, DEFAULT_PROBE_TIMEOUT, DEFAULT_RISE};

/// What a check takes from the service or route that it is of.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Context<'a> {
    /// `None` for a service that isn't proxied.
    pub(crate) profile: Option<Profile>,
    /// How servers prove themselves to the proxy.
    pub(crate) proof: Proof<'a>,
    /// Where the requests go: the virtual directory.
    pub(crate) path: Option<&'a PathPrefix>,
}

/// What `upstream_tls` says.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Proof<'a> {
    /// Nothing: plain HTTP, or no proxy.
    #[default]
    Unsaid,
    /// This.
    Tls(&'a UpstreamTls),
    /// It could not be read, which has been reported; what could be inherited from it is not missing.
    Broken,
}

impl<'a> Proof<'a> {
    /// Of `upstream_tls` as it was read.
    pub(crate) fn of(upstream_tls: Option<&'a Option<UpstreamTls>>) -> Self {
        match upstream_tls {
            None => Self::Broken,
            Some(None) => Self::Unsaid,
            Some(Some(tls)) => Self::Tls(tls),
        }
    }
}

impl Context<'_> {
    fn is_exchange(&self) -> bool {
        self.profile == Some(Profile::Exchange)
    }
}

/// Reads `health` of a service or a route.
pub(crate) fn read(
    scope: Scope<'_, '_>,
    context: &Context<'_>,
    protocol: Option<Protocol>,
) -> Option<Health> {
    let Some(node) = scope.get("health") else {
        if protocol == Some(Protocol::Udp) {
            scope.warn("protocol", Cost::UncheckedDatagrams);
            return Some(Health::Unchecked);
        }
        warn_blind(scope, context);
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
        ("smtp", Kind::Mail(Mail::Smtp, Wrapped::Plain)),
        ("smtps", Kind::Mail(Mail::Smtp, Wrapped::Tls)),
        ("imap", Kind::Mail(Mail::Imap, Wrapped::Plain)),
        ("imaps", Kind::Mail(Mail::Imap, Wrapped::Tls)),
        ("pop", Kind::Mail(Mail::Pop, Wrapped::Plain)),
        ("pops", Kind::Mail(Mail::Pop, Wrapped::Tls)),
        ("none", Kind::None),
    ];
    let check = match table.optional("kind", Kind::Tcp, |node| node.choice(&kinds))? {
        Kind::None => {
            table.misplaced(NOT_FOR_NONE, "a check", "kind = \"none\"");
            table.warn("kind", Cost::Unchecked);
            return Some(Health::Unchecked);
        }
        Kind::Tcp => {
            table.misplaced(
                GET_KEYS,
                "a kind that reads an answer, such as \"https\"",
                "kind = \"tcp\"",
            );
            table.misplaced(
                TLS_KEYS,
                "a kind with TLS, such as \"https\"",
                "kind = \"tcp\"",
            );
            warn_blind(scope, context);
            Some(Check::Tcp)
        }
        Kind::Http => {
            table.misplaced(
                TLS_KEYS,
                "a kind with TLS, such as \"https\"",
                "kind = \"http\"",
            );
            get(&table, context).map(Check::Http)
        }
        Kind::Https => https(&table, context),
        Kind::Mail(mail, wrapped) => greeting(&table, context, mail, wrapped),
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
    Mail(Mail, Wrapped),
    None,
}

/// Whether a protocol is spoken inside TLS.
#[derive(Clone, Copy)]
enum Wrapped {
    Plain,
    Tls,
}

fn warn_blind(scope: Scope<'_, '_>, context: &Context<'_>) {
    if context.is_exchange() {
        scope.warn("health", Cost::BlindCheck);
    }
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

fn https(table: &Table<'_>, context: &Context<'_>) -> Option<Check> {
    let get = get(table, context);
    let verify = inherited_verify(table, context);
    let get = get?;
    let server_name = server_name(table, &get.host)?;
    let verify = verify?;
    Some(Check::Https(
        get,
        UpstreamTls {
            server_name,
            verify,
        },
    ))
}

/// The greeting of a mail server.
fn greeting(
    table: &Table<'_>,
    context: &Context<'_>,
    protocol: Mail,
    wrapped: Wrapped,
) -> Option<Check> {
    let here = "the check of a mail server";
    table.misplaced(&["path"], "kind = \"http\" or \"https\"", here);
    let healthy = match protocol {
        Mail::Smtp => "220",
        Mail::Imap => "* OK",
        Mail::Pop => "+OK",
    };
    let expect = table.optional("expect", healthy.to_owned(), |node| {
        // Without any greeting there is nothing to wait for.
        value::body_start(node).and_then(|text| {
            (!text.is_empty())
                .then_some(text)
                .or_else(|| node.bad_value("", "how a greeting begins"))
        })
    });
    let tls = match wrapped {
        Wrapped::Plain => {
            let only_for = "a kind with TLS, such as \"smtps\"";
            table.misplaced(&["host"], only_for, here);
            table.misplaced(TLS_KEYS, only_for, here);
            Some(None)
        }
        Wrapped::Tls => {
            let verify = inherited_verify(table, context);
            let host = host(table, context);
            let server_name = host.and_then(|host| server_name(table, &host));
            server_name.zip(verify).map(|(server_name, verify)| {
                Some(UpstreamTls {
                    server_name,
                    verify,
                })
            })
        }
    };
    let expect = expect?;
    Some(Check::Greeting(Greeting { protocol, expect }, tls?))
}

/// Who vouches for the server: as the check says, or else as the proxy is told.
fn inherited_verify(table: &Table<'_>, context: &Context<'_>) -> Option<Verify> {
    match (service::verify(table), context.proof) {
        (Trust::Given(verify), _) => Some(verify),
        (Trust::Unsaid, Proof::Tls(tls)) => Some(tls.verify.clone()),
        (Trust::Broken, _) | (Trust::Unsaid, Proof::Broken) => None,
        (Trust::Unsaid, Proof::Unsaid) => table.fail("ca", MISSING_TRUST),
    }
}

/// The name that the server's certificate must be for.
fn server_name(table: &Table<'_>, host: &Authority) -> Option<ServerName<'static>> {
    let host = host.host().trim_matches(['[', ']']);
    host.to_owned().try_into().ok().or_else(|| {
        let clash = format!("`{host}` can't be the name in a certificate; give a DNS name");
        table.fail("host", Problem::Contradiction(clash))
    })
}

fn get(table: &Table<'_>, context: &Context<'_>) -> Option<Get> {
    let (path, expect) = default_page(context);
    let path = table.optional("path", path, value::path_and_query);
    let expect = table.optional("expect", expect.to_owned(), value::body_start);
    let host = host(table, context);
    Some(Get {
        path: path?,
        host: host?,
        expect: expect?,
    })
}

/// The page of the virtual directory that the requests go to, so that OWA in trouble doesn't take EWS down with it.
fn default_page(context: &Context<'_>) -> (PathAndQuery, &'static str) {
    if !context.is_exchange() {
        return (PathAndQuery::from_static("/"), "");
    }
    let vdir = context.path.map(PathPrefix::as_str);
    let vdir = vdir.and_then(|path| path.split('/').find(|segment| !segment.is_empty()));
    let page = format!("/{}/healthcheck.htm", vdir.unwrap_or("owa"));
    let page = page.parse();
    (
        page.unwrap_or(PathAndQuery::from_static("/owa/healthcheck.htm")),
        EXCHANGE_HEALTHY,
    )
}

fn host(table: &Table<'_>, context: &Context<'_>) -> Option<Authority> {
    match table.get("host") {
        Some(node) => value::authority(&node),
        None => inherited_host(table, context),
    }
}

fn inherited_host(table: &Table<'_>, context: &Context<'_>) -> Option<Authority> {
    let inherited = match context.proof {
        Proof::Broken => return None,
        Proof::Unsaid => None,
        Proof::Tls(tls) => tls.server_name.to_str().parse().ok(),
    };
    inherited.or_else(|| table.fail("host", MISSING_HOST))
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

/// How Managed Availability's pages begin when all is well: `200 OK<br/>SERVER.FQDN`.
const EXCHANGE_HEALTHY: &str = "200 OK";

const INTERVALS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_hours(1);
const PROBE_TIMEOUTS: RangeInclusive<Duration> =
    Duration::from_millis(10)..=Duration::from_hours(1);
const MAX_RESULTS: u32 = u8::MAX as u32;
