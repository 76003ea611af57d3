//! Good files: what they mean, and what is said of those that cost.

use std::net::Ipv4Addr;
use std::time::Duration;

use lb_config::{
    Action, Check, Cost, Forward, Forwarding, HeaderMode, Health, Http, Mode, Source, Transport,
    Verify, When, parse,
};

use crate::{GOOD, changed};

/// What a service without routes does with all its requests.
pub(crate) fn only_route(http: &Http) -> &Forwarding {
    let [route] = &http.routes[..] else {
        panic!("one route")
    };
    assert_eq!(route.when, When::default());
    match &route.action {
        Action::Forward(forwarding) => forwarding,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_good_file_is_understood() {
    let config = parse(GOOD).expect("no mistakes");
    assert_eq!(config.warnings, []);
    let interfaces: Vec<_> = config.interfaces.iter().map(ToString::to_string).collect();
    assert_eq!(interfaces, ["lb-front", "lb-back"]);
    assert_eq!(config.flows.max.get(), 1_000_000);
    assert_eq!(config.nat.addresses, [Ipv4Addr::new(10, 203, 2, 100)]);
    assert_eq!(
        (config.nat.ports.first(), config.nat.ports.count()),
        (1024, 64_512)
    );

    let [exchange, smtp, imap] = &config.services[..] else {
        panic!("three services")
    };
    let Mode::Http(http) = &exchange.mode else {
        panic!("http")
    };
    assert_eq!(http.transport, Transport::Auto);
    assert_eq!(http.idle_timeout, Duration::from_mins(40));
    let forwarding = only_route(http);
    assert_eq!(forwarding.headers, HeaderMode::None);
    assert_eq!(forwarding.response_timeout, Duration::from_hours(1));
    let tls = forwarding.upstream_tls.as_ref().expect("upstream_tls");
    assert_eq!(tls.server_name.to_str(), "mail.lab.test");
    assert_eq!(tls.verify, Verify::Ca("ca.pem".into()));
    let servers: Vec<_> = forwarding
        .servers
        .iter()
        .map(|server| {
            (
                server.name.as_str(),
                server.address.to_string(),
                server.weight,
            )
        })
        .collect();
    let first = ("10.203.2.11:443", "10.203.2.11:443".to_owned(), 1);
    assert_eq!(servers, [first, ("ex2", "10.203.2.12:443".to_owned(), 2)]);
    let Health::Checked {
        check: Check::Https(get, probe_tls),
        schedule,
    } = &forwarding.health
    else {
        panic!("https")
    };
    assert_eq!(
        (get.path.as_str(), get.host.as_str()),
        ("/owa/healthcheck.htm", "mail.lab.test")
    );
    assert_eq!((get.expect.as_str(), probe_tls), ("200 OK", tls));
    assert_eq!((schedule.rise.get(), schedule.fall.get()), (2, 2));

    let sources = [smtp, imap].map(|service| match &service.mode {
        Mode::L4(l4) => l4.forward,
        Mode::Http(_) | Mode::Tcp(_) => panic!("l4"),
    });
    assert_eq!(
        sources,
        [Forward::Nat(Source::Client), Forward::Nat(Source::Nat)]
    );
    assert!(matches!(
        smtp.pools()[0].health,
        Health::Checked {
            check: Check::Tcp,
            ..
        }
    ));
}

#[test]
fn an_exchange_service_needs_few_lines() {
    let config = parse(
        r#"
        interfaces = ["eth0"]
        [[service]]
        name = "exchange"
        listen = "10.203.1.100:443"
        mode = "http"
        profile = "exchange"
        tls = { certificate = "cert.pem", key = "key.pem" }
        upstream_tls = { ca = "ca.pem", server_name = "mail.lab.test" }
        servers = ["10.203.2.11:443"]
        health = { kind = "https" }
        "#,
    )
    .expect("no mistakes");
    assert_eq!(config.warnings, []);
    let Health::Checked {
        check: Check::Https(get, tls),
        schedule,
    } = config.services[0].pools()[0].health
    else {
        panic!("https")
    };
    assert_eq!(
        (get.path.as_str(), get.expect.as_str()),
        ("/owa/healthcheck.htm", "200 OK")
    );
    assert_eq!(
        (get.host.as_str(), &tls.verify),
        ("mail.lab.test", &Verify::Ca("ca.pem".into()))
    );
    assert_eq!(schedule.timeout, Duration::from_secs(4));
}

/// A proxy has a connection of its own to each server, and so any family on either side.
#[test]
fn a_proxied_service_may_be_ipv6_and_its_servers_of_both_families() {
    let config = parse(
        r#"
        interfaces = ["eth0"]
        [[service]]
        name = "web"
        listen = "[2001:db8::1]:80"
        mode = "http"
        servers = ["10.0.0.1:80", "[2001:db8:1::1]:80"]
        "#,
    )
    .expect("no mistakes");
    let service = &config.services[0];
    assert!(service.listen.is_ipv6());
    let families: Vec<_> = service.pools()[0]
        .servers
        .iter()
        .map(|server| server.address.is_ipv6())
        .collect();
    assert_eq!(families, [false, true]);
}

#[test]
fn what_costs_is_said() {
    let via = Cost::Via;
    let nat_before = "10.203.1.101:993\"\nmode = \"l4\"";
    let nat_after = "10.203.1.101:993\"\nmode = \"l4\"\nsource = \"client\"";
    let cases: &[(&str, &str, Cost, &str)] = &[
        (
            r#"headers = "none""#,
            r#"headers = "via""#,
            via,
            "service[0].headers",
        ),
        (
            r#"headers = "none""#,
            r#"headers = "x-clientside+via""#,
            via,
            "service[0].headers",
        ),
        (
            r#"headers = "none""#,
            r#"headers = "x-forwarded-for+via""#,
            via,
            "service[0].headers",
        ),
        (
            r#"ca = "ca.pem""#,
            r#"verify = "none""#,
            Cost::Unverified,
            "service[0].upstream_tls.verify",
        ),
        (
            r#""40m""#,
            r#""1799s""#,
            Cost::ShortIdle,
            "service[0].idle_timeout",
        ),
        (
            r#"source = "client""#,
            r#"health = { kind = "none" }"#,
            Cost::Unchecked,
            "service[1].health.kind",
        ),
        (nat_before, nat_after, Cost::UnusedNat, "nat"),
    ];
    for (old, new, cost, path) in cases {
        let warnings = parse(&changed(old, new)).expect("legal").warnings;
        let found: Vec<_> = warnings
            .iter()
            .map(|warning| (warning.cost(), warning.path()))
            .collect();
        assert_eq!(found, [(*cost, *path)], "{new}");
    }
}

#[test]
fn offload_without_a_look_at_the_pages_is_said_to_cost_twice() {
    let unwanted = |line: &&str| !line.starts_with("upstream_tls") && !line.starts_with("health");
    let text = GOOD.lines().filter(unwanted).collect::<Vec<_>>().join("\n");
    let warnings = parse(&text).expect("legal").warnings;
    let costs: Vec<_> = warnings.iter().map(lb_config::Warning::cost).collect();
    assert_eq!(costs, [Cost::BlindCheck, Cost::Offload]);
    let shown = warnings[1].to_string();
    assert!(
        shown.starts_with("18:7: service \"exchange\": tls: without upstream_tls"),
        "{shown}"
    );
}

#[test]
fn all_header_modes_have_names() {
    let modes = [
        ("legacy", HeaderMode::LegacyXForwardedFor),
        ("x-forwarded-for+via", HeaderMode::XForwardedForVia),
        ("none", HeaderMode::None),
        ("x-clientside+via", HeaderMode::XClientSideVia),
        ("x-clientside", HeaderMode::XClientSide),
        ("x-forwarded-for", HeaderMode::XForwardedFor),
        ("via", HeaderMode::Via),
    ];
    for (name, mode) in modes {
        let text = GOOD.replace("headers = \"none\"", &format!("headers = \"{name}\""));
        let config = parse(&text).expect("no mistakes");
        let Mode::Http(http) = &config.services[0].mode else {
            panic!("http")
        };
        assert_eq!(only_route(http).headers, mode, "{name}");
        assert_eq!(mode.adds_via(), name.ends_with("via"), "{name}");
    }
}
