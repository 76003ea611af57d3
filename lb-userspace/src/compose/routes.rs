//! From the routes of a configuration to those of a proxy.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use lb_config::Http;
use lb_proxy::{
    Action, Forwarding, HeaderEquals, HostPattern, PathPrefix, Redirect, Respond, Route,
    RouteCounters, Server, Service, Timeouts, When,
};

use super::balance::Common;
use super::rules::{self, Names};
use super::tls::upstream_tls;
use super::{Unreadable, admission};

/// One route, with the files it names read in.
pub(super) fn route(
    service: &lb_config::Service,
    route: &lb_config::Route,
    common: &Common,
    directory: &Path,
) -> Result<Route, Unreadable> {
    let names = Names {
        service: service.name.as_str(),
        route: route.name.as_str(),
    };
    let action = match &route.action {
        lb_config::Action::Forward(to) => {
            Action::Forward(Box::new(forwarding(to, common, names, directory)?))
        }
        lb_config::Action::Redirect(redirect) => Action::Redirect(Redirect {
            to: redirect.to.clone(),
            status: redirect.status,
        }),
        lb_config::Action::Respond(respond) => Action::Respond(Respond {
            status: respond.status,
            body: respond.body.clone(),
        }),
    };
    Ok(Route {
        name: route.name.as_str().to_owned(),
        when: when(&route.when),
        action,
        counters: RouteCounters::default(),
    })
}

fn when(when: &lb_config::When) -> When {
    let hosts = when.hosts.iter().map(|host| match host {
        lb_config::HostPattern::Exact(name) => HostPattern::Exact(name.clone()),
        lb_config::HostPattern::Below(name) => HostPattern::Below(name.clone()),
    });
    let paths = when
        .paths
        .iter()
        .map(|path| PathPrefix(path.as_str().to_owned()));
    let headers = when.headers.iter().map(|header| HeaderEquals {
        name: header.name.clone(),
        value: header.value.clone(),
    });
    When {
        hosts: hosts.collect(),
        paths: paths.collect(),
        whole_paths: when.whole_paths.clone(),
        methods: when.methods.clone(),
        headers: headers.collect(),
    }
}

fn forwarding(
    to: &lb_config::Forwarding,
    common: &Common,
    names: Names<'_>,
    directory: &Path,
) -> Result<Forwarding, Unreadable> {
    let servers = common.servers(&to.servers);
    Ok(Forwarding {
        balancing: common.balancing(&to.balancing, &servers),
        servers,
        upstream_tls: match &to.upstream_tls {
            Some(tls) => Some(upstream_tls(tls, directory)?),
            None => None,
        },
        headers: rules::header_policy(to),
        timeouts: Timeouts {
            idle: to.idle_timeout,
            response_head: to.response_timeout,
            ..Timeouts::default()
        },
        requests: admission::requests(&to.requests),
        body: admission::body(&to.body),
        proxy_protocol: to.proxy_protocol.map(admission::proxy_protocol),
        rules: rules::rules(&to.rules, names),
        error_pages: rules::error_pages(&to.error_pages, directory)?,
    })
}

/// The servers of all routes, one route after the other.
pub(super) fn servers(service: &Service) -> impl Iterator<Item = Arc<Server>> {
    let forwarding = service
        .routes
        .iter()
        .filter_map(|route| match &route.action {
            Action::Forward(forwarding) => Some(forwarding),
            Action::Redirect(_) | Action::Respond(_) => None,
        });
    forwarding.flat_map(|forwarding| forwarding.servers.iter().map(Arc::clone))
}

/// What `lb check` says of routes; nothing of the one that a service without any has.
pub(super) fn describe(text: &mut String, service: &lb_config::Service, http: &Http) {
    if let [only] = &http.routes[..]
        && only.name == service.name
    {
        return;
    }
    for route in &http.routes {
        let does = match &route.action {
            lb_config::Action::Forward(to) => format!("{} servers", to.servers.len()),
            lb_config::Action::Redirect(redirect) => {
                format!("{} to {}", redirect.status.as_u16(), redirect.to)
            }
            lb_config::Action::Respond(respond) => respond.status.as_u16().to_string(),
        };
        let whole = route.when.whole_paths.iter().map(|path| format!("={path}"));
        let below = route.when.paths.iter().map(|path| path.as_str().to_owned());
        let paths: Vec<_> = whole.chain(below).collect();
        let _ = writeln!(text, "  route {} [{}] {does}", route.name, paths.join(", "));
    }
}
