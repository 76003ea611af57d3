//! Limits, lists of networks, PROXY headers, and services of `mode = "tcp"`.

use std::num::NonZeroU32;
use std::time::Duration;

use lb_config::{
    Action, BodyLimits, BodyRate, Config, Cost, Forwarding, Http, Limits, Mode, Prefix,
    ProxyProtocol, Rate, RequestLimits, Tcp, WhenExceeded, parse,
};

use crate::check;

fn file(mode: &str, rest: &str) -> String {
    format!(
        "interfaces = [\"eth0\"]\n[[service]]\nname = \"a\"\nlisten = \"192.0.2.1:25\"\nmode = \"{mode}\"\n\
         servers = [\"10.0.0.1:25\"]\n{rest}"
    )
}

fn read(mode: &str, rest: &str) -> Config {
    parse(&file(mode, rest)).expect("no mistakes")
}

fn http(rest: &str) -> Http {
    match read("http", rest).services.remove(0).mode {
        Mode::Http(http) => http,
        other => panic!("{other:?}"),
    }
}

fn tcp(rest: &str) -> Tcp {
    match read("tcp", rest).services.remove(0).mode {
        Mode::Tcp(tcp) => *tcp,
        other => panic!("{other:?}"),
    }
}

fn forwarding(http: &Http, route: usize) -> &Forwarding {
    match &http.routes[route].action {
        Action::Forward(forwarding) => forwarding,
        other => panic!("{other:?}"),
    }
}

fn prefix(text: &str) -> Prefix {
    text.parse().expect("a network")
}

const fn count(number: u32) -> Option<NonZeroU32> {
    NonZeroU32::new(number)
}

#[test]
fn without_limits_there_are_none() {
    let http = http("");
    assert_eq!(http.limits, Limits::default());
    let all = forwarding(&http, 0);
    assert_eq!(all.requests, RequestLimits::default());
    assert_eq!(all.body, BodyLimits::default());
    assert_eq!(all.proxy_protocol, None);
    assert_eq!(http.accept_proxy_protocol, []);
}

#[test]
fn limits_are_read() {
    let http = http(
        "limits = { connections = 10, connections_per_client = 2, tls_handshake = \"5s\", headers = 50, header_bytes = 8192, \
         request_head = \"7s\", requests = 3, rate = 100, rate_per_client = { requests = 30, per = \"1m\", burst = 5 }, \
         when_exceeded = \"drop\", body = 1000, body_rate = { bytes_per_second = 240, grace = \"1m\" } }\n",
    );
    let limits = &http.limits;
    assert_eq!(
        (limits.connections, limits.connections_per_client),
        (count(10), count(2))
    );
    assert_eq!(
        (limits.headers, limits.header_bytes),
        (count(50), count(8192))
    );
    let seconds = |limit: Option<Duration>| limit.expect("given").as_secs();
    assert_eq!(
        (seconds(limits.tls_handshake), seconds(limits.request_head)),
        (5, 7)
    );
    assert_eq!(limits.requests.concurrent, count(3));
    let hundred = count(100).expect("not zero");
    let expected = Rate {
        requests: hundred,
        per: Duration::from_secs(1),
        burst: hundred,
    };
    assert_eq!(limits.requests.rate, Some(expected));
    let rate = limits.requests.rate_per_client.expect("given");
    assert_eq!(
        (rate.requests.get(), rate.per.as_secs(), rate.burst.get()),
        (30, 60, 5)
    );
    assert_eq!(limits.requests.when_exceeded, WhenExceeded::Drop);
    // The one route has no limits of its own, but its bodies are held to the service's.
    let all = forwarding(&http, 0);
    assert_eq!(all.requests, RequestLimits::default());
    assert_eq!(all.body.max, count(1000));
    let expected = BodyRate {
        bytes_per_second: count(240).expect("not zero"),
        grace: Duration::from_mins(1),
    };
    assert_eq!(all.body.rate, Some(expected));
}

#[test]
fn a_route_adds_limits_of_requests_and_replaces_those_of_bodies() {
    let http = http(
        "limits = { requests = 3, body = 1000, body_rate = 100 }\n\
         [[service.route]]\nname = \"x\"\npath = [\"/x\"]\nlimits = { requests = 1, body = 5000, when_exceeded = \"503\" }\n\
         [[service.route]]\nname = \"y\"\n",
    );
    assert_eq!(http.limits.requests.concurrent, count(3));
    let (x, y) = (forwarding(&http, 0), forwarding(&http, 1));
    assert_eq!(
        (x.requests.concurrent, y.requests.concurrent),
        (count(1), None)
    );
    assert_eq!(x.requests.when_exceeded, WhenExceeded::Unavailable);
    assert_eq!((x.body.max, y.body.max), (count(5000), count(1000)));
    assert_eq!(x.body.rate.expect("inherited").bytes_per_second.get(), 100);
    assert_eq!(
        x.body.rate.expect("inherited").grace,
        Duration::from_secs(10)
    );
}

#[test]
fn mistakes_in_limits_are_named() {
    check(
        &file(
            "http",
            "limits = { headers = 0, header_bytes = 100, rate = \"fast\", body = 0, when_exceeded = \"420\" }\n\
             [[service.route]]\nname = \"r\"\nlimits = { connections = 5, rate = { per = \"1ms\" } }\n\
             [[service.route]]\nname = \"s\"\nredirect = { to = \"/\" }\nlimits = { requests = 5 }\n",
        ),
        &[
            "lb.toml:7:22: service \"a\": limits.headers: `0` is not an integer from 1 to 10000",
            "lb.toml:7:40: service \"a\": limits.header_bytes: `100` is not an integer from 8192 to 1048576",
            "lb.toml:7:52: service \"a\": limits.rate: expected an integer without quotes, found a string",
            "lb.toml:7:67: service \"a\": limits.body: `0` is not an integer from 1 to 4294967295",
            "lb.toml:7:86: service \"a\": limits.when_exceeded: `420` is not \"429\" or \"503\" or \"drop\"",
            "lb.toml:10:12: service \"a\": route[0].limits.connections: unknown key; the keys here are requests, rate, rate_per_client, when_exceeded, body, body_rate",
            "lb.toml:10:36: service \"a\": route[0].limits.rate.requests: missing; add it, such as requests = 100",
            "lb.toml:10:44: service \"a\": route[0].limits.rate.per: `1ms` is not from 1s to 24h",
            "lb.toml:14:1: service \"a\": route[1].limits: is only for a route that forwards, and this is a route that redirects; remove it, or change the other",
        ],
    );
}

#[test]
fn a_body_that_exchange_would_take_is_not_refused_without_a_warning() {
    let costs = |path: &str, body: u32| {
        let rest = format!(
            "profile = \"exchange\"\nhealth = {{ kind = \"http\", host = \"h\" }}\n[[service.route]]\nname = \"r\"\n\
             path = [\"{path}\"]\nlimits = {{ body = {body} }}\n"
        );
        let warnings = read("http", &rest).warnings;
        warnings
            .iter()
            .map(lb_config::Warning::cost)
            .collect::<Vec<_>>()
    };
    assert_eq!(costs("/ews", 67_108_863), [Cost::SmallBody]);
    assert_eq!(costs("/ews", 67_108_864), []);
    assert_eq!(costs("/OWA", 34_999_999), [Cost::SmallBody]);
    assert_eq!(costs("/Microsoft-Server-ActiveSync", 30_000_000), []);
    assert_eq!(costs("/mapi", 2_147_483_647), [Cost::SmallBody]);
    assert_eq!(costs("/", 35_000_000), [Cost::SmallBody]);
}

#[test]
fn networks_are_read() {
    let text = format!(
        "allow = [\"10.0.0.0/8\", \"2001:db8::/32\", \"192.0.2.1\"]\ndeny = [\"10.1.0.0/16\"]\ndeny_file = \"bad.txt\"\n{}",
        file("l4", "source = \"client\"\ndeny = [\"::/0\", \"::1\"]\n")
    );
    let config = parse(&text).expect("no mistakes");
    let expected = [
        prefix("10.0.0.0/8"),
        prefix("2001:db8::/32"),
        prefix("192.0.2.1/32"),
    ];
    assert_eq!(config.access.allow, expected);
    assert_eq!(config.access.deny, [prefix("10.1.0.0/16")]);
    assert_eq!(config.access.deny_file.as_deref(), Some("bad.txt".as_ref()));
    assert_eq!(
        config.services[0].access.deny,
        [prefix("::/0"), prefix("::1/128")]
    );
    for bad in [
        "10.0.0.1/8",
        "10.0.0.0/33",
        "::/129",
        "10.0.0.0/",
        "10.0.0.0/+8",
        "::ffff:10.0.0.0/104",
        "ten",
    ] {
        assert!(bad.parse::<Prefix>().is_err(), "{bad}");
    }
    assert_eq!(prefix("10.1.2.3").to_string(), "10.1.2.3/32");
}

#[test]
fn mistakes_in_lists_are_named() {
    check(
        &file(
            "tcp",
            "allow = [\"10.1.2.3/8\", \"10.0.0.0/8\", \"10.0.0.0/8\"]\ndeny = [\"10.0.0.0/8\"]\naccept_proxy_protocol = {}\n",
        ),
        &[
            "lb.toml:7:10: service \"a\": allow[0]: `10.1.2.3/8` is not a network, such as \"10.0.0.0/8\" or \"2001:db8::/32\", with zeros behind the prefix",
            "lb.toml:7:38: service \"a\": allow[2]: `10.0.0.0/8` is used already, by service[0].allow[1] in line 7; give each its own",
            "lb.toml:8:9: service \"a\": deny[0]: 10.0.0.0/8 is in allow as well; remove it from one of the two",
            "lb.toml:9:25: service \"a\": accept_proxy_protocol.from: missing; add it, the networks of the balancers before this one",
        ],
    );
}

#[test]
fn a_relayed_service_has_what_it_needs_and_no_more() {
    let plain = tcp("");
    assert!(plain.tls.is_none() && plain.upstream_tls.is_none());
    assert_eq!(plain.idle_timeout, Duration::from_mins(40));
    assert_eq!(
        (plain.proxy_protocol, plain.accept_proxy_protocol),
        (None, vec![])
    );
    let full = tcp(
        "tls = { certificate = \"c.pem\", key = \"k.pem\" }\nupstream_tls = { ca = \"ca.pem\", server_name = \"mail.lab.test\" }\n\
         transport = \"kernel\"\nproxy_protocol = \"v2\"\naccept_proxy_protocol = { from = [\"10.0.0.0/8\"] }\n\
         limits = { connections = 100 }\nidle_timeout = \"31m\"\n",
    );
    assert!(full.tls.is_some() && full.upstream_tls.is_some());
    assert_eq!(full.proxy_protocol, Some(ProxyProtocol::V2));
    assert_eq!(full.accept_proxy_protocol, [prefix("10.0.0.0/8")]);
    assert_eq!(full.limits.connections, count(100));
    assert_eq!(full.idle_timeout, Duration::from_mins(31));
    check(
        &file(
            "tcp",
            "protocol = \"udp\"\nheaders = \"none\"\nsource = \"client\"\nlimits = { rate = 5 }\nproxy_protocol = \"v3\"\n",
        ),
        &[
            "lb.toml:7:12: service \"a\": protocol: is only for mode = \"l4\"; datagrams can be forwarded, not relayed",
            "lb.toml:8:1: service \"a\": headers: is only for mode = \"http\", and this is mode = \"tcp\", which doesn't look at what it relays; remove it, or change the other",
            "lb.toml:9:1: service \"a\": source: is only for mode = \"l4\", and this is mode = \"tcp\"; remove it, or change the other",
            "lb.toml:10:12: service \"a\": limits.rate: unknown key; the keys here are connections, connections_per_client, tls_handshake",
            "lb.toml:11:18: service \"a\": proxy_protocol: `v3` is not \"v1\" or \"v2\"",
        ],
    );
}
