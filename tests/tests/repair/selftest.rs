//! The self-test on hosts that would, and would not, let a moved connection live; and that what it tells operators to do helps.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
};

use lb_handover::selftest::{self, Reason, SelfTest};
use lb_tests::address::{VIP_HTTP, ipv6};
use nix::net::if_::if_nametoindex;

use crate::world::{World, families, nft};

const PORT: u16 = 443;
const INTERFACE: &str = "lb-front";

fn run(world: &World, ip: IpAddr) -> Result<(), Reason> {
    let sent = world.sent();
    let outcome = world.in_edge(|| {
        selftest::run(&SelfTest {
            listen: SocketAddr::new(ip, PORT),
            interface_index: if_nametoindex(INTERFACE).unwrap(),
            interface_name: INTERFACE.to_owned(),
        })
    });
    assert_eq!(world.sent(), sent, "something has left");
    if let Err(reason) = &outcome {
        eprintln!("{reason}");
    }
    outcome
}

fn ip(world: &World, line: &str) {
    let mut ip = world.lab.edge().command("ip");
    assert!(
        ip.args(line.split(' ')).status().unwrap().success(),
        "{line}"
    );
}

fn sysctl(world: &World, key: &str, value: &str) {
    world.in_edge(|| fs::write(format!("/proc/sys/net/{key}"), value).unwrap());
}

#[test]
fn a_host_that_drops_nothing_passes() {
    let world = World::new();
    for ip in families() {
        run(&world, ip).unwrap();
    }
    // Twice: what connection tracking remembers of the first one doesn't matter.
    for ip in families() {
        run(&world, ip).unwrap();
    }
}

#[test]
fn an_address_of_another_host_is_named() {
    let world = World::new();
    for ip in [
        IpAddr::from([10, 203, 1, 99]),
        ipv6([10, 203, 1, 99].into()).into(),
    ] {
        let reason = run(&world, ip).unwrap_err();
        assert!(
            matches!(reason, Reason::NotLocal(it) if it == ip),
            "{reason}"
        );
    }
}

#[test]
fn strict_connection_tracking_is_named_and_what_is_advised_helps() {
    let world = World::new();
    nft(
        &world.lab,
        "add table inet strict
         add chain inet strict input { type filter hook input priority 0; }
         add rule inet strict input ct state invalid drop",
    );
    for ip in families() {
        run(&world, ip).unwrap();
    }
    sysctl(&world, "netfilter/nf_conntrack_tcp_loose", "0");
    for ip in families() {
        let reason = run(&world, ip).unwrap_err();
        assert!(matches!(reason, Reason::ConntrackStrict { .. }), "{reason}");
    }
    nft(
        &world.lab,
        "add table inet exempt
         add chain inet exempt prerouting { type filter hook prerouting priority raw; }
         add chain inet exempt output { type filter hook output priority raw; }",
    );
    for (chain, rule) in families().into_iter().flat_map(advised) {
        nft(&world.lab, &format!("add rule inet exempt {chain} {rule}"));
    }
    for ip in families() {
        run(&world, ip).unwrap();
    }
}

/// The rules that the reason advises, by their chain.
fn advised(ip: IpAddr) -> Vec<(&'static str, String)> {
    let reason = Reason::ConntrackStrict {
        listen: SocketAddr::new(ip, PORT),
    };
    let text = reason.to_string();
    let rules = text.split('`').skip(1).step_by(2).map(str::to_owned);
    ["prerouting", "output"].into_iter().zip(rules).collect()
}

#[test]
fn reverse_path_filtering_is_named_and_what_is_advised_helps() {
    let world = World::new();
    let vip = VIP_HTTP.into();
    sysctl(&world, "ipv4/conf/all/rp_filter", "1");
    run(&world, vip).unwrap();
    ip(&world, "route del 10.203.1.0/24 dev lb-front");
    ip(&world, "route add 10.203.1.0/24 dev lb-back");
    match run(&world, vip).unwrap_err() {
        Reason::ReversePath { of_all, .. } => assert_eq!(of_all, "1"),
        reason => panic!("{reason}"),
    }
    sysctl(&world, "ipv4/conf/all/rp_filter", "2");
    run(&world, vip).unwrap();
}

#[test]
fn another_rule_is_at_least_noticed() {
    let world = World::new();
    world.block();
    for ip in families() {
        run(&world, ip).unwrap();
    }
    nft(
        &world.lab,
        &format!("add rule inet repair wire iifname lb-front tcp dport {PORT} drop"),
    );
    for ip in families() {
        let reason = run(&world, ip).unwrap_err();
        assert!(matches!(reason, Reason::Dropped { .. }), "{reason}");
    }
}

#[test]
fn a_rule_that_drops_what_comes_back_is_named() {
    let world = World::new();
    nft(
        &world.lab,
        &format!(
            "add chain inet repair output {{ type filter hook output priority 0; }}
             add rule inet repair output tcp dport {PORT} drop"
        ),
    );
    for ip in families() {
        let reason = run(&world, ip).unwrap_err();
        assert!(matches!(reason, Reason::NotReinjected { .. }), "{reason}");
    }
    nft(
        &world.lab,
        &format!(
            "flush chain inet repair output
             add rule inet repair wire iifname lo tcp dport {PORT} drop"
        ),
    );
    for ip in families() {
        let reason = run(&world, ip).unwrap_err();
        assert!(matches!(reason, Reason::NotReinjected { .. }), "{reason}");
    }
}

/// Where clients come from anywhere the peer does too, and rules about the interface's own network say nothing.
#[test]
fn the_peer_is_where_clients_are() {
    let world = World::new();
    let drop = |what: &str| {
        nft(
            &world.lab,
            &format!("add rule inet repair wire {what} drop"),
        );
    };
    drop("ip saddr 192.0.2.1");
    drop("ip6 saddr 2001:db8::1");
    for ip in families() {
        run(&world, ip).unwrap();
    }
    ip(&world, "route add default via 10.203.1.10");
    let gateway = ipv6([10, 203, 1, 10].into());
    ip(&world, &format!("-6 route add default via {gateway}"));
    for ip in families() {
        let reason = run(&world, ip).unwrap_err();
        assert!(matches!(reason, Reason::Dropped { .. }), "{reason}");
    }
}
