//! Datagrams that no link takes in one piece, and segments that come in several buffers.

use lb_tests::{
    address::{CLIENT, SNAT},
    forwarding::{Family, Forward, Stage},
    witness,
};

/// Three pieces each way.
const LENGTH: usize = 4000;

/// A datagram in pieces arrives whole, from the address that the server shall see, and so does the answer.
#[test]
fn datagrams_in_pieces() {
    let data: Vec<u8> = (0..=250).cycle().take(LENGTH).collect();
    for family in Family::ALL {
        for forward in Forward::ALL {
            let stage = Stage::start(family, forward, 2).unwrap();
            let service = family.service();
            let socket = witness::datagram_socket(service).unwrap();
            let before = stage.counter("forwarded").unwrap();
            if (family, forward) == (Family::V6, Forward::Gue) {
                // The one combination that a fragment can't be carried in; it is counted.
                assert!(witness::ask_datagram(&socket, service, &data).is_err());
                assert!(stage.counter("gue_checksum").unwrap() > 0);
                continue;
            }
            for _ in 0..4 {
                let seen = witness::ask_datagram(&socket, service, &data).unwrap();
                let peer = match forward {
                    Forward::Nat => family.of(SNAT),
                    _ => family.of(CLIENT),
                };
                assert_eq!(seen.peer.ip(), peer, "{family:?} {forward:?}");
            }
            let forwarded = stage.counter("forwarded").unwrap() - before;
            // Three pieces of each datagram, at the least; with answers, as many again.
            assert!(forwarded >= 4 * 3, "{family:?} {forward:?}: {forwarded}");
        }
    }
}
