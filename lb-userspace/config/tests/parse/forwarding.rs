//! Modes of forwarding, protocols and families: what fits together and what does not.

use std::num::NonZero;
use std::time::Duration;

use lb_config::{
    AfXdp, Affinity, Forward, L4, Mode, Protocol, Source, WhenDaemonGone, WhenServerFails, parse,
};

use crate::check;

fn file(service: &str) -> String {
    format!("interfaces = [\"eth0\"]\n\n[[service]]\nname = \"a\"\n{service}")
}

fn l4(service: &str) -> (L4, Protocol) {
    let config = parse(&file(service)).expect("no mistakes");
    match &config.services[0].mode {
        Mode::L4(l4) => (l4.clone(), config.services[0].protocol),
        Mode::Http(_) | Mode::Tcp(_) => panic!("l4"),
    }
}

#[test]
fn every_mode_and_choice_has_its_word() {
    let rest = "listen = \"192.0.2.1:53\"\nmode = \"l4\"\nservers = [{ address = \"10.0.0.1:53\", weight = 0 }]\n";
    let modes = [
        ("dsr", Forward::Dsr),
        ("ipip", Forward::Ipip),
        ("gue", Forward::Gue),
    ];
    for (word, forward) in modes {
        let (found, protocol) = l4(&format!("{rest}forward = \"{word}\"\n"));
        assert_eq!((found.forward, protocol), (forward, Protocol::Tcp));
        assert_eq!(found.idle_timeout, Duration::from_mins(40));
        assert_eq!(found.affinity, Affinity::None);
        assert_eq!(found.when_server_fails, WhenServerFails::Leave);
        assert_eq!(found.when_daemon_gone, WhenDaemonGone::Forward);
    }
    let (found, protocol) = l4(&format!(
        "{rest}protocol = \"udp\"\nsource = \"client\"\naffinity = \"client\"\nwhen_server_fails = \"cut\"\n\
         when_daemon_gone = \"pass\"\n"
    ));
    let (clamped, _) = l4(&format!("{rest}source = \"client\"\nmss = 1400\n"));
    assert_eq!(clamped.mss.map(std::num::NonZeroU16::get), Some(1400));
    assert_eq!(found.mss, None);
    assert_eq!(found.forward, Forward::Nat(Source::Client));
    assert_eq!(
        (protocol, found.affinity),
        (Protocol::Udp, Affinity::Client)
    );
    assert_eq!(found.when_server_fails, WhenServerFails::Cut);
    assert_eq!(found.when_daemon_gone, WhenDaemonGone::Pass);
    assert_eq!(found.idle_timeout, Duration::from_mins(5));
}

#[test]
fn a_service_may_be_ipv6_and_share_its_port_with_another_protocol() {
    let service = |protocol: &str| {
        format!(
            "name = \"{protocol}\"\nlisten = \"[2001:db8::1]:53\"\nmode = \"l4\"\nprotocol = \"{protocol}\"\n\
             servers = [\"[2001:db8:1::1]:53\"]\n"
        )
    };
    let nat = "[nat]\naddresses = [\"192.0.2.9\", \"2001:db8::9\"]\n";
    let text = format!(
        "interfaces = [\"eth0\"]\n[flows]\nhash_key = \"0123456789abcdef\"\n{nat}\n[[service]]\n{}\n[[service]]\n{}",
        service("tcp"),
        service("udp")
    );
    let config = parse(&text).expect("no mistakes");
    assert!(
        config
            .services
            .iter()
            .all(|service| service.listen.is_ipv6())
    );
    let key = config.flows.hash_key.expect("given");
    assert_eq!(key.as_str(), "0123456789abcdef");
    assert!(
        !format!("{key:?}").contains("0123"),
        "a secret is never shown"
    );
}

#[test]
fn the_daemon_may_be_gone_for_a_minute_unless_told_otherwise() {
    let rest = "listen = \"192.0.2.1:53\"\nmode = \"l4\"\nsource = \"client\"\nservers = [\"10.0.0.1:53\"]\n";
    let flows = |text: &str| {
        parse(&file(&format!("{rest}{text}")))
            .expect("no mistakes")
            .flows
    };
    assert_eq!(flows("").orphaned_after, Duration::from_mins(1));
    let told = "[flows]\norphaned_after = \"2s\"\n";
    assert_eq!(flows(told).orphaned_after, Duration::from_secs(2));
    check(
        &file(&format!(
            "{rest}when_daemon_gone = \"drop\"\n[flows]\norphaned_after = \"1s\"\n"
        )),
        &[
            r#"lb.toml:9:20: service "a": when_daemon_gone: `drop` is not "forward" or "pass""#,
            "lb.toml:11:18: flows.orphaned_after: `1s` is not from 2s to 24h",
        ],
    );
    check(
        &file(
            "listen = \"192.0.2.1:80\"\nmode = \"http\"\nservers = [\"10.0.0.1:80\"]\nwhen_daemon_gone = \"pass\"\n",
        ),
        &[
            r#"lb.toml:8:1: service "a": when_daemon_gone: is only for mode = "l4", and this is mode = "http"; remove it, or change the other"#,
        ],
    );
}

#[test]
fn the_workers_tcp_has_limits_that_can_be_set() {
    let rest = "listen = \"192.0.2.1:80\"\nmode = \"http\"\nservers = [\"10.0.0.1:80\"]\n";
    let limits = |text: &str| {
        let config = parse(&file(&format!("{rest}{text}"))).expect("no mistakes");
        let AfXdp {
            connections,
            memory_mib,
            spin,
            moves_per_second,
            moved_connections,
        } = config.af_xdp;
        let moves = (moves_per_second.get(), moved_connections.map(NonZero::get));
        (connections.get(), memory_mib, spin.as_micros(), moves)
    };
    assert_eq!(limits(""), (1 << 20, 256, 0, (1000, None)));
    let told = "[af_xdp]\nconnections = 10\nmemory_mib = 16\nspin_us = 50\nmoves_per_second = 5\nmoved_connections = 7\n";
    assert_eq!(limits(told), (10, 16, 50, (5, Some(7))));
    check(
        &file(&format!(
            "{rest}[af_xdp]\nconnections = 0\nmemory_mib = 15\nspin_us = 1001\nmoves_per_second = 0\n\
             moved_connections = 65537\n"
        )),
        &[
            "lb.toml:9:15: af_xdp.connections: `0` is not an integer from 1 to 16777216",
            "lb.toml:10:14: af_xdp.memory_mib: `15` is not an integer from 16 to 65536",
            "lb.toml:11:11: af_xdp.spin_us: `1001` is not an integer from 0 to 1000",
            "lb.toml:12:20: af_xdp.moves_per_second: `0` is not an integer from 1 to 25000",
            "lb.toml:13:21: af_xdp.moved_connections: `65537` is not an integer from 1 to 65536",
        ],
    );
}

#[test]
fn what_does_not_fit_together_is_a_mistake() {
    check(
        &file(
            "listen = \"192.0.2.1:53\"\nmode = \"l4\"\nforward = \"ipip\"\nsource = \"client\"\n\
             servers = [\"10.0.0.1:54\", \"[2001:db8::1]:53\"]\n",
        ),
        &[
            r#"lb.toml:8:1: service "a": source: is only for forward = "nat", and this is another mode of forwarding, in which the server always sees the client; remove it, or change the other"#,
            r#"lb.toml:9:12: service "a": servers[0]: forward = "ipip" leaves the port as it is, so the server must listen on 53 and not on 54; change one of the two, or take forward = "nat""#,
            r#"lb.toml:9:27: service "a": servers[1]: [2001:db8::1]:53 and the service's 192.0.2.1:53 are of different families, and addresses are not translated from one to the other; give an address of the same, or take mode = "http""#,
        ],
    );
    check(
        &file(
            "listen = \"192.0.2.1:443\"\nmode = \"http\"\nprotocol = \"udp\"\n\
             servers = [{ address = \"10.0.0.1:443\", weight = 0 }]\n",
        ),
        &[
            r#"lb.toml:7:12: service "a": protocol: is only for mode = "l4"; HTTP over UDP (HTTP/3) can be forwarded, not proxied"#,
            r#"lb.toml:8:49: service "a": servers[0].weight: 0 drains a server of mode = "l4"; in mode = "http" remove the server instead"#,
        ],
    );
    check(
        &file(
            "listen = \"[2001:db8::1]:443\"\nmode = \"http\"\nservers = [\"10.0.0.1:443\"]\n[flows]\nhash_key = \"short\"\n",
        ),
        &[
            "lb.toml:9:12: flows.hash_key: `short` is not a secret of at least 16 bytes, such as the output of `openssl rand -hex 32`",
        ],
    );
    check(
        &file("listen = \"[2001:db8::1]:25\"\nmode = \"l4\"\nservers = [\"[2001:db8::2]:25\"]\n"),
        &[
            r#"lb.toml:3:1: service "a": source: source = "nat" (the default) needs [nat] with IPv6 addresses that are routed to this host; add one, or set source = "client""#,
        ],
    );
}
