//! What is measured: forwarding modes, loads, and the packets and tables of each.
//!
//! A new mode is a new element of [`OTHERS`]: it gets a service of its own, the comparison with the host, its loads and
//! its claim. Not here: how a load is measured (`load`), and which there are (`measure`).

use anyhow::{Context as _, Result};
use lb_ebpf::{
    abi::{
        Backend, CORE_FIRST, CORE_SHIFT, CORE_SPREAD, FORWARD_DSR, FORWARD_GUE, FORWARD_IPIP,
        FORWARD_NAT, MAX_SNAT_ADDRESSES, RING_SIZE, SERVICE_FLAG_KEEP_SOURCE,
        SETTINGS_MATCH_SOURCE, Service, ServiceKey, ServiceKey6, mapped,
    },
    fixtures::{Address, Checksum, Datagram, Endpoint, Segment, VIP, World, world},
    flow::{WAYS, initial_core},
    maglev::{Candidate, Ring, build},
    replay::{Plan, client},
    tcp::Flags,
    verdict::Reason,
    wire::{PROTOCOL_TCP, PROTOCOL_UDP},
};

/// A way to forward, of one family and protocol. Each has a service of its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mode {
    /// For people.
    pub(super) title: &'static str,
    family: Family,
    protocol: u8,
    port: u16,
    /// `FORWARD_*`.
    forward: u8,
    /// `SERVICE_FLAG_*`.
    flags: u8,
    /// Nanoseconds that an established packet of one flow may take beyond one of [`NAT`].
    pub(super) beyond_nat: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

/// What most are compared with, and measured in full detail.
pub(super) const NAT: Mode = Mode {
    title: "full NAT, IPv4 TCP",
    family: Family::V4,
    protocol: PROTOCOL_TCP,
    port: 25,
    forward: FORWARD_NAT,
    flags: 0,
    beyond_nat: None,
};

/// All others.
pub(super) const OTHERS: &[Mode] = &[
    Mode {
        title: "source kept, IPv4 TCP",
        port: 26,
        flags: SERVICE_FLAG_KEEP_SOURCE,
        ..NAT
    },
    Mode {
        title: "full NAT, IPv4 UDP",
        protocol: PROTOCOL_UDP,
        ..NAT
    },
    Mode {
        title: "L2 DSR, IPv4 TCP",
        port: 27,
        forward: FORWARD_DSR,
        ..NAT
    },
    Mode {
        title: "IPIP, IPv4 TCP",
        port: 28,
        forward: FORWARD_IPIP,
        beyond_nat: Some(15.0),
        ..NAT
    },
    Mode {
        title: "GUE, IPv4 TCP",
        port: 29,
        forward: FORWARD_GUE,
        beyond_nat: Some(25.0),
        ..NAT
    },
    Mode {
        title: "full NAT, IPv6 TCP",
        family: Family::V6,
        beyond_nat: Some(10.0),
        ..NAT
    },
    Mode {
        title: "full NAT, IPv6 UDP",
        family: Family::V6,
        protocol: PROTOCOL_UDP,
        ..NAT
    },
    Mode {
        title: "L2 DSR, IPv6 TCP",
        family: Family::V6,
        port: 27,
        forward: FORWARD_DSR,
        ..NAT
    },
    Mode {
        title: "IP6IP6, IPv6 TCP",
        family: Family::V6,
        port: 28,
        forward: FORWARD_IPIP,
        ..NAT
    },
    Mode {
        title: "GUE, IPv6 TCP",
        family: Family::V6,
        port: 29,
        forward: FORWARD_GUE,
        ..NAT
    },
];

/// Nanoseconds that an established packet of [`NAT`] may take: one flow, 65k flows, 1M flows.
pub(super) const NAT_TARGETS: [f64; 3] = [25.0, 90.0, 150.0];
/// Nanoseconds that a new connection of [`NAT`] may take.
pub(super) const NAT_TARGET_NEW: f64 = 250.0;

impl Mode {
    /// Whether answers pass the balancer.
    pub(super) fn answers(&self) -> bool {
        self.forward == FORWARD_NAT
    }

    /// Client 0's frame, which the wrapper makes one of any other.
    pub(super) fn frame(&self, flags: Flags) -> Vec<u8> {
        self.frame_of(0, flags)
    }

    /// A client's frame. 69 bytes for TCP over IPv4, as in the measurements of Katran that the targets come from; a
    /// datagram has no flags.
    pub(super) fn frame_of(&self, number: u64, flags: Flags) -> Vec<u8> {
        let (address, port) = client(number);
        let (address, port) = (address.to_le_bytes(), u16::from_be(port));
        match self.family {
            Family::V4 => frame((address, port), (VIP.0, self.port), self.protocol, flags),
            Family::V6 => {
                let mut source = CLIENT6;
                source[8..12].copy_from_slice(&address);
                frame((source, port), (VIP6, self.port), self.protocol, flags)
            }
        }
    }

    /// The plan that restores a frame of this mode.
    pub(super) fn plan(&self, frame: &[u8], order: u64) -> Result<Plan> {
        let plan = Plan::of(frame).context("the frame is too short for the wrapper")?;
        let is_tunnel = matches!(self.forward, FORWARD_IPIP | FORWARD_GUE);
        Ok(Plan {
            order,
            length: if is_tunnel { frame.len() as u64 } else { 0 },
            ..plan
        })
    }

    /// What the server of a frame, as it was sent to it, answers; as the wrapper makes it.
    pub(super) fn answer(&self, sent: &[u8]) -> Vec<u8> {
        let mut frame = sent.to_vec();
        match self.family {
            Family::V4 => {
                frame[26..34].rotate_left(4);
                frame[34..38].rotate_left(2);
            }
            Family::V6 => {
                frame[22..54].rotate_left(16);
                frame[54..58].rotate_left(2);
            }
        }
        frame
    }

    fn service(&self, id: u16) -> Service {
        let (_, service) = world().services[0];
        Service {
            id,
            ring: match self.family {
                Family::V4 => 0,
                Family::V6 => RING_SIZE,
            },
            forward: self.forward,
            flags: self.flags,
            ..service
        }
    }
}

fn frame<A: Address>(
    source: Endpoint<A>,
    destination: Endpoint<A>,
    protocol: u8,
    flags: Flags,
) -> Vec<u8> {
    let macs = ([2, 0, 0, 0, 1, 1], [2, 0, 0, 0, 1, 10]);
    let payload = vec![0; 15];
    if protocol == PROTOCOL_UDP {
        return Datagram {
            macs,
            source,
            destination,
            ttl: 64,
            checksum: Checksum::Computed,
            payload,
        }
        .bytes();
    }
    Segment {
        macs,
        source,
        destination,
        flags,
        ttl: 64,
        payload,
    }
    .bytes()
}

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
        frame: || {
            let (address, port) = client(0);
            let source = (address.to_le_bytes(), u16::from_be(port));
            frame(source, (STRANGER, VIP.1), PROTOCOL_TCP, Flags::ACK)
        },
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

/// A service for each of `modes`, two servers of each family, and source addresses for four times a million flows.
pub(super) fn world_of(modes: &[Mode], sets: u32, sets6: u32) -> Result<World> {
    let mut world = world();
    world.settings.hash_key = std::array::from_fn(|index| {
        // Any fixed keys, so that runs can be compared; the product draws them.
        let [(high, _), (low, _)] = [2 * index, 2 * index + 1].map(|n| client(!(n as u64)));
        u64::from(high) << 32 | u64::from(low)
    });
    world.settings.flow_set_mask = sets - 1;
    world.settings.flow6_set_mask = sets6 - 1;
    add_source_addresses(&mut world)?;
    add_servers(&mut world)?;
    world.services.clear();
    for (id, mode) in (0..).zip(modes) {
        add_service(&mut world, mode, id);
    }
    Ok(world)
}

/// The same world as userspace has left it when the tables hold so many flows of each family.
pub(super) fn settled(world: &World, flows: u32) -> World {
    let core = |mask: u32| {
        let entries = u64::from((mask + 1) >> CORE_SHIFT) * u64::from(WAYS);
        match initial_core(mask + 1) {
            CORE_FIRST if u64::from(flows) * 2 * 8 > entries * 5 => CORE_SPREAD,
            core => core,
        }
    };
    let mut world = world.clone();
    let settings = &mut world.settings;
    settings.flow_core = core(settings.flow_set_mask);
    settings.flow6_core = core(settings.flow6_set_mask);
    world
}

fn add_source_addresses(world: &mut World) -> Result<()> {
    let last = (0..MAX_SNAT_ADDRESSES).map(u8::try_from);
    let last: Vec<u8> = last
        .collect::<Result<_, _>>()
        .context("too many source addresses for one network")?;
    world.snat_addresses = last.iter().map(|last| [10, 203, 4, *last]).collect();
    world.snat_addresses6 = last.iter().map(|last| address6(4, *last)).collect();
    world.settings.snat_address_count = MAX_SNAT_ADDRESSES;
    world.settings.snat6_address_count = MAX_SNAT_ADDRESSES;
    world.settings.snat_port_first = 1024;
    world.settings.snat_port_count = 64_000;
    world.prefilter.extend(&world.snat_addresses);
    world.prefilter6.push(VIP6);
    world.prefilter6.extend(&world.snat_addresses6);
    Ok(())
}

/// Those of IPv4 are elements 0 and 1, in the first ring; those of IPv6 2 and 3, in the second.
fn add_servers(world: &mut World) -> Result<()> {
    for backend in &mut world.backends {
        backend.tunnel_source = mapped([10, 203, 2, 1]);
        backend.mtu = 1500;
    }
    let over_ipv6: Vec<Backend> = (11..)
        .zip(&world.backends)
        .map(|(last, backend)| Backend {
            address: address6(2, last),
            tunnel_source: address6(2, 1),
            ..*backend
        })
        .collect();
    world.backends.extend(over_ipv6);
    world.rings.clear();
    for (first_slot, first_server) in [(0, 0), (RING_SIZE, 2)] {
        let mut ring: Box<Ring> = vec![0; RING_SIZE as usize]
            .try_into()
            .map_err(|_| anyhow::anyhow!("a ring has the length of a ring"))?;
        build(
            &mut ring,
            &mut [
                Candidate::new(first_server, 11, 1),
                Candidate::new(first_server + 1, 12, 1),
            ],
        );
        world.rings.extend((first_slot..).zip(ring.iter().copied()));
    }
    Ok(())
}

fn add_service(world: &mut World, mode: &Mode, id: u16) {
    let service = mode.service(id);
    let (port, protocol, zero) = (mode.port.to_be_bytes(), mode.protocol, 0);
    match mode.family {
        Family::V4 => {
            let address = VIP.0;
            let key = ServiceKey {
                address,
                port,
                protocol,
                zero,
            };
            world.services.push((key, service));
        }
        Family::V6 => {
            let address = VIP6;
            let key = ServiceKey6 {
                address,
                port,
                protocol,
                zero,
            };
            world.services6.push((key, service));
        }
    }
    if mode.flags & SERVICE_FLAG_KEEP_SOURCE != 0 {
        world.settings.flags |= SETTINGS_MATCH_SOURCE;
        let servers = world.backends.iter().map(|backend| backend.address);
        let v4 = servers.filter(|address| address[..12] == mapped([0; 4])[..12]);
        world.prefilter.extend(v4.map(lb_ebpf::abi::unmapped));
    }
}

/// Only the type matters; the kernel reads the rest.
fn arp_frame() -> Vec<u8> {
    let mut frame = vec![0; 60];
    frame[12..14].copy_from_slice(&lb_ebpf::wire::ETHERTYPE_ARP);
    frame
}

/// `fd00:203:<net>::<host>`.
const fn address6(net: u8, host: u8) -> [u8; 16] {
    [0xfd, 0, 2, 3, 0, net, 0, 0, 0, 0, 0, 0, 0, 0, 0, host]
}

/// An address that belongs to nobody here.
const STRANGER: [u8; 4] = [10, 203, 9, 9];
/// Clients have their number in bytes 8 to 11.
const CLIENT6: [u8; 16] = address6(7, 10);
const VIP6: [u8; 16] = address6(1, 100);

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_frame_is_that_of_client_zero() {
        let frame = NAT.frame(Flags::SYN);
        let (address, port) = client(0);
        assert_eq!(frame.len(), 69);
        assert_eq!(frame[26..30], address.to_le_bytes());
        assert_eq!(frame[34..36], port.to_le_bytes());
        assert_eq!(frame[30..34], VIP.0);
        for mode in OTHERS {
            let frame = mode.frame(Flags::SYN);
            let mut plan = mode.plan(&frame, lb_ebpf::replay::ORDER_COUNT).unwrap();
            let before = plan;
            let fields = plan.next_client();
            assert_eq!(u64::from(fields.ports), before.ports, "{}", mode.title);
            assert!(before.addresses.contains(&fields.client), "{}", mode.title);
        }
    }

    #[test]
    fn each_mode_has_a_service_of_its_own() {
        let world = world_of(OTHERS, 2, 2).unwrap();
        let keys: HashSet<_> = world.services.iter().map(|(key, _)| key).collect();
        let keys6: HashSet<_> = world.services6.iter().map(|(key, _)| key).collect();
        assert_eq!(keys.len() + keys6.len(), OTHERS.len());
        let titles: HashSet<_> = OTHERS.iter().map(|mode| mode.title).collect();
        assert_eq!(titles.len(), OTHERS.len());
    }

    #[test]
    fn a_stranger_is_not_let_through_by_the_filter() {
        let ours = world_of(&[NAT], 2, 2).unwrap().prefilter;
        let bit = lb_ebpf::flow::prefilter_bit;
        assert!(ours.iter().all(|address| bit(*address) != bit(STRANGER)));
    }
}
