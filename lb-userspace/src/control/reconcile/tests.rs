//! What is written when health and neighbours change, and in which order.

use std::net::{IpAddr, Ipv4Addr};

use lb_ebpf::abi::{
    BACKEND_FLAG_REACHABLE, RING_EMPTY, RING_SIZE, SERVICE_FLAG_BEGINS_ON_STACK,
    SERVICE_FLAG_MOVES, SERVICE_KIND_L4,
};

use lb_ebpf::rewrite::Mode;

use super::{DesiredServer, DesiredService, GRACE, Reconciler, SETTLED, Write};
use crate::control::{Before, InUse, Numbers};
use crate::dataplane::NextHop;

const HOP: NextHop = NextHop {
    link: 7,
    source_mac: [2, 0, 0, 0, 0, 1],
    destination_mac: [2, 0, 0, 0, 0, 2],
    neighbour: IpAddr::V4(Ipv4Addr::new(10, 203, 2, 254)),
    source: IpAddr::V4(Ipv4Addr::new(10, 203, 2, 1)),
    mtu: 1500,
};

fn service(last_octet: u8, servers: u8) -> DesiredService {
    let server = |number| DesiredServer {
        address: (Ipv4Addr::new(10, 203, 2, number), 25).into(),
        weight: 1,
        up: true,
        next_hop: Some(HOP),
    };
    DesiredService {
        listen: (Ipv4Addr::new(10, 203, 1, last_octet), 25).into(),
        kind: SERVICE_KIND_L4,
        flags: 0,
        moves: false,
        begins_on_stack: false,
        protocol: 6,
        forward: Mode::Nat,
        mss: 0,
        servers: (1..=servers).map(server).collect(),
    }
}

fn reconciler(services: &[&DesiredService]) -> Reconciler {
    let numbers = Numbers::assign(&Before::default(), &InUse::default(), services);
    Reconciler::new(numbers.unwrap())
}

/// The writes in short: `b3` backend 3 reachable, `x3` unreachable, `r0` a ring in the first half
/// of its service with the backends it names, `s0` the service with this half live, `s-` with none, and after a slash the
/// half that was live before, if that is still known.
fn short(writes: &[Write], id: u32) -> Vec<String> {
    let half = |slot: u32| (slot - id * 2 * RING_SIZE) / RING_SIZE;
    let text = |write: &Write| match write {
        Write::Backend { index, backend } if backend.flags == BACKEND_FLAG_REACHABLE => {
            format!("b{index}")
        }
        Write::Backend { index, .. } => format!("x{index}"),
        Write::Ring { first, ring } => {
            let mut named = ring.to_vec();
            named.sort_unstable();
            named.dedup();
            format!("r{} {named:?}", half(*first))
        }
        Write::Service { service, .. } => {
            let name = |slot| match slot {
                RING_EMPTY => "-".to_owned(),
                slot => half(slot).to_string(),
            };
            match service.previous_ring {
                RING_EMPTY => format!("s{}", name(service.ring)),
                previous => format!("s{}/{}", name(service.ring), name(previous)),
            }
        }
    };
    writes.iter().map(text).collect()
}

/// What is written at `tick`.
#[track_caller]
fn check(
    reconciler: &mut Reconciler,
    (id, tick): (usize, u32),
    desired: &DesiredService,
    expected: &[&str],
) {
    let writes = reconciler.diff(id, desired, tick);
    assert_eq!(short(&writes, u32::try_from(id).unwrap()), expected);
}

#[test]
fn a_ring_follows_its_servers_and_precedes_its_service() {
    let services = [service(1, 2), service(2, 1)];
    let mut reconciler = reconciler(&[&services[0], &services[1]]);
    check(
        &mut reconciler,
        (0, 1000),
        &services[0],
        &["b0", "b1", "r0 [0, 1]", "s0"],
    );
    check(
        &mut reconciler,
        (1, 2000),
        &services[1],
        &["b2", "r0 [2]", "s0"],
    );
    check(&mut reconciler, (0, 3000), &services[0], &[]);
}

#[test]
fn a_change_of_health_uses_the_half_that_nobody_reads() {
    let mut desired = service(1, 3);
    let mut reconciler = reconciler(&[&desired]);
    reconciler.diff(0, &desired, 0);
    desired.servers[1].up = false;
    check(&mut reconciler, (0, 4000), &desired, &["r1 [0, 2]", "s1/0"]);
    desired.servers[1].up = true;
    // The half that is written next is not to be read as the ring before any more.
    let expected = ["s1", "r0 [0, 1, 2]", "s0/1"];
    check(&mut reconciler, (0, 5000), &desired, &expected);
    for server in &mut desired.servers {
        server.up = false;
    }
    check(&mut reconciler, (0, 6000), &desired, &["s-/0"]);
    desired.servers[0].up = true;
    check(
        &mut reconciler,
        (0, 7000),
        &desired,
        &["s-", "r0 [0]", "s0"],
    );
}

#[test]
fn the_ring_before_is_forgotten_when_the_flows_in_flight_have_had_their_time() {
    let mut desired = service(1, 2);
    let mut reconciler = reconciler(&[&desired]);
    reconciler.diff(0, &desired, 7);
    assert_eq!(reconciler.forget_previous(0, &desired, 7 + GRACE), None);
    // Of the start, which knew only some of the servers yet.
    desired.servers[1].up = false;
    let writes = reconciler.diff(0, &desired, 7 + SETTLED - 1);
    assert_eq!(short(&writes, 0), ["r1 [0]", "s1"]);
    desired.servers[1].up = true;
    reconciler.diff(0, &desired, 500);
    desired.servers[1].up = false;
    let writes = reconciler.diff(0, &desired, 1000);
    assert_eq!(short(&writes, 0), ["s0", "r1 [0]", "s1/0"]);
    let early = reconciler.forget_previous(0, &desired, 1000 + GRACE - 1);
    assert_eq!(early, None);
    let write = reconciler.forget_previous(0, &desired, 1000 + GRACE);
    assert_eq!(short(&Vec::from_iter(write), 0), ["s1"]);
    let again = reconciler.forget_previous(0, &desired, 1001 + GRACE);
    assert_eq!(again, None);
}

#[test]
fn a_server_out_of_reach_leaves_the_ring_before_the_map() {
    let mut desired = service(1, 2);
    let mut reconciler = reconciler(&[&desired]);
    reconciler.diff(0, &desired, 0);
    desired.servers[0].next_hop = None;
    check(
        &mut reconciler,
        (0, 8000),
        &desired,
        &["r1 [1]", "s1/0", "x0"],
    );
    let moved = NextHop {
        destination_mac: [2, 0, 0, 0, 0, 9],
        ..HOP
    };
    desired.servers[0].next_hop = Some(moved);
    let expected = ["b0", "s1", "r0 [0, 1]", "s0/1"];
    check(&mut reconciler, (0, 9000), &desired, &expected);
    // A new network card of a server in use: nothing but its hardware address is written.
    desired.servers[1].next_hop = Some(moved);
    check(&mut reconciler, (0, 10000), &desired, &["b1"]);
}

#[test]
fn where_connections_begin_is_one_write_of_the_service() {
    let mut desired = service(1, 1);
    let mut reconciler = reconciler(&[&desired]);
    reconciler.diff(0, &desired, 0);
    let mut written = |moves, begins_on_stack| {
        (desired.moves, desired.begins_on_stack) = (moves, begins_on_stack);
        let writes = reconciler.diff(0, &desired, 1000);
        let flags = writes.iter().map(|write| match write {
            // Of the same ring, which is as settled as it was.
            Write::Service { service, .. } => (service.flags, service.ring, service.previous_ring),
            other => panic!("{other:?}"),
        });
        flags.collect::<Vec<_>>()
    };
    let service = |flags| vec![(flags, 0, RING_EMPTY)];
    assert_eq!(written(true, false), service(SERVICE_FLAG_MOVES));
    let both = SERVICE_FLAG_MOVES | SERVICE_FLAG_BEGINS_ON_STACK;
    assert_eq!(written(true, true), service(both));
    assert_eq!(written(true, true), []);
    assert_eq!(written(true, false), service(SERVICE_FLAG_MOVES));
    // Nothing begins where nobody asks the map.
    assert_eq!(written(false, true), service(0));
    // And what follows has them, too.
    assert_eq!(written(true, true), service(both));
    desired.servers[0].up = false;
    let writes = reconciler.diff(0, &desired, 2000);
    let [Write::Service { service, .. }] = &writes[..] else {
        panic!("{writes:?}");
    };
    assert_eq!((service.flags, service.ring), (both, RING_EMPTY));
}
