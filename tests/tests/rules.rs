//! Rules, header options and error pages of a running `lb`, from its file to curl and the pool, on both transports.
//!
//! What each rule does is tested where it is done (`lb-proxy`); here it is that the daemon knows the client's side of
//! the connection on either transport, and that NTLM goes through all of it.
//! Needs what `l7.rs` needs.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers as well"
)]

use std::{fs, path::Path};

use anyhow::Result;
use lb_tests::{
    address::{VIP_HTTP, server},
    certs, client,
    pool::{USERS, journal::AuthLeg},
    world::World,
};

/// An Exchange service with one server and some of everything.
fn service(world: &World, transport: &str) -> String {
    let files = world.certs();
    format!(
        r#"[[service]]
name = "exchange"
listen = "{VIP_HTTP}:443"
mode = "http"
profile = "exchange"
transport = "{transport}"
tls = {{ certificate = "{}", key = "{}" }}
upstream_tls = {{ ca = "{}", server_name = "{}" }}
servers = ["{}:443"]
health = {{ kind = "https", path = "/owa/healthcheck.htm", interval = "1s", timeout = "1s", rise = 1, fall = 2 }}
forwarded = ["x-forwarded-proto", "x-forwarded-port", "forwarded"]
request_rules = [
    {{ set = "X-Real-IP", value = "{{client_ip}}" }},
    {{ path_prefix = "/me", with = "/whoami" }},
]
response_rules = [{{ set = "X-Served-By", value = "{{route}}/{{server}}" }}]
hsts = "365d"
# Relative to this file.
error_pages = {{ 503 = "sorry.html" }}
"#,
        files.certificate.display(),
        files.key.display(),
        files.ca.display(),
        certs::NAME,
        server(1),
    )
}

/// Status, and head and body, of what curl gets with these options more.
fn fetch(ca: &Path, options: &[&str], path: &str) -> Result<(u16, String)> {
    let common = ["--cacert", ca.to_str().unwrap(), "--include"];
    let options = [&common, options].concat();
    let (status, answer) = client::fetch(&options, &format!("https://{VIP_HTTP}{path}"))?;
    Ok((status, String::from_utf8(answer)?))
}

#[test]
fn rules_and_pages_reach_clients_and_servers() {
    for transport in ["af_xdp", "kernel"] {
        let mut world = World::start(1).unwrap();
        fs::write(world.directory().join("sorry.html"), "<p>sorry").unwrap();
        let mut balancer = world.balance(&service(&world, transport)).unwrap();
        let ca = world.certs().ca.clone();
        let served = || Ok(fetch(&ca, &[], "/owa/healthcheck.htm")?.0 == 200);
        balancer.eventually("the service is open", served).unwrap();
        world.forget().unwrap();

        let user = format!("{}:{}", USERS[0].qualified(), USERS[0].password);
        let login = [
            "--ntlm",
            "--user",
            &user,
            "--header",
            "X-Forwarded-Proto: ftp",
        ];
        let (status, answer) = fetch(&ca, &login, "/me").unwrap();
        assert_eq!(status, 200, "{transport}: {answer}");
        let served_by = format!("X-Served-By: exchange/{}:443\r\n", server(1));
        let strict = "Strict-Transport-Security: max-age=31536000\r\n";
        for line in [&served_by, strict] {
            assert!(
                answer.contains(line),
                "{transport}: {line} is missing: {answer}"
            );
        }
        check_seen(&world, transport);

        world.kill_server(1);
        let sorry = || {
            let (status, answer) = fetch(&ca, &[], "/owa/")?;
            let html = "Content-Type: text/html; charset=utf-8\r\n";
            let is_page = answer.contains(html) && answer.ends_with("<p>sorry");
            Ok(status == 503 && is_page && answer.contains(strict))
        };
        balancer.eventually("the page is shown", sorry).unwrap();
    }
}

/// The server saw one login in two legs, and in each who the client is.
fn check_seen(world: &World, transport: &str) {
    let seen = world.seen().unwrap();
    let legs = [AuthLeg::First, AuthLeg::Later];
    assert_eq!(seen.legs("/whoami"), legs, "{transport}");
    for request in seen.requests("/whoami") {
        let header = |name| request.header(name).unwrap();
        assert_eq!(header("x-forwarded-proto"), "https", "{transport}");
        assert_eq!(header("x-forwarded-port"), "443", "{transport}");
        let forwarded = header("forwarded");
        let start = format!("for=\"{}:", header("x-real-ip"));
        let end = format!(";by=\"{VIP_HTTP}:443\";host={VIP_HTTP};proto=https");
        let is_whole = forwarded.starts_with(&start) && forwarded.ends_with(&end);
        assert!(is_whole, "{transport}: {forwarded}");
    }
}
