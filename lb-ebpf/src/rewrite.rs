//! The change that a flow makes to each of its packets.
//!
//! Checksums are updated, not recomputed: a packet that came in damaged goes out damaged, and the end
//! that can ask again will notice (RFC 1624 §1). Sums cost a few additions from values already at
//! hand, so no difference is stored in the flow entry. Called by [`crate::decide`].

#![expect(
    clippy::many_single_char_names,
    reason = "hardware addresses are taken apart into bytes in their order"
)]

mod encapsulate;
mod quoted;

pub use encapsulate::{TUNNEL_HOPS, tunnel_ports};
pub use quoted::Quoted;

use crate::abi::{FORWARD_DSR, FORWARD_GUE, FORWARD_IPIP, FORWARD_NAT};
use crate::checksum::Update;
use crate::family::{Family, V4};
use crate::flow::Key;
use crate::layout::{Layout, Tags};
use crate::wire::{Eth, PROTOCOL_UDP, Packet, Tcp, Udp};

/// Both hardware addresses of a frame, destination first, as the integers they are stored by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Macs {
    /// Bytes 0 to 7 as read from the frame.
    pub head: u64,
    /// Bytes 8 to 11 as read from the frame.
    pub tail: u32,
}

impl Macs {
    /// Those of a frame.
    #[inline(always)]
    pub fn of(eth: &Eth) -> Self {
        Self {
            head: u64::from_ne_bytes(eth.addresses_head),
            tail: u32::from_ne_bytes(eth.addresses_tail),
        }
    }

    /// From the two addresses.
    #[inline(always)]
    pub fn new(destination: [u8; 6], source: [u8; 6]) -> Self {
        let [a, b, c, d, e, f] = destination;
        let [g, h, i, j, k, l] = source;
        Self {
            head: u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
            tail: u32::from_ne_bytes([i, j, k, l]),
        }
    }

    /// Those of a frame that answers.
    #[inline(always)]
    #[must_use]
    pub fn swapped(self) -> Self {
        let [a, b, c, d, e, f, g, h] = self.head.to_ne_bytes();
        let [i, j, k, l] = self.tail.to_ne_bytes();
        Self::new([g, h, i, j, k, l], [a, b, c, d, e, f])
    }

    /// Whether the frame is for more than one station (IEEE 802, clause 8.2.2: the first bit on the wire).
    #[inline(always)]
    pub(crate) fn to_many(self) -> bool {
        let [first, ..] = self.head.to_ne_bytes();
        first & 1 != 0
    }

    #[inline(always)]
    pub(crate) fn write(self, eth: &mut Eth) {
        eth.addresses_head = self.head.to_ne_bytes();
        eth.addresses_tail = self.tail.to_ne_bytes();
    }
}

/// How the packets of a flow are forwarded; `FORWARD_*` of a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Mode {
    /// Addresses and ports are rewritten, and back again in what the server answers.
    #[default]
    Nat = FORWARD_NAT,
    /// Hardware addresses only. The server answers by itself, as in the modes below.
    Dsr = FORWARD_DSR,
    /// In another IP header.
    Ipip = FORWARD_IPIP,
    /// In another IP and a UDP header.
    Gue = FORWARD_GUE,
}

impl Mode {
    /// The mode of a number; of one that is none, that of the lowest bits.
    #[inline(always)]
    #[must_use]
    pub const fn of_bits(bits: u8) -> Self {
        match bits & 3 {
            FORWARD_DSR => Self::Dsr,
            FORWARD_IPIP => Self::Ipip,
            FORWARD_GUE => Self::Gue,
            _ => Self::Nat,
        }
    }

    /// Whether answers come by here as well.
    #[inline(always)]
    #[must_use]
    pub const fn is_two_way(self) -> bool {
        matches!(self, Self::Nat)
    }
}

/// What the packets of a flow look like when they leave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rewrite<F: Family = V4> {
    /// How to read the next two.
    pub mode: Mode,
    /// Source and destination address; in a tunnel, of the outer header.
    pub addresses: F::Addresses,
    /// Source and destination port as in [`Tcp::ports`]; in a tunnel, [`tunnel_ports`].
    pub ports: u32,
    /// Hardware addresses of the next hop and of our interface.
    pub macs: Macs,
    /// Link to leave by: the kernel index of an interface, or [`LINK_VLAN`](crate::abi::LINK_VLAN) and a VLAN.
    pub link: u32,
}

/// What became of a packet that was to be rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It is ready to leave.
    Done,
    /// Nothing: with the headers of the tunnel it would be longer than the way to the server takes.
    TooBig,
}

impl<F: Family> Rewrite<F> {
    /// The tuple of the packets that answer a rewritten one of `protocol`; `None` if they don't come by here.
    #[inline(always)]
    pub fn peer(&self, protocol: u8) -> Option<Key<F>> {
        let key = Key {
            addresses: self.addresses,
            ports: self.ports,
            protocol,
        };
        self.mode.is_two_way().then(|| key.reversed())
    }

    /// Makes the packet one for its receiver, behind `tags`, and takes one hop off its time to live.
    ///
    /// `None` if it is shorter than its headers, or if there is no room for those of a tunnel or for tags. The caller has
    /// parsed them and seen a time to live above one, so that the first is for the verifier only.
    #[inline(always)]
    pub fn apply<P: Packet + ?Sized>(
        &self,
        packet: &mut P,
        layout: Layout,
        tags: Tags,
    ) -> Option<Applied> {
        match self.mode {
            Mode::Nat => self.translate(packet, layout)?,
            Mode::Dsr => Self::hop(packet, layout)?,
            Mode::Ipip | Mode::Gue => return self.encapsulate(packet, layout, tags),
        }
        self.link(packet, layout, tags)
    }

    /// Puts the network header behind `tags`, and writes what stands before it.
    #[inline(always)]
    fn link<P: Packet + ?Sized>(
        &self,
        packet: &mut P,
        layout: Layout,
        tags: Tags,
    ) -> Option<Applied> {
        let front = tags.network();
        if front != layout.network {
            packet.move_front(distance(front, layout.network))?;
        }
        self.write_link(packet, tags)?;
        Some(Applied::Done)
    }

    #[inline(always)]
    fn write_link<P: Packet + ?Sized>(&self, packet: &mut P, tags: Tags) -> Option<()> {
        self.macs.write(packet.header_mut::<Eth>(0)?);
        tags.write(packet, F::ETHERTYPE)
    }

    #[inline(always)]
    fn hop<P: Packet + ?Sized>(packet: &mut P, layout: Layout) -> Option<()> {
        let network = packet.header_mut::<F::Header>(layout.network)?;
        F::forward(network, F::addresses(network));
        Some(())
    }

    #[inline(always)]
    fn translate<P: Packet + ?Sized>(&self, packet: &mut P, layout: Layout) -> Option<()> {
        let network = packet.header::<F::Header>(layout.network)?;
        let old = F::addresses(network);
        // The last header first, so that a packet too short is not half rewritten.
        if layout.has_transport() {
            if layout.protocol == PROTOCOL_UDP {
                self.apply_udp(packet.header_mut::<Udp>(layout.transport)?, old);
            } else {
                self.apply_tcp(packet.header_mut::<Tcp>(layout.transport)?, old);
            }
        }
        F::forward(packet.header_mut(layout.network)?, self.addresses);
        Some(())
    }

    #[inline(always)]
    fn apply_tcp(&self, tcp: &mut Tcp, old: F::Addresses) {
        tcp.checksum = self.checksum(tcp.checksum, old, tcp.ports);
        tcp.ports = self.ports.to_ne_bytes();
    }

    #[inline(always)]
    fn apply_udp(&self, udp: &mut Udp, old: F::Addresses) {
        if udp.checksum != Udp::NO_CHECKSUM {
            udp.checksum = match self.checksum(udp.checksum, old, udp.ports) {
                // Otherwise it would say that there is none.
                Udp::NO_CHECKSUM => [0xff, 0xff],
                computed => computed,
            };
        }
        udp.ports = self.ports.to_ne_bytes();
    }

    /// The checksum of the transport header, which covers the addresses as well.
    #[inline(always)]
    fn checksum(&self, old: [u8; 2], old_addresses: F::Addresses, old_ports: [u8; 4]) -> [u8; 2] {
        F::update(Update::new(old), old_addresses, self.addresses)
            .word(u32::from_ne_bytes(old_ports), self.ports)
            .finish()
    }
}

/// How far the start of a packet moves when what was at `old` is to be at `new`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "offsets within a few headers"
)]
#[inline(always)]
pub(crate) const fn distance(new: usize, old: usize) -> i32 {
    old as i32 - new as i32
}
