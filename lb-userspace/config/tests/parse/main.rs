//! What operators see: each mistake found, placed and explained, and good files understood.
//!
//! Only the public interface is used, so that these tests outlive any change of the reader.

use lb_config::parse;

mod admission;
mod balance;
mod corpus;
mod exchange;
mod forwarding;
mod good;
mod handover;
mod headers;
mod mistakes;
mod routes;
mod rules;
mod table;
mod tls;

/// A file without a mistake or warning; each line is changed by some case below.
const GOOD: &str = r#"interfaces = ["lb-front", "lb-back"]
admin = "/run/lb/lb.sock"

[flows]
max = 1_000_000

[nat]
addresses = ["10.203.2.100"]
ports = "1024-65535"

[[service]]
name = "exchange"
listen = "10.203.1.100:443"
mode = "http"
profile = "exchange"
headers = "none"
transport = "auto"
tls = { certificate = "cert.pem", key = "key.pem" }
upstream_tls = { ca = "ca.pem", server_name = "mail.lab.test" }
servers = ["10.203.2.11:443", { address = "10.203.2.12:443", weight = 2, name = "ex2" }]
health = { kind = "https", path = "/owa/healthcheck.htm", host = "mail.lab.test", expect = "200 OK", interval = "10s", timeout = "4s", rise = 2, fall = 2 }
idle_timeout = "40m"

[[service]]
name = "smtp"
listen = "10.203.1.101:25"
mode = "l4"
source = "client"
servers = ["10.203.2.11:25"]

[[service]]
name = "imap"
listen = "10.203.1.101:993"
mode = "l4"
servers = ["10.203.2.11:993"]
"#;

/// `GOOD` with the one place that holds `old` changed to `new`.
fn changed(old: &str, new: &str) -> String {
    assert_eq!(
        GOOD.matches(old).count(),
        1,
        "{old:?} must be in the good file once"
    );
    GOOD.replace(old, new)
}

/// `text` has exactly these mistakes, as the operator sees them.
#[track_caller]
fn check(text: &str, expected: &[&str]) {
    let errors = parse(text).expect_err("the text has mistakes");
    assert_eq!(
        errors.to_string().lines().collect::<Vec<_>>(),
        expected,
        "in:\n{text}"
    );
}
