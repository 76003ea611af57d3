//! Reads a `[[service.route]]`: which requests, and what becomes of them. A key that a route lacks is its service's.

use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, StatusCode};

use super::http::Defaults;
use super::{TIMEOUTS, access, balance, exchange, headers, limits, pages, rules, server, tls};
use crate::error::{Cost, Problem};
use crate::health;
use crate::model::{
    Action, ErrorPages, Forwarding, HeaderEquals, HeaderMode, Health, HostPattern, Name,
    PathPrefix, Profile, Redirect, Respond, Route, UpstreamTls, When,
};
use crate::reader::{Node, Read, Schema, Scope, Table, joined};
use crate::value;

/// What could be read of a route.
pub(super) struct Draft {
    pub(super) name: Option<Read<Name>>,
    when: Option<When>,
    action: Option<Action>,
    /// Those that could be read; empty if it doesn't forward.
    pub(super) servers: Vec<server::Draft>,
}

impl Draft {
    pub(super) fn finish(self) -> Option<Route> {
        Some(Route {
            name: self.name?.value,
            when: self.when?,
            action: self.action?,
        })
    }
}

/// Reads the route in `node`, of the service in `service`.
pub(super) fn read(
    node: &Node<'_>,
    service: &Table<'_>,
    defaults: &Defaults,
    offloads: bool,
) -> Option<Draft> {
    let table = node.table("a table, [[service.route]]", SCHEMA)?;
    let name = table.required("name", "for example name = \"owa\"", value::name);
    let name = table.at("name", name);
    let when = when(&table);
    let path = when.as_ref().and_then(|when| when.paths.first());
    let (action, servers) = action(&table, service, defaults, offloads, path);
    Some(Draft {
        name,
        when,
        action,
        servers,
    })
}

fn when(table: &Table<'_>) -> Option<When> {
    let hosts = list(
        table,
        "host",
        "a list of names, such as [\"mail.example.com\"]",
        host,
    );
    let paths = list(table, "path", "a list of paths, such as [\"/owa\"]", path);
    let methods = list(
        table,
        "method",
        "a list of methods, such as [\"GET\"]",
        method,
    );
    let headers = list(
        table,
        "header",
        "a list of headers, such as [{ name = \"X-Group\", value = \"beta\" }]",
        header,
    );
    let (mut prefixes, mut whole_paths) = (Vec::new(), Vec::new());
    for path in paths? {
        match path {
            Path::Prefix(prefix) => prefixes.push(prefix),
            Path::Whole(path) => whole_paths.push(path),
        }
    }
    Some(When {
        hosts: hosts?,
        paths: prefixes,
        whole_paths,
        methods: methods?,
        headers: headers?,
    })
}

fn list<T>(
    table: &Table<'_>,
    key: &'static str,
    expected: &'static str,
    read: impl Fn(&Node<'_>) -> Option<T>,
) -> Option<Vec<T>> {
    table.optional(key, Vec::new(), |node| {
        let items = node.list(expected, |node| read(node))?;
        Some(items.into_iter().map(|item| item.value).collect())
    })
}

fn host(node: &Node<'_>) -> Option<HostPattern> {
    node.string(
        "a host name without port, such as \"mail.example.com\" or \"*.example.com\"",
        |text| {
            let (below, name) = match text.strip_prefix("*.") {
                Some(rest) => (true, rest),
                None => (false, text),
            };
            let is_name = !name.is_empty()
                && name
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
            let is_ipv6 = name
                .strip_prefix('[')
                .and_then(|rest| rest.strip_suffix(']'))
                .is_some_and(|ip| ip.parse::<std::net::Ipv6Addr>().is_ok());
            let name = name.to_ascii_lowercase();
            match (is_name || (is_ipv6 && !below), below) {
                (false, _) => None,
                (true, true) => Some(HostPattern::Below(name)),
                (true, false) => Some(HostPattern::Exact(name)),
            }
        },
    )
}

/// A beginning of paths, or with `=` before it a whole one.
enum Path {
    Prefix(PathPrefix),
    Whole(String),
}

fn path(node: &Node<'_>) -> Option<Path> {
    const EXPECTED: &str = "the beginning of a path, such as \"/owa\", or a whole one, such as \"=/\": without %, query, \
                            \"//\", \"/./\" and \"/../\"";
    node.string(EXPECTED, |text| match text.strip_prefix('=') {
        Some(whole) => {
            let segments = value::segments(whole)?;
            Some(Path::Whole(format!("/{}", segments.to_ascii_lowercase())))
        }
        None => value::segments(text).map(value::prefix).map(Path::Prefix),
    })
}

fn method(node: &Node<'_>) -> Option<Method> {
    node.string("a method, such as \"GET\"", |text| text.parse().ok())
}

fn header(node: &Node<'_>) -> Option<HeaderEquals> {
    let table = node.table(
        "a table, such as { name = \"X-Group\", value = \"beta\" }",
        &["name", "value"],
    )?;
    let name = table.required("name", "the header's name", |node| {
        node.string("the name of a header", |text| {
            text.parse::<HeaderName>().ok()
        })
    });
    let value = table.optional("value", None, |node| {
        node.string("the value of a header", |text| {
            HeaderValue::from_str(text).ok()
        })
        .map(Some)
    });
    Some(HeaderEquals {
        name: name?,
        value: value?,
    })
}

fn action(
    table: &Table<'_>,
    service: &Table<'_>,
    defaults: &Defaults,
    offloads: bool,
    path: Option<&PathPrefix>,
) -> (Option<Action>, Vec<server::Draft>) {
    let (redirects, responds) = (table.get("redirect"), table.get("respond"));
    let here = match (&redirects, &responds) {
        (Some(_), Some(_)) => {
            let clash = "a route redirects or responds; remove one of the two";
            table.fail::<()>("respond", Problem::Contradiction(clash.to_owned()));
            return (None, Vec::new());
        }
        (Some(_), None) => "a route that redirects",
        (None, Some(_)) => "a route that responds",
        (None, None) => {
            let scope = Scope::within(table, service);
            let (forwarding, servers) = forwarding(scope, defaults, offloads, path);
            return (
                forwarding.map(|forwarding| Action::Forward(Box::new(forwarding))),
                servers,
            );
        }
    };
    table.misplaced(FORWARDING_KEYS, "a route that forwards", here);
    let action = redirects
        .and_then(|node| redirect(&node).map(Action::Redirect))
        .or_else(|| responds.and_then(|node| respond(&node).map(Action::Respond)));
    (action, Vec::new())
}

fn redirect(node: &Node<'_>) -> Option<Redirect> {
    let expected = "a table, such as { to = \"https://{host}{path}\", status = 301 }";
    let table = node.table(expected, &["to", "status"])?;
    let example = "where to, such as to = \"https://{host}{path}\"";
    let to = table.required("to", example, |node| {
        node.string(
            "a URL or a path, in which {host}, {path} and {query} are the request's",
            |text| {
                let sample = text
                    .replace("{host}", "h")
                    .replace("{path}", "/")
                    .replace("{query}", "q");
                let sound = !sample.contains(['{', '}']) && HeaderValue::from_str(&sample).is_ok();
                (sound && !text.is_empty()).then(|| text.to_owned())
            },
        )
    });
    let status = table.optional("status", StatusCode::FOUND, |node| {
        let code = node.number(301..=308)?;
        let status = u16::try_from(code)
            .ok()
            .and_then(|code| StatusCode::from_u16(code).ok());
        status
            .filter(|_| matches!(code, 301 | 302 | 303 | 307 | 308))
            .or_else(|| node.bad_value(&code.to_string(), "301, 302, 303, 307 or 308"))
    });
    Some(Redirect {
        to: to?,
        status: status?,
    })
}

fn respond(node: &Node<'_>) -> Option<Respond> {
    let table = node.table(
        "a table, such as { status = 403, body = \"no\" }",
        &["status", "body"],
    )?;
    let status = table.required("status", "such as status = 403", |node| {
        let code = node.number(200..=599)?;
        u16::try_from(code)
            .ok()
            .and_then(|code| StatusCode::from_u16(code).ok())
    });
    let body = table.optional("body", String::new(), |node| {
        node.string("a text", |text| Some(text.to_owned()))
    });
    Some(Respond {
        status: status?,
        body: body?,
    })
}

/// How the requests of a route, or of a whole service, are forwarded; and its servers with their places.
pub(super) fn forwarding(
    scope: Scope<'_, '_>,
    defaults: &Defaults,
    offloads: bool,
    path: Option<&PathPrefix>,
) -> (Option<Forwarding>, Vec<server::Draft>) {
    let servers = server::list(scope).unwrap_or_default();
    server::check_proxied(scope.report(), &servers);
    let upstream_tls = scope.optional("upstream_tls", None, |node| {
        tls::upstream_tls(node).map(Some)
    });
    let context = health::Context {
        profile: Some(defaults.profile),
        proof: health::Proof::of(upstream_tls.as_ref()),
        path,
    };
    let health = health::read(scope, &context, None);
    let mode = scope.optional("headers", defaults.headers, |node| {
        node.choice(&HEADER_MODES)
    });
    let idle_timeout = scope.optional("idle_timeout", defaults.idle_timeout, |node| {
        value::duration(node, TIMEOUTS)
    });
    let response_timeout = scope.optional("response_timeout", defaults.response_timeout, |node| {
        value::duration(node, TIMEOUTS)
    });
    let extended_protection = extended_protection(scope, offloads, upstream_tls.as_ref());
    let forwarded = headers::forwarded(scope);
    let inbound = headers::inbound(scope, defaults.profile);
    let rules = rules::read(scope, defaults.profile);
    let error_pages = scope
        .route()
        .map_or(Some(ErrorPages::default()), pages::read);
    let proxy_protocol = scope.optional("proxy_protocol", None, |node| {
        node.choice(&access::VERSIONS).map(Some)
    });
    let limits = limits::of_route(scope);
    let balancing = balance::read(scope, balance::Of::Requests, &servers, health.as_ref());
    let expect = exchange::expect(scope);
    let tunnels = exchange::tunnels(scope);
    let forwarding = || {
        let (requests, body) = limits?;
        Some(Forwarding {
            servers: server::finish(&servers),
            // If it could not be read, that has been reported, and nobody will use this.
            health: health.unwrap_or(Health::Unchecked),
            upstream_tls: upstream_tls?,
            headers: mode?,
            idle_timeout: idle_timeout?,
            response_timeout: response_timeout?,
            extended_protection: extended_protection?,
            forwarded: forwarded?,
            inbound: inbound?,
            rules: rules?,
            error_pages: error_pages?,
            requests,
            body,
            proxy_protocol: proxy_protocol?,
            balancing: balancing?,
            expect: expect?,
            tunnels: tunnels?,
        })
    };
    let forwarding = forwarding();
    if let (Some(forwarding), Profile::Exchange) = (&forwarding, defaults.profile) {
        warn_exchange(scope, forwarding, offloads);
        let own = limits::exchange_body(path.map(PathPrefix::as_str));
        if forwarding.body.max.is_some_and(|max| max.get() < own) {
            scope.warn("limits", Cost::SmallBody);
        }
    }
    (forwarding, servers)
}

/// Reads it; a login can be bound to a certificate only if both sides of the way have one.
fn extended_protection(
    scope: Scope<'_, '_>,
    offloads: bool,
    upstream_tls: Option<&Option<UpstreamTls>>,
) -> Option<bool> {
    let wanted = scope.optional("extended_protection", false, Node::boolean)?;
    let clash = match (wanted, offloads, upstream_tls) {
        (true, true, Some(None)) => {
            "without upstream_tls, TLS ends here, and servers with Extended Protection refuse every login; add \
             upstream_tls, and give this host and all servers the same certificate"
        }
        (true, false, Some(_)) => {
            "without tls, clients see no certificate, and servers with Extended Protection refuse every login; add tls \
             with the servers' certificate"
        }
        _ => return Some(wanted),
    };
    scope.report().error(
        &scope.spot("extended_protection"),
        Problem::Contradiction(clash.to_owned()),
    );
    None
}

fn warn_exchange(scope: Scope<'_, '_>, forwarding: &Forwarding, offloads: bool) {
    if forwarding.headers.adds_via() {
        scope.warn("headers", Cost::Via);
    }
    if offloads && forwarding.upstream_tls.is_none() {
        scope.warn("tls", Cost::Offload);
    }
    if forwarding.idle_timeout < SHORTEST_EXCHANGE_IDLE {
        scope.warn("idle_timeout", Cost::ShortIdle);
    }
}

/// What a route that forwards may say, and else inherits.
const FORWARDING_KEYS: Schema = &[
    "servers",
    "health",
    "headers",
    "upstream_tls",
    "idle_timeout",
    "response_timeout",
    "extended_protection",
    "forwarded",
    "inbound",
    "request_rules",
    "response_rules",
    "error_pages",
    "limits",
    "proxy_protocol",
    "balance",
    "persistence",
    "queue",
    "passive",
    "slow_start",
    "minimum_healthy",
    "retries",
    "expect",
    "upgrade",
    "connect",
];
/// What any route may say: which requests, and what becomes of them.
const OWN_KEYS: Schema = &[
    "name", "host", "path", "method", "header", "redirect", "respond",
];
const SCHEMA: Schema =
    &joined::<{ OWN_KEYS.len() + FORWARDING_KEYS.len() }>(OWN_KEYS, FORWARDING_KEYS);

const HEADER_MODES: [(&str, HeaderMode); 7] = [
    ("none", HeaderMode::None),
    ("x-forwarded-for", HeaderMode::XForwardedFor),
    ("x-forwarded-for+via", HeaderMode::XForwardedForVia),
    ("x-clientside", HeaderMode::XClientSide),
    ("x-clientside+via", HeaderMode::XClientSideVia),
    ("via", HeaderMode::Via),
    ("legacy", HeaderMode::LegacyXForwardedFor),
];

/// Longest stream of EWS `GetStreamingEvents`, and Exchange's own upper `KeepAliveTime`.
const SHORTEST_EXCHANGE_IDLE: Duration = Duration::from_mins(30);
