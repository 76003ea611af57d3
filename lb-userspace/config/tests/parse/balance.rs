//! How requests are spread over servers, and how servers are found to be well: values, inheritance, mistakes.

use std::time::Duration;

use lb_config::{
    Action, BalanceMethod, Balancing, Check, Forwarding, Health, Mail, Mode, Passive, Persistence,
    Queue, Symptom, Warning, parse,
};

use crate::check;

const SERVICE: &str = r#"interfaces = ["eth0"]
[[service]]
name = "web"
listen = "10.203.1.100:80"
mode = "http"
"#;

const SERVERS: &str = "servers = [\"10.203.2.11:80\", \"10.203.2.12:80\"]\n";

/// How the routes of the service with these lines forward.
fn forwarding(lines: &str) -> Vec<Forwarding> {
    let config = parse(&format!("{SERVICE}{lines}")).expect("no mistakes");
    match config.services.into_iter().next().expect("one").mode {
        Mode::Http(http) => http
            .routes
            .into_iter()
            .map(|route| match route.action {
                Action::Forward(forwarding) => *forwarding,
                other => panic!("{other:?}"),
            })
            .collect(),
        Mode::L4(_) | Mode::Tcp(_) => panic!("http"),
    }
}

fn balancing(lines: &str) -> Balancing {
    let routes = forwarding(&format!("{SERVERS}{lines}"));
    routes.into_iter().next().expect("one").balancing
}

#[test]
fn without_a_word_it_is_in_turn() {
    let expected = Balancing {
        method: BalanceMethod::RoundRobin,
        persistence: None,
        queue: Queue {
            length: 0,
            timeout: Duration::from_secs(5),
        },
        passive: Some(Passive {
            failures: 5.try_into().expect("not zero"),
            on: vec![Symptom::Connect],
        }),
        slow_start: None,
        minimum_healthy: None,
        retries: 3,
    };
    assert_eq!(balancing(""), expected);
}

#[test]
fn methods_and_persistence_are_read() {
    let methods = [
        ("\"round-robin\"", BalanceMethod::RoundRobin),
        ("\"least-connections\"", BalanceMethod::LeastConnections),
        ("\"source-hash\"", BalanceMethod::SourceHash),
        (
            "{ header = \"X-Group\" }",
            BalanceMethod::HeaderHash("x-group".parse().expect("name")),
        ),
    ];
    for (text, method) in methods {
        assert_eq!(balancing(&format!("balance = {text}")).method, method);
    }
    let persistence = [
        (
            "{ by = \"source\" }",
            Persistence::Source(Duration::from_hours(1)),
        ),
        (
            "{ by = \"source\", timeout = \"672h\" }",
            Persistence::Source(Duration::from_hours(672)),
        ),
        (
            "{ by = \"cookie\" }",
            Persistence::Cookie("lb-server".to_owned()),
        ),
        (
            "{ by = \"cookie\", name = \"SRV_1\" }",
            Persistence::Cookie("SRV_1".to_owned()),
        ),
    ];
    for (text, expected) in persistence {
        let read = balancing(&format!("persistence = {text}")).persistence;
        assert_eq!(read, Some(expected));
    }
}

#[test]
fn the_rest_is_read() {
    let read = forwarding(
        r#"
        servers = [
            { address = "10.203.2.11:80", max_connections = 100 },
            "10.203.2.12:80",
            { address = "10.203.2.13:80", backup = true },
        ]
        queue = { length = 7, timeout = "2s" }
        passive = { failures = 2, on = ["gateway", "reset"] }
        slow_start = "30s"
        minimum_healthy = 2
        retries = 0
        "#,
    );
    let Forwarding {
        servers, balancing, ..
    } = &read[0];
    let limits: Vec<_> = servers
        .iter()
        .map(|server| server.max_connections.map(std::num::NonZeroU32::get))
        .collect();
    assert_eq!(limits, [Some(100), None, None]);
    let backups: Vec<_> = servers.iter().map(|server| server.is_backup).collect();
    assert_eq!(backups, [false, false, true]);
    let expected = Balancing {
        method: BalanceMethod::RoundRobin,
        persistence: None,
        queue: Queue {
            length: 7,
            timeout: Duration::from_secs(2),
        },
        passive: Some(Passive {
            failures: 2.try_into().expect("not zero"),
            on: vec![Symptom::Gateway, Symptom::Reset],
        }),
        slow_start: Some(Duration::from_secs(30)),
        minimum_healthy: 2.try_into().ok(),
        retries: 0,
    };
    assert_eq!(*balancing, expected);
    assert_eq!(self::balancing("passive = \"off\"").passive, None);
}

#[test]
fn servers_that_nobody_checks_are_not_taken_out() {
    let read = balancing("health = { kind = \"none\" }");
    assert_eq!(read.passive, None);
}

#[test]
fn routes_inherit_it() {
    let routes = forwarding(&format!(
        r#"{SERVERS}
        balance = "least-connections"
        retries = 1
        [[service.route]]
        name = "a"
        path = ["/a"]
        [[service.route]]
        name = "b"
        balance = "source-hash"
        "#
    ));
    let methods: Vec<_> = routes
        .iter()
        .map(|route| (&route.balancing.method, route.balancing.retries))
        .collect();
    let expected = [
        (&BalanceMethod::LeastConnections, 1),
        (&BalanceMethod::SourceHash, 1),
    ];
    assert_eq!(methods, expected);
}

#[test]
fn mail_servers_are_greeted() {
    let service = |health: &str| {
        format!(
            "interfaces = [\"eth0\"]\n[[service]]\nname = \"mail\"\nlisten = \"10.203.1.100:25\"\nmode = \"l4\"\n\
             source = \"client\"\nservers = [\"10.203.2.11:25\"]\nhealth = {health}\n"
        )
    };
    let table = [
        ("{ kind = \"smtp\" }", Mail::Smtp, "220", None),
        ("{ kind = \"imap\" }", Mail::Imap, "* OK", None),
        ("{ kind = \"pop\" }", Mail::Pop, "+OK", None),
        (
            "{ kind = \"smtps\", host = \"mail.lab.test\", ca = \"ca.pem\" }",
            Mail::Smtp,
            "220",
            Some("mail.lab.test"),
        ),
        (
            "{ kind = \"imaps\", host = \"mail.lab.test\", ca = \"ca.pem\", expect = \"* OK The Microsoft\" }",
            Mail::Imap,
            "* OK The Microsoft",
            Some("mail.lab.test"),
        ),
        (
            "{ kind = \"pops\", host = \"mail.lab.test\", ca = \"ca.pem\" }",
            Mail::Pop,
            "+OK",
            Some("mail.lab.test"),
        ),
    ];
    for (text, protocol, expect, name) in table {
        let config = parse(&service(text)).expect("no mistakes");
        let Mode::L4(l4) = &config.services[0].mode else {
            panic!("l4");
        };
        let Health::Checked {
            check: Check::Greeting(greeting, tls),
            ..
        } = &l4.health
        else {
            panic!("{:?}", l4.health);
        };
        assert_eq!(
            (greeting.protocol, &greeting.expect[..]),
            (protocol, expect)
        );
        let found = tls.as_ref().map(|tls| tls.server_name.to_str());
        assert_eq!(found.as_deref(), name);
    }
    check(
        &service("{ kind = \"smtp\", path = \"/\", host = \"h\", ca = \"ca.pem\", expect = \"\" }"),
        &[
            r#"lb.toml:8:27: service "mail": health.path: is only for kind = "http" or "https", and this is the check of a mail server; remove it, or change the other"#,
            r#"lb.toml:8:39: service "mail": health.host: is only for a kind with TLS, such as "smtps", and this is the check of a mail server; remove it, or change the other"#,
            r#"lb.toml:8:51: service "mail": health.ca: is only for a kind with TLS, such as "smtps", and this is the check of a mail server; remove it, or change the other"#,
            r#"lb.toml:8:75: service "mail": health.expect: `` is not how a greeting begins"#,
        ],
    );
    check(
        &service("{ kind = \"pops\" }"),
        &[
            r#"lb.toml:8:10: service "mail": health.ca: missing; add it, the PEM file with the root certificate of the servers (or verify = "none")"#,
            r#"lb.toml:8:10: service "mail": health.host: missing; add it, the public name of the service, such as "mail.example.com""#,
        ],
    );
}

#[test]
fn mistakes_are_named() {
    check(
        &format!(
            r#"{SERVICE}servers = [{{ address = "10.203.2.11:80", max_connections = 0, backup = "yes" }}, "10.203.2.12:80"]
health = {{ kind = "none" }}
balance = "wlc"
persistence = {{ by = "cookie", name = "a b", timeout = "1h" }}
queue = {{ length = 0, timeout = "1h" }}
passive = {{ failures = 5 }}
slow_start = "1h"
minimum_healthy = 3
retries = 11
"#
        ),
        &[
            r#"lb.toml:6:60: service "web": servers[0].max_connections: `0` is not an integer from 1 to 1000000"#,
            r#"lb.toml:6:72: service "web": servers[0].backup: expected true or false, found a string"#,
            r#"lb.toml:8:11: service "web": balance: `wlc` is not "round-robin" or "least-connections" or "source-hash""#,
            r#"lb.toml:9:39: service "web": persistence.name: `a b` is not the name of a cookie: letters, digits, - and _"#,
            r#"lb.toml:9:46: service "web": persistence.timeout: is only for by = "source", and this is by = "cookie"; remove it, or change the other"#,
            r#"lb.toml:10:20: service "web": queue.length: `0` is not an integer from 1 to 100000"#,
            r#"lb.toml:10:33: service "web": queue.timeout: `1h` is not from 100ms to 1m"#,
            r#"lb.toml:11:11: service "web": passive: with health.kind = "none" no probe would take the server in again; add a health check, or remove passive"#,
            r#"lb.toml:12:14: service "web": slow_start: `1h` is not from 1s to 10m"#,
            r#"lb.toml:13:19: service "web": minimum_healthy: 3 can never be up, because the route has 2 servers (backups don't count); lower it"#,
            r#"lb.toml:14:11: service "web": retries: `11` is not an integer from 0 to 10"#,
        ],
    );
    check(
        &format!(
            r#"{SERVICE}servers = [{{ address = "10.203.2.11:80", backup = true }}]
balance = {{ heder = "X" }}
persistence = {{ by = "source", timeout = "59s", name = "n" }}
passive = {{ failures = 0, on = ["connect", "refused", "connect"] }}
"#
        ),
        &[
            r#"lb.toml:6:51: service "web": servers[0].backup: all servers of the route are backups, and so none is; take backup from one of them"#,
            r#"lb.toml:7:13: service "web": balance.heder: unknown key; did you mean `header`?"#,
            r#"lb.toml:8:42: service "web": persistence.timeout: `59s` is not from 1m to 672h"#,
            r#"lb.toml:8:49: service "web": persistence.name: is only for by = "cookie", and this is by = "source"; remove it, or change the other"#,
            r#"lb.toml:9:24: service "web": passive.failures: `0` is not an integer from 1 to 1000"#,
            r#"lb.toml:9:44: service "web": passive.on[1]: `refused` is not "connect" or "reset" or "timeout" or "gateway""#,
            r#"lb.toml:9:55: service "web": passive.on[2]: `connect` is used already, by service[0].passive.on[0] in line 9; give each its own"#,
        ],
    );
}

#[test]
fn what_only_a_proxy_can_do_is_a_mistake_in_l4() {
    check(
        r#"interfaces = ["eth0"]
[[service]]
name = "smtp"
listen = "10.203.1.100:25"
mode = "l4"
source = "client"
servers = [{ address = "10.203.2.11:25", max_connections = 9 }, { address = "10.203.2.12:25", backup = true }]
balance = "source-hash"
"#,
        &[
            r#"lb.toml:7:60: service "smtp": servers[0].max_connections: is for services that we proxy or relay, and in mode = "l4" packets pass us by; remove it"#,
            r#"lb.toml:7:104: service "smtp": servers[1].backup: is for services that we proxy or relay, and in mode = "l4" packets pass us by; remove it"#,
            r#"lb.toml:8:1: service "smtp": balance: is only for mode = "http" and mode = "tcp", and this is mode = "l4", which forwards TLS and HTTP untouched; remove it, or change the other"#,
        ],
    );
}

#[test]
fn a_queue_that_nobody_joins_is_warned_of() {
    let text = format!("{SERVICE}{SERVERS}queue = {{ length = 1 }}\n");
    let config = parse(&text).expect("no mistakes");
    let warnings: Vec<_> = config.warnings.iter().map(Warning::to_string).collect();
    let expected = "7:20: service \"web\": queue.length: nobody will ever wait, because no server of the route has \
                    max_connections; add that to the servers, or remove queue";
    assert_eq!(warnings, [expected]);
}

#[test]
fn connections_that_are_relayed_are_spread_too() {
    let service = |lines: &str| {
        format!(
            "interfaces = [\"eth0\"]\n[[service]]\nname = \"imaps\"\nlisten = \"10.203.1.100:993\"\nmode = \"tcp\"\n\
             servers = [{{ address = \"10.203.2.11:993\", max_connections = 9 }}]\n\
             health = {{ kind = \"imaps\", host = \"mail.lab.test\", ca = \"ca.pem\" }}\n{lines}"
        )
    };
    let text = "balance = \"least-connections\"\npersistence = { by = \"source\" }\nqueue = { length = 5 }\n";
    let config = parse(&service(text)).expect("no mistakes");
    let Mode::Tcp(tcp) = &config.services[0].mode else {
        panic!("tcp");
    };
    assert_eq!(tcp.balancing.method, BalanceMethod::LeastConnections);
    assert_eq!(tcp.balancing.queue.length, 5);
    assert_eq!(
        tcp.balancing.persistence,
        Some(Persistence::Source(Duration::from_hours(1)))
    );
    check(
        &service(
            "balance = { header = \"X\" }\npersistence = { by = \"cookie\" }\npassive = { on = [\"connect\", \"gateway\"] }\n",
        ),
        &[
            r#"lb.toml:8:11: service "imaps": balance: a header is only for mode = "http", because mode = "tcp" doesn't look at what it relays; go by the source"#,
            r#"lb.toml:9:15: service "imaps": persistence: a cookie is only for mode = "http", because mode = "tcp" doesn't look at what it relays; go by the source"#,
            r#"lb.toml:10:11: service "imaps": passive: in mode = "tcp" only "connect" can be seen to fail; leave out the rest of `on`"#,
        ],
    );
}
