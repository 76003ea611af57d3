//! Reads what a service with `mode = "http"` has of its own: its listener, its routes, and what routes inherit.

use std::time::Duration;

use super::{TIMEOUTS, access, handover, headers, limits, pages, route, server, tls};
use crate::model::{Action, HeaderMode, Http, Name, Profile, Route, Transport, When};
use crate::reader::{Read, Schema, Scope, Table, unique};
use crate::{
    EXCHANGE_IDLE_TIMEOUT, EXCHANGE_RESPONSE_TIMEOUT, PLAIN_IDLE_TIMEOUT, PLAIN_RESPONSE_TIMEOUT,
    value,
};

pub(crate) const KEYS: Schema = &[
    "profile",
    "route",
    "headers",
    "response_timeout",
    "extended_protection",
    "forwarded",
    "inbound",
    "request_rules",
    "response_rules",
    "hsts",
    "error_pages",
    "expect",
    "upgrade",
    "connect",
];

/// Reads it, and the servers of each route with their places.
pub(super) fn read(
    table: &Table<'_>,
    name: Option<&Name>,
) -> (Option<Http>, Vec<Vec<server::Draft>>) {
    let profiles = [("exchange", Profile::Exchange), ("plain", Profile::Plain)];
    let profile = table.optional("profile", Profile::Plain, |node| node.choice(&profiles));
    let defaults = Defaults::of(profile.unwrap_or(Profile::Plain));
    let transport = table.optional("transport", Transport::Auto, |node| {
        node.choice(&TRANSPORTS)
    });
    let handover = handover::read(table, transport, handover::Of::Http);
    let tls = table.optional("tls", None, |node| tls::tls(node).map(Some));
    let idle_timeout = table.optional("idle_timeout", defaults.idle_timeout, |node| {
        value::duration(node, TIMEOUTS)
    });
    let accept_proxy_protocol = access::accept_proxy_protocol(table);
    let limits = limits::of_service(table);
    let offloads = table.get("tls").is_some();
    let hsts = table.optional("hsts", None, |node| headers::hsts(table, node).map(Some));
    let error_pages = pages::read(table);
    let (routes, pools) = routes(table, name, &defaults, offloads);
    let is_protected = |route: &Route| match &route.action {
        Action::Forward(to) => to.extended_protection,
        Action::Redirect(_) | Action::Respond(_) => false,
    };
    if profile == Some(Profile::Exchange) || routes.iter().flatten().any(is_protected) {
        tls::refuse_http2(table, tls.as_ref(), SHARED_CONNECTION);
    }
    let http = || {
        Some(Http {
            profile: profile?,
            transport: transport?,
            handover: handover?,
            tls: tls?,
            idle_timeout: idle_timeout?,
            routes: routes?,
            hsts: hsts?,
            error_pages: error_pages?,
            accept_proxy_protocol: accept_proxy_protocol?,
            limits: limits?,
        })
    };
    (http(), pools)
}

/// Why Exchange, and whatever else authenticates connections, has no HTTP/2.
const SHARED_CONNECTION: &str =
    "servers that log in connections (NTLM, Kerberos): requests of HTTP/2 share one";

/// The routes, or the one for all requests of a service without any.
fn routes(
    table: &Table<'_>,
    name: Option<&Name>,
    defaults: &Defaults,
    offloads: bool,
) -> (Option<Vec<Route>>, Vec<Vec<server::Draft>>) {
    let Some(node) = table.get("route") else {
        let (forwarding, servers) = route::forwarding(Scope::of(table), defaults, offloads, None);
        let all = || {
            Some(vec![Route {
                name: name?.clone(),
                when: When::default(),
                action: Action::Forward(Box::new(forwarding?)),
            }])
        };
        return (all(), vec![servers]);
    };
    let expected = "a list of [[service.route]] tables (two brackets on each side)";
    let Some(drafts) = node.list(expected, |node| {
        route::read(node, table, defaults, offloads)
    }) else {
        return (None, Vec::new());
    };
    let names: Vec<Read<Name>> = drafts
        .iter()
        .filter_map(|draft| draft.value.name.clone())
        .collect();
    unique(table.report, names.iter());
    let mut routes = Some(Vec::new());
    let mut pools = Vec::new();
    for draft in drafts {
        pools.push(draft.value.servers.clone());
        routes = routes.zip(draft.value.finish()).map(|(mut routes, route)| {
            routes.push(route);
            routes
        });
    }
    (routes, pools)
}

/// What a profile says where the file says nothing.
pub(super) struct Defaults {
    pub(super) profile: Profile,
    pub(super) headers: HeaderMode,
    pub(super) idle_timeout: Duration,
    pub(super) response_timeout: Duration,
}

impl Defaults {
    fn of(profile: Profile) -> Self {
        match profile {
            Profile::Exchange => Self {
                profile,
                headers: HeaderMode::None,
                idle_timeout: EXCHANGE_IDLE_TIMEOUT,
                response_timeout: EXCHANGE_RESPONSE_TIMEOUT,
            },
            Profile::Plain => Self {
                profile,
                headers: HeaderMode::XForwardedFor,
                idle_timeout: PLAIN_IDLE_TIMEOUT,
                response_timeout: PLAIN_RESPONSE_TIMEOUT,
            },
        }
    }
}

pub(super) const TRANSPORTS: [(&str, Transport); 3] = [
    ("auto", Transport::Auto),
    ("af_xdp", Transport::AfXdp),
    ("kernel", Transport::Kernel),
];
