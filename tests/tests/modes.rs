//! Every mode of forwarding on a real kernel with real sockets: both families, TCP and UDP.
//!
//! Needs root and an `lb` with the XDP program inside (`cargo xtask test` builds it).

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers as well"
)]

use std::{collections::BTreeSet, net::IpAddr};

use lb_tests::{
    address::{CLIENT, SNAT},
    forwarding::{Family, Forward, Stage},
    witness,
};

const SERVERS: u8 = 2;

/// Connections and datagrams from many ports: they arrive whole, from the address that servers shall see, at all servers.
fn check(family: Family, forward: Forward, peer: IpAddr) -> Stage {
    let stage = Stage::start(family, forward, SERVERS).unwrap();
    let service = family.service();
    let data: Vec<u8> = (0..100_003_u32).map(|place| (place % 251) as u8).collect();
    let mut servers = BTreeSet::new();
    for _ in 0..12 {
        let seen = witness::ask(service, &data).unwrap();
        assert_eq!((seen.bytes, seen.sum), (data.len(), witness::sum(&data)));
        assert_eq!(seen.peer.ip(), peer);
        servers.insert(seen.server);
    }
    assert_eq!(servers.len(), usize::from(SERVERS), "TCP to all servers");
    servers.clear();
    for _ in 0..12 {
        let socket = witness::datagram_socket(service).unwrap();
        let mut of_flow = BTreeSet::new();
        for length in [0, 1, 700, 1400] {
            let seen = witness::ask_datagram(&socket, service, &data[..length]).unwrap();
            assert_eq!(seen.peer.ip(), peer);
            of_flow.insert(seen.server);
        }
        assert_eq!(of_flow.len(), 1, "a flow stays at its server");
        servers.extend(of_flow);
    }
    assert_eq!(servers.len(), usize::from(SERVERS), "UDP to all servers");
    stage
}

#[test]
fn full_nat() {
    for family in Family::ALL {
        check(family, Forward::Nat, family.of(SNAT));
    }
}

#[test]
fn nat_with_the_source_kept() {
    for family in Family::ALL {
        check(family, Forward::SourceKept, family.of(CLIENT));
    }
}

#[test]
fn direct_server_return() {
    for family in Family::ALL {
        check(family, Forward::Dsr, family.of(CLIENT));
    }
}

/// A client that sends full frames learns by the error message that less fits, and its data arrive.
#[test]
fn ip_in_ip() {
    for family in Family::ALL {
        let stage = check(family, Forward::Ipip, family.of(CLIENT));
        assert!(stage.counter("too_big").unwrap() > 0, "{family:?}");
    }
}

#[test]
fn generic_udp_encapsulation() {
    for family in Family::ALL {
        let stage = check(family, Forward::Gue, family.of(CLIENT));
        assert!(stage.counter("too_big").unwrap() > 0, "{family:?}");
    }
}
