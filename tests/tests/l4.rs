//! The layer 4 side of `lb` on a real kernel: whole TCP connections through the XDP program, both directions.
//!
//! Needs root and an `lb` with the XDP program inside (`cargo xtask test` builds it).

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers as well"
)]

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

use lb_tests::{
    address::{CLIENT, CLIENT_EXTRA, SNAT, VIP_SMTP, server},
    client::Smtp,
    world::{Balancer, World},
};

const VIP: SocketAddrV4 = SocketAddrV4::new(VIP_SMTP, 25);

fn smtp(source: &str, servers: u8) -> String {
    let list: Vec<_> = (1..=servers)
        .map(|number| format!("{}:25", server(number)))
        .collect();
    let nat = match source {
        "nat" => format!("[nat]\naddresses = [\"{SNAT}\"]\nports = \"1024-65535\"\n\n"),
        _ => String::new(),
    };
    format!(
        "{nat}[[service]]\nname = \"smtp\"\nlisten = \"{VIP}\"\nmode = \"l4\"\nsource = \"{source}\"\n\
         servers = {list:?}\n\
         health = {{ kind = \"tcp\", interval = \"1s\", timeout = \"1s\", rise = 1, fall = 2 }}\n"
    )
}

fn balance(world: &World, services: &str) -> Balancer {
    let mut balancer = world.balance(services).unwrap();
    balancer
        .eventually("SMTP is served", || Ok(Smtp::connect(CLIENT, VIP).is_ok()))
        .unwrap();
    balancer
}

/// The client's addresses, the usual one and the others.
fn sources() -> impl Iterator<Item = Ipv4Addr> {
    let [a, b, c, _] = CLIENT.octets();
    std::iter::once(CLIENT).chain(CLIENT_EXTRA.map(move |last| Ipv4Addr::new(a, b, c, last)))
}

#[test]
fn the_server_sees_the_client_where_the_source_is_kept() {
    let world = World::start(3).unwrap();
    let _balancer = balance(&world, &smtp("client", 3));
    for source in sources() {
        let mut smtp = Smtp::connect(source, VIP).unwrap();
        assert_eq!(smtp.peer().unwrap(), smtp.local());
        smtp.noop().unwrap();
    }
}

#[test]
fn the_server_sees_the_balancer_with_full_nat() {
    let world = World::start(3).unwrap();
    let _balancer = balance(&world, &smtp("nat", 3));
    for source in sources() {
        let mut smtp = Smtp::connect(source, VIP).unwrap();
        assert_eq!(smtp.peer().unwrap().ip(), IpAddr::V4(SNAT));
        smtp.noop().unwrap();
    }
}

#[test]
fn bytes_arrive_unchanged_both_ways() {
    // Longer than any window, and its period is no power of two, so a piece that is lost, doubled or moved shows.
    let data: Vec<u8> = (0..4_000_037_u32)
        .map(|place| (place % 251) as u8)
        .collect();
    for source in ["client", "nat"] {
        let world = World::start(2).unwrap();
        let _balancer = balance(&world, &smtp(source, 2));
        let mut smtp = Smtp::connect(CLIENT, VIP).unwrap();
        for size in [1, 536, 1460, 1461, 65_536, data.len()] {
            let back = smtp.echo(&data[..size]).unwrap();
            assert!(
                back == data[..size],
                "{source}: {size} bytes came back changed"
            );
        }
    }
}

#[test]
fn every_server_gets_connections() {
    let world = World::start(3).unwrap();
    let mut balancer = balance(&world, &smtp("nat", 3));
    balancer
        .eventually("all three serve", || {
            Ok(servers_of(60) == ["EX1", "EX2", "EX3"])
        })
        .unwrap();
}

#[test]
fn a_dead_server_leaves_and_returns_and_others_do_not_notice() {
    for source in ["client", "nat"] {
        let mut world = World::start(3).unwrap();
        let mut balancer = balance(&world, &smtp(source, 3));
        let all = |wanted: &'static [&str]| move || Ok(servers_of(60) == wanted);
        balancer
            .eventually("all serve", all(&["EX1", "EX2", "EX3"]))
            .unwrap();
        let mut bystander = on_another_server("EX2");

        world.kill_server(2);
        balancer
            .eventually("EX2 has left", all(&["EX1", "EX3"]))
            .unwrap();
        bystander.noop().unwrap();

        world.revive_server(2).unwrap();
        balancer
            .eventually("EX2 is back", all(&["EX1", "EX2", "EX3"]))
            .unwrap();
        bystander.noop().unwrap();
    }
}

fn on_another_server(than: &str) -> Smtp {
    (0..100)
        .map(|_| Smtp::connect(CLIENT, VIP).unwrap())
        .find(|smtp| smtp.server() != Some(than))
        .unwrap()
}

/// Names of the servers behind `connections` connections; `"-"` for one that failed.
fn servers_of(connections: usize) -> Vec<String> {
    let mut names: Vec<String> = (0..connections)
        .map(|_| match Smtp::connect(CLIENT, VIP) {
            Ok(smtp) => smtp.server().unwrap_or("?").to_owned(),
            Err(_) => "-".to_owned(),
        })
        .collect();
    names.sort();
    names.dedup();
    names
}
