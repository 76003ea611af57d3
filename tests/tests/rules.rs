//! Rules, header options and error pages of a running `lb`, from its file to curl and the pool, on both transports.
//!
//! What each rule does is tested where it is done (`lb-proxy`); here it is that the daemon knows the client's side of
//! the connection on either transport, and that NTLM goes through all of it.
//! Needs what `l7.rs` needs.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers as well"
)]

use std::fs;

use lb_tests::{
    address::{VIP_HTTP, server},
    certs, client,
    pool::{USERS, journal::AuthLeg},
    world::World,
};

#[test]
fn rules_and_pages_reach_clients_and_servers() {
    for transport in ["af_xdp", "kernel"] {
        let mut world = World::start(1).unwrap();
        let page = world.directory().join("sorry.html");
        fs::write(&page, "<p>sorry").unwrap();
        let files = world.certs();
        let ca = files.ca.to_str().unwrap().to_owned();
        let service = format!(
            r#"[[service]]
name = "exchange"
listen = "{VIP_HTTP}:443"
mode = "http"
profile = "exchange"
transport = "{transport}"
tls = {{ certificate = "{}", key = "{}" }}
upstream_tls = {{ ca = "{ca}", server_name = "{}" }}
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
            certs::NAME,
            server(1),
        );
        let mut balancer = world.balance(&service).unwrap();
        let url = |path: &str| format!("https://{VIP_HTTP}{path}");
        let options = ["--cacert", &ca, "--include"];
        let fetch = |path: &str| client::fetch(&options, &url(path));
        let served = || Ok(fetch("/owa/healthcheck.htm")?.0 == 200);
        balancer.eventually("the service is open", served).unwrap();
        world.forget().unwrap();

        let user = format!("{}:{}", USERS[0].qualified(), USERS[0].password);
        let login = [
            &options[..],
            &[
                "--ntlm",
                "--user",
                &user,
                "--header",
                "X-Forwarded-Proto: ftp",
            ],
        ]
        .concat();
        let (status, answer) = client::fetch(&login, &url("/me")).unwrap();
        let answer = String::from_utf8(answer).unwrap();
        assert_eq!(status, 200, "{transport}: {answer}");
        let served_by = format!("X-Served-By: exchange/{}:443\r\n", server(1));
        for line in [
            served_by.as_str(),
            "Strict-Transport-Security: max-age=31536000\r\n",
        ] {
            assert!(
                answer.contains(line),
                "{transport}: {line} is missing: {answer}"
            );
        }

        let seen = world.seen().unwrap();
        assert_eq!(
            seen.legs("/whoami"),
            [AuthLeg::First, AuthLeg::Later],
            "{transport}"
        );
        for request in seen.requests("/whoami") {
            assert_eq!(
                request.header("x-forwarded-proto"),
                Some("https"),
                "{transport}"
            );
            assert_eq!(
                request.header("x-forwarded-port"),
                Some("443"),
                "{transport}"
            );
            let client = request.header("x-real-ip").unwrap();
            let forwarded = request.header("forwarded").unwrap();
            let expected = format!("for=\"{client}:");
            assert!(forwarded.starts_with(&expected), "{transport}: {forwarded}");
            let expected = format!(";by=\"{VIP_HTTP}:443\";host={VIP_HTTP};proto=https");
            assert!(forwarded.ends_with(&expected), "{transport}: {forwarded}");
        }

        world.kill_server(1);
        let sorry = || {
            let (status, answer) = fetch("/owa/")?;
            let answer = String::from_utf8(answer)?;
            let is_page = answer.ends_with("<p>sorry")
                && answer.contains("Content-Type: text/html; charset=utf-8\r\n");
            Ok(status == 503 && is_page && answer.contains("Strict-Transport-Security: "))
        };
        balancer.eventually("the page is shown", sorry).unwrap();
    }
}
