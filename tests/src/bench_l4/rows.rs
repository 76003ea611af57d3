//! What is measured: forwarding modes, loads, and the packets and tables of each.
//!
//! A new mode is a new element of [`MODES`]: it gets every load, the comparison with the host, and its claims. Not
//! here: how a load is measured (`measure`).

use anyhow::{Context as _, Result};
use lb_ebpf::{
    abi::{MAX_SNAT_ADDRESSES, RING_SIZE},
    fixtures::{Segment, VIP, World, world},
    maglev::{Candidate, Ring, build},
    replay::client,
    tcp::Flags,
    verdict::Reason,
};

/// A way to forward, of one family and protocol.
pub(super) struct Mode {
    /// For people.
    pub(super) title: &'static str,
    /// Builds what userspace would write for a table with this many sets.
    pub(super) world: fn(u32) -> Result<World>,
    /// Builds a client's frame.
    pub(super) frame: fn(Flags) -> Vec<u8>,
    /// Whether answers pass the balancer.
    pub(super) answers: bool,
    /// Nanoseconds that an established packet may take: one flow, 65k flows, 1M flows.
    pub(super) targets: [f64; 3],
    /// Nanoseconds that a new connection may take.
    pub(super) target_new: f64,
}

/// All of them.
pub(super) const MODES: &[Mode] = &[Mode {
    title: "full NAT, IPv4 TCP",
    world: nat_world,
    frame: |flags| tcp_frame(VIP.0, flags),
    answers: true,
    targets: [25.0, 90.0, 150.0],
    target_new: 250.0,
}];

/// A kind of packet that the program passes to the stack.
pub(super) struct Passed {
    /// For people.
    pub(super) title: &'static str,
    /// Builds the frame.
    pub(super) frame: fn() -> Vec<u8>,
    /// Why it is passed.
    pub(super) reason: Reason,
    /// Whether it can be restored and come from many clients.
    pub(super) clients: Clients,
    /// Nanoseconds that it may take.
    pub(super) target: Option<f64>,
}

/// Whether a frame has a client whom the wrapper can change.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Clients {
    /// Each packet is another one's.
    Many,
    /// It is no TCP.
    None,
}

/// All of them.
pub(super) const PASSED: &[Passed] = &[
    Passed {
        title: "not ours: pass",
        frame: || tcp_frame(STRANGER, Flags::ACK),
        reason: Reason::NotOurs,
        clients: Clients::Many,
        target: Some(10.0),
    },
    Passed {
        title: "ARP: pass",
        frame: arp_frame,
        reason: Reason::Arp,
        clients: Clients::None,
        target: None,
    },
];

/// One virtual service with full NAT, two servers, and source addresses for four times a million flows.
fn nat_world(sets: u32) -> Result<World> {
    let mut world = world();
    world.settings.hash_key = std::array::from_fn(|index| {
        // Any fixed keys, so that runs can be compared; the product draws them.
        let [(high, _), (low, _)] = [2 * index, 2 * index + 1].map(|n| client(!(n as u64)));
        u64::from(high) << 32 | u64::from(low)
    });
    world.settings.flow_set_mask = sets - 1;
    world.snat_addresses = (0..MAX_SNAT_ADDRESSES)
        .map(|index| u8::try_from(index).map(|last| [10, 203, 4, last]))
        .collect::<Result<_, _>>()
        .context("too many source addresses for one network")?;
    world.settings.snat_address_count = MAX_SNAT_ADDRESSES;
    world.settings.snat_port_first = 1024;
    world.settings.snat_port_count = 64_000;
    world.prefilter.extend(&world.snat_addresses);
    let mut ring: Box<Ring> = vec![0; RING_SIZE as usize]
        .try_into()
        .map_err(|_| anyhow::anyhow!("a ring has the length of a ring"))?;
    build(
        &mut ring,
        &mut [Candidate::new(0, 11, 1), Candidate::new(1, 12, 1)],
    );
    world.rings = (0..).zip(ring.iter().copied()).collect();
    Ok(world)
}

/// 69 bytes, as in the measurements of Katran that the targets come from.
fn tcp_frame(destination: [u8; 4], flags: Flags) -> Vec<u8> {
    let (source, port) = client(0);
    Segment {
        macs: ([2, 0, 0, 0, 1, 1], [2, 0, 0, 0, 1, 10]),
        source: (source.to_le_bytes(), u16::from_be(port)),
        destination: (destination, VIP.1),
        flags,
        ttl: 64,
        payload: vec![0; 15],
    }
    .bytes()
}

/// Only the type matters; the kernel reads the rest.
fn arp_frame() -> Vec<u8> {
    let mut frame = vec![0; 60];
    frame[12..14].copy_from_slice(&lb_ebpf::wire::ETHERTYPE_ARP);
    frame
}

/// An address that belongs to nobody here.
const STRANGER: [u8; 4] = [10, 203, 9, 9];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frame_is_that_of_client_zero() {
        let frame = (MODES[0].frame)(Flags::SYN);
        let (address, port) = client(0);
        assert_eq!(frame.len(), 69);
        assert_eq!(frame[26..30], address.to_le_bytes());
        assert_eq!(frame[34..36], port.to_le_bytes());
        assert_eq!(frame[30..34], VIP.0);
    }

    #[test]
    fn a_stranger_is_not_let_through_by_the_filter() {
        let ours = nat_world(2).unwrap().prefilter;
        let bit = lb_ebpf::flow::prefilter_bit;
        assert!(ours.iter().all(|address| bit(*address) != bit(STRANGER)));
    }
}
