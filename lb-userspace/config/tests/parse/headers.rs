//! `forwarded`, `inbound`, `hsts` and `error_pages`: values, inheritance, and what is said of mistakes.

use std::time::Duration;

use lb_config::{
    Action, Config, ErrorPages, Forwarding, Hsts, HstsReach, Http, Inbound, Mode, Tell, parse,
};

use crate::check;

/// A service with TLS and this much more.
fn file(profile: &str, text: &str) -> String {
    format!(
        r#"interfaces = ["eth0"]
[[service]]
name = "web"
listen = "10.203.1.100:443"
mode = "http"
profile = "{profile}"
tls = {{ certificate = "cert.pem", key = "key.pem" }}
upstream_tls = {{ ca = "ca.pem", server_name = "mail.lab.test" }}
servers = ["10.203.2.11:443"]
health = {{ kind = "https" }}
{text}"#
    )
}

fn read(profile: &str, text: &str) -> (Http, Vec<String>) {
    let Config {
        services, warnings, ..
    } = parse(&file(profile, text)).expect("no mistakes");
    let warnings = warnings.iter().map(ToString::to_string).collect();
    match services.into_iter().next().expect("one").mode {
        Mode::Http(http) => (http, warnings),
        Mode::L4(_) | Mode::Tcp(_) => panic!("http"),
    }
}

fn forwarding(http: &Http, route: usize) -> &Forwarding {
    match &http.routes[route].action {
        Action::Forward(forwarding) => forwarding,
        other => panic!("{other:?}"),
    }
}

fn files(pages: &ErrorPages) -> Vec<(u16, &str, &str)> {
    let pages = pages.as_slice().iter().map(|page| {
        let content_type = page.content_type.to_str().expect("text");
        (
            page.status.as_u16(),
            page.file.to_str().expect("text"),
            content_type,
        )
    });
    pages.collect()
}

#[test]
fn nothing_is_told_shown_or_believed_unless_asked_for() {
    let (http, warnings) = read("exchange", "");
    let forwarding = forwarding(&http, 0);
    assert_eq!(
        (&forwarding.forwarded[..], forwarding.inbound),
        (&[][..], Inbound::Strip)
    );
    assert_eq!((http.hsts, files(&http.error_pages)), (None, vec![]));
    assert_eq!(warnings, Vec::<String>::new());
}

#[test]
fn routes_inherit_what_servers_are_told() {
    let (http, _) = read(
        "plain",
        r#"
        forwarded = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-port", "x-forwarded-host", "forwarded"]
        error_pages = { 404 = "none.html" }
        [[service.route]]
        name = "a"
        [[service.route]]
        name = "b"
        forwarded = []
        inbound = "keep"
        error_pages = { 503 = "pages/sorry.HTM" }
        "#,
    );
    let (a, b) = (forwarding(&http, 0), forwarding(&http, 1));
    let all = [
        Tell::XForwardedFor,
        Tell::XForwardedProto,
        Tell::XForwardedPort,
        Tell::XForwardedHost,
        Tell::Forwarded,
    ];
    assert_eq!((&a.forwarded[..], a.inbound), (&all[..], Inbound::Strip));
    assert_eq!((&b.forwarded[..], b.inbound), (&[][..], Inbound::Keep));
    let html = "text/html; charset=utf-8";
    assert_eq!(files(&http.error_pages), [(404, "none.html", html)]);
    // A service's pages are looked up after a route's, and so needn't be copied to it.
    assert_eq!(files(&a.error_pages), []);
    assert_eq!(files(&b.error_pages), [(503, "pages/sorry.HTM", html)]);
}

#[test]
fn believing_clients_has_its_price() {
    let at = "11:11: service \"web\": inbound: whoever can connect here chooses the address that servers see";
    let (_, warnings) = read("exchange", "inbound = \"keep\"");
    let cost = "and a Via that comes in ends NTLM and Kerberos logins after one request";
    let end = "only for a service that none but a trusted proxy can reach";
    assert_eq!(warnings, [format!("{at}, {cost}; {end}")]);
    let (_, warnings) = read("plain", "inbound = \"keep\"");
    assert_eq!(warnings, [format!("{at}; {end}")]);
}

#[test]
fn hsts_is_a_number_of_days_or_a_table() {
    let days = |days: u64| Duration::from_hours(24 * days);
    let table = [
        ("\"365d\"", days(365), HstsReach::Host),
        ("\"0d\"", days(0), HstsReach::Host),
        ("{ max_age = \"30d\" }", days(30), HstsReach::Host),
        (
            "{ max_age = \"30d\", reach = \"subdomains\" }",
            days(30),
            HstsReach::Subdomains,
        ),
        (
            "{ max_age = \"3650d\", reach = \"preload\" }",
            days(3650),
            HstsReach::Preload,
        ),
    ];
    for (text, max_age, reach) in table {
        let (http, _) = read("plain", &format!("hsts = {text}"));
        assert_eq!(http.hsts, Some(Hsts { max_age, reach }), "{text}");
    }
}

#[test]
fn mistakes_are_named() {
    let say = |text: &str, expected: &[&str]| check(&file("plain", text), expected);
    say(
        "forwarded = \"x-forwarded-for\"",
        &[
            r#"lb.toml:11:13: service "web": forwarded: expected a list such as ["x-forwarded-for", "x-forwarded-proto"], found a string"#,
        ],
    );
    say(
        "forwarded = [\"x-real-ip\"]\ninbound = \"trust\"",
        &[
            r#"lb.toml:11:14: service "web": forwarded[0]: `x-real-ip` is not "x-forwarded-for" or "x-forwarded-proto" or "x-forwarded-port" or "x-forwarded-host" or "forwarded""#,
            r#"lb.toml:12:11: service "web": inbound: `trust` is not "strip" or "keep""#,
        ],
    );
    for (text, column, found) in [
        ("\"1y\"", 8, "1y"),
        ("\"3651d\"", 8, "3651d"),
        ("\"-1d\"", 8, "-1d"),
    ] {
        let expected = format!(
            r#"lb.toml:11:{column}: service "web": hsts: `{found}` is not a number of days up to 3650, such as "365d""#
        );
        say(&format!("hsts = {text}"), &[&expected]);
    }
    say(
        "hsts = { max_age = \"364d\", reach = \"preload\" }",
        &[
            r#"lb.toml:11:20: service "web": hsts.max_age: the lists that browsers ship take at least 365 days; give max_age = "365d", or another reach"#,
        ],
    );
    say(
        "hsts = 365",
        &[
            r#"lb.toml:11:8: service "web": hsts: expected a number of days such as "365d", or a table such as { max_age = "365d", reach = "subdomains" }, found an integer"#,
        ],
    );
    say(
        "error_pages = { 200 = \"ok.html\", 503 = \"sorry.png\", teapot = \"x.html\", 404 = 1 }",
        &[
            r#"lb.toml:11:23: service "web": error_pages.200: `200` is not a status from 400 to 599"#,
            r#"lb.toml:11:40: service "web": error_pages.503: `sorry.png` is not a file that ends in .html, .htm, .txt, .json or .xml"#,
            r#"lb.toml:11:62: service "web": error_pages.teapot: `teapot` is not a status from 400 to 599"#,
            r#"lb.toml:11:78: service "web": error_pages.404: expected the path of a file, found an integer"#,
        ],
    );
}

#[test]
fn what_has_no_place_is_named() {
    let plain = file("plain", "hsts = \"1d\"").replace(
        "tls = { certificate = \"cert.pem\", key = \"key.pem\" }",
        "",
    );
    check(
        &plain,
        &[
            r#"lb.toml:11:8: service "web": hsts: browsers obey it over TLS only (RFC 6797), and this service has no tls; add tls, or remove it"#,
        ],
    );
    check(
        &file(
            "plain",
            "[[service.route]]\nname = \"a\"\nrespond = { status = 200 }\nforwarded = []\nerror_pages = {}",
        ),
        &[
            r#"lb.toml:14:1: service "web": route[0].forwarded: is only for a route that forwards, and this is a route that responds; remove it, or change the other"#,
            r#"lb.toml:15:1: service "web": route[0].error_pages: is only for a route that forwards, and this is a route that responds; remove it, or change the other"#,
        ],
    );
}
