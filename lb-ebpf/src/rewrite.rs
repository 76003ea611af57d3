//! The change that a flow makes to each of its packets.
//!
//! Checksums are updated, not recomputed: a packet that came in damaged goes out damaged, and the end
//! that can ask again will notice (RFC 1624 §1). Sums cost a few additions from values already at
//! hand, so no difference is stored in the flow entry. Called by [`crate::decide`].

#![expect(
    clippy::many_single_char_names,
    reason = "hardware addresses are taken apart into bytes in their order"
)]

use crate::checksum::Update;
use crate::family::{Family, V4};
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

    #[inline(always)]
    fn write(self, eth: &mut Eth) {
        eth.addresses_head = self.head.to_ne_bytes();
        eth.addresses_tail = self.tail.to_ne_bytes();
    }
}

/// What the packets of a flow look like when they leave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rewrite<F: Family = V4> {
    /// Source and destination address.
    pub addresses: F::Addresses,
    /// Source and destination port as in [`Tcp::ports`].
    pub ports: u32,
    /// Hardware addresses of the next hop and of our interface.
    pub macs: Macs,
    /// Interface to leave by.
    pub ifindex: u32,
}

/// Where in a frame its headers start, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The network header.
    pub network: usize,
    /// The transport header.
    pub transport: usize,
}

impl Layout {
    /// Of a frame without tags, options or extension headers.
    #[inline(always)]
    #[must_use]
    pub const fn plain<F: Family>() -> Self {
        Self {
            network: Eth::LEN,
            transport: Eth::LEN + size_of::<F::Header>(),
        }
    }
}

impl<F: Family> Rewrite<F> {
    /// Writes the new addresses and ports and takes one hop off the time to live.
    ///
    /// `None`, with the packet unchanged, if it is shorter than its headers. The caller has parsed them and
    /// seen a time to live above one; the check is for the verifier.
    #[inline(always)]
    pub fn apply<P: Packet + ?Sized>(&self, packet: &mut P, layout: Layout) -> Option<()> {
        let network = packet.header::<F::Header>(layout.network)?;
        let old = F::addresses(network);
        // The last header first, so that a packet too short is not half rewritten.
        if F::protocol(network) == PROTOCOL_UDP {
            self.apply_udp(packet.header_mut::<Udp>(layout.transport)?, old);
        } else {
            self.apply_tcp(packet.header_mut::<Tcp>(layout.transport)?, old);
        }
        F::forward(packet.header_mut(layout.network)?, self.addresses);
        self.macs.write(packet.header_mut::<Eth>(0)?);
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
