//! Routes: what they match, what they inherit, and what is wrong with them.

use std::time::Duration;

use lb_config::{
    Action, Check, Config, Forwarding, HeaderMode, Health, HostPattern, Mode, Route, parse,
};

use crate::check;

const SERVICE: &str = r#"interfaces = ["eth0"]
[[service]]
name = "exchange"
listen = "10.203.1.100:443"
mode = "http"
profile = "exchange"
tls = { certificate = "cert.pem", key = "key.pem" }
upstream_tls = { ca = "ca.pem", server_name = "mail.lab.test" }
servers = ["10.203.2.11:443", "10.203.2.12:443"]
health = { kind = "https", interval = "5s" }
"#;

fn routes(text: &str) -> Vec<Route> {
    let Config { services, .. } = parse(&format!("{SERVICE}{text}")).expect("no mistakes");
    match services.into_iter().next().expect("one").mode {
        Mode::Http(http) => http.routes,
        Mode::L4(_) | Mode::Tcp(_) => panic!("http"),
    }
}

fn forwarding(route: &Route) -> &Forwarding {
    match &route.action {
        Action::Forward(forwarding) => forwarding,
        other => panic!("{other:?}"),
    }
}

fn page(forwarding: &Forwarding) -> (&str, Duration) {
    match &forwarding.health {
        Health::Checked {
            check: Check::Https(get, _),
            schedule,
        } => (get.path.as_str(), schedule.interval),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_route_inherits_what_it_does_not_say() {
    let routes = routes(
        r#"
        [[service.route]]
        name = "ews"
        path = ["/EWS/"]
        servers = ["10.203.2.13:443"]
        [[service.route]]
        name = "eas"
        path = ["/Microsoft-Server-ActiveSync"]
        headers = "x-forwarded-for"
        health = { kind = "https", path = "/x", interval = "7s" }
        idle_timeout = "2h"
        "#,
    );
    let [ews, eas] = &routes[..] else {
        panic!("two")
    };
    assert_eq!(ews.when.paths[0].as_str(), "/ews");
    let (ews, eas) = (forwarding(ews), forwarding(eas));
    assert_eq!((ews.servers.len(), eas.servers.len()), (1, 2));
    // The page of its own virtual directory, on the service's schedule.
    assert_eq!(page(ews), ("/ews/healthcheck.htm", Duration::from_secs(5)));
    assert_eq!(page(eas), ("/x", Duration::from_secs(7)));
    assert_eq!(
        (ews.headers, eas.headers),
        (HeaderMode::None, HeaderMode::XForwardedFor)
    );
    assert_eq!(ews.idle_timeout, Duration::from_mins(40));
    assert_eq!(eas.idle_timeout, Duration::from_hours(2));
    assert!(ews.upstream_tls.is_some());
}

#[test]
fn what_a_route_matches_is_read() {
    let routes = routes(
        r#"
        [[service.route]]
        name = "a"
        host = ["Mail.Example.com", "*.example.com"]
        path = ["=/", "=/A/", "/"]
        method = ["RPC_IN_DATA"]
        header = [{ name = "X-Group", value = "beta" }, { name = "x-any" }]
        redirect = { to = "https://{host}/owa{path}", status = 301 }
        [[service.route]]
        name = "b"
        respond = { status = 403, body = "no" }
        "#,
    );
    let when = &routes[0].when;
    let hosts = [
        HostPattern::Exact("mail.example.com".to_owned()),
        HostPattern::Below("example.com".to_owned()),
    ];
    assert_eq!(when.hosts, hosts);
    assert_eq!(
        (when.paths[0].as_str(), when.methods[0].as_str()),
        ("/", "RPC_IN_DATA")
    );
    assert_eq!(when.whole_paths, ["/", "/a/"]);
    assert_eq!(when.headers[0].value.as_ref().expect("value"), "beta");
    assert_eq!(when.headers[1].value, None);
    assert!(matches!(&routes[0].action, Action::Redirect(to) if to.status == 301));
    assert!(matches!(&routes[1].action, Action::Respond(with) if with.status == 403));
}

#[test]
fn mistakes_in_routes_are_named() {
    check(
        &format!(
            r#"{SERVICE}
[[service.route]]
name = "a"
path = ["/owa/../ecp"]
servers = ["10.203.2.11:443"]
redirect = {{ to = "https://{{hots}}/" }}
[[service.route]]
name = "a"
respond = {{ status = 99 }}
"#
        ),
        &[
            r#"lb.toml:14:9: service "exchange": route[0].path[0]: `/owa/../ecp` is not the beginning of a path, such as "/owa", or a whole one, such as "=/": without %, query, "//", "/./" and "/../""#,
            r#"lb.toml:15:1: service "exchange": route[0].servers: is only for a route that forwards, and this is a route that redirects; remove it, or change the other"#,
            r#"lb.toml:16:19: service "exchange": route[0].redirect.to: `https://{hots}/` is not a URL or a path, in which {host}, {path} and {query} are the request's"#,
            r#"lb.toml:18:8: service "exchange": route[1].name: `a` is used already, by service[0].route[0].name in line 13; give each its own"#,
            r#"lb.toml:19:22: service "exchange": route[1].respond.status: `99` is not an integer from 200 to 599"#,
        ],
    );
}

#[test]
fn a_mistake_that_routes_inherit_is_told_once() {
    let text = SERVICE.replace("\"5s\"", "\"5\"");
    check(
        &format!("{text}[[service.route]]\nname = \"a\"\n[[service.route]]\nname = \"b\"\n"),
        &[
            r#"lb.toml:10:39: service "exchange": health.interval: `5` is not a duration: a whole number with ms, s, m or h, such as "500ms" or "40m""#,
        ],
    );
}
