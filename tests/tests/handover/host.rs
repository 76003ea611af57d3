//! The whole daemon: what it moves on a host that lets it, and what it says and does on one that doesn't.

use std::{io::Write as _, process::Stdio};

use lb_tests::{
    address::{VIP_HTTP, server},
    binaries, client,
    lab::{Lab, Namespace},
    pool::HTTP_PORT,
    world::{Balancer, World},
};

/// Bytes of a body that is bulk by anybody's measure.
const BULK: usize = 1 << 20;

#[test]
fn a_big_response_moves_its_connection() {
    let world = World::start(1).unwrap();
    let balancer = start(&world);
    fetch(BULK);
    assert_eq!(balancer.tcp("LbMovedResponse").unwrap(), 1);
    let status = lb(&balancer, "status");
    assert!(status.contains("1 moved (response 1)"), "{status}");
}

/// Connection tracking that takes no connection in mid-transfer for one, and a rule that drops what is none: a connection that has
/// moved would hang for ever.
#[test]
fn a_host_that_would_drop_moved_connections_is_named_and_service_goes_on() {
    let world = World::start(1).unwrap();
    drop_what_did_not_begin_here(world.lab());
    let balancer = start(&world);
    let log = balancer.log();
    assert!(log.contains("nf_conntrack_tcp_loose is 0"), "{log}");
    let status = lb(&balancer, "status");
    assert!(
        status.contains("STAY on af_xdp") && status.contains("nf_conntrack_tcp_loose is 0"),
        "{status}"
    );
    let advice = lb(&balancer, "doctor");
    assert!(advice.contains("nf_conntrack_tcp_loose is 0"), "{advice}");
    for _ in 0..10 {
        fetch(BULK);
    }
    assert_eq!(balancer.tcp("LbMoved").unwrap(), 0);
}

fn drop_what_did_not_begin_here(lab: &Lab) {
    let rules = "add table inet hostile
        add chain inet hostile input { type filter hook input priority 0; }
        add rule inet hostile input ct state invalid drop";
    let mut nft = lab.edge().command("nft");
    let mut nft = nft.args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut input = nft.stdin.take().unwrap();
    input.write_all(rules.as_bytes()).unwrap();
    drop(input);
    assert!(nft.wait().unwrap().success());
    // It is there once a rule asks for connection tracking.
    let path = "/proc/sys/net/netfilter/nf_conntrack_tcp_loose";
    let written = lab.edge().run(|| std::fs::write(path, "0"));
    written.unwrap().unwrap();
}

fn start(world: &World) -> Balancer {
    let services = format!(
        "[[service]]\nname = \"web\"\nlisten = \"{VIP_HTTP}:{HTTP_PORT}\"\nmode = \"http\"\ntransport = \"auto\"\n\
         servers = [\"{}:{HTTP_PORT}\"]\nhealth = {{ kind = \"none\" }}\n",
        server(1)
    );
    let mut balancer = world.balance(&services).unwrap();
    balancer.until_served(&url(1)).unwrap();
    balancer
}

fn url(length: usize) -> String {
    format!("http://{VIP_HTTP}:{HTTP_PORT}/bench/{length}")
}

fn fetch(length: usize) {
    let (status, body) = client::get(&url(length)).unwrap();
    assert_eq!((status, body.len()), (200, length));
}

/// What the command says of the running daemon.
fn lb(balancer: &Balancer, command: &str) -> String {
    let mut lb = Namespace::edge().command(binaries::lb().unwrap());
    lb.arg(command).arg("--admin").arg(balancer.admin());
    let output = lb.output().unwrap();
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}
