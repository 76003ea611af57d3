//! VLANs: clients and servers in different ones, with different numbers of tags.

use lb_tests::{
    address::{CLIENT, SNAT},
    forwarding::{Family, Forward, Links, Stage},
    lab, witness,
};

const SERVERS: u8 = 2;

/// Connections and datagrams from a client behind one tag to servers behind two, and back. Where the kernel has no VLAN
/// devices there are no VLANs for `lb` either; `cargo xtask vm` has kernels that have.
#[test]
fn clients_and_servers_in_vlans_of_their_own() {
    if !lab::has_vlans() {
        eprintln!("this kernel has no VLAN devices (8021q): only `cargo xtask vm` shows this");
        return;
    }
    let data: Vec<u8> = (0..=250).cycle().take(100_003).collect();
    for family in Family::ALL {
        for forward in Forward::ALL {
            let stage = Stage::start_on(Links::Tagged, family, forward, SERVERS).unwrap();
            let peer = match forward {
                Forward::Nat => family.of(SNAT),
                _ => family.of(CLIENT),
            };
            for _ in 0..4 {
                let seen = witness::ask(family.service(), &data).unwrap();
                let arrived = (seen.bytes, seen.sum, seen.peer.ip());
                let sent = (data.len(), witness::sum(&data), peer);
                assert_eq!(arrived, sent, "{family:?} {forward:?}");
                let socket = witness::datagram_socket(family.service()).unwrap();
                let seen = witness::ask_datagram(&socket, family.service(), &data[..1000]);
                assert_eq!(seen.unwrap().peer.ip(), peer, "{family:?} {forward:?}");
            }
            assert!(stage.counter("forwarded").unwrap() > 100, "by XDP");
        }
    }
}
