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
use crate::wire::{Eth, Ipv4, PROTOCOL_UDP, Packet, Tcp, Udp};

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
pub struct Rewrite {
    /// Source and destination address as in [`Ipv4::addresses`].
    pub addresses: u64,
    /// Source and destination port as in [`Tcp::ports`].
    pub ports: u32,
    /// Hardware addresses of the next hop and of our interface.
    pub macs: Macs,
    /// Interface to leave by.
    pub ifindex: u32,
}

impl Rewrite {
    /// Writes the new addresses and ports and takes one hop off the time to live.
    ///
    /// `None`, with the packet unchanged, if it is shorter than the headers of TCP or UDP over IPv4. The
    /// caller has parsed them and seen a time to live above one; the check is for the verifier.
    #[inline(always)]
    pub fn apply<P: Packet + ?Sized>(&self, packet: &mut P) -> Option<()> {
        let ip = packet.header::<Ipv4>(Eth::LEN)?;
        let old_addresses = u64::from_ne_bytes(ip.addresses);
        // The last header first, so that a packet too short is not half rewritten.
        if ip.protocol == PROTOCOL_UDP {
            self.apply_udp(packet, old_addresses)?;
        } else {
            self.apply_tcp(packet, old_addresses)?;
        }
        let ip = packet.header_mut::<Ipv4>(Eth::LEN)?;
        let old_hop = u32::from(u16::from_ne_bytes([ip.ttl, ip.protocol]));
        ip.ttl = ip.ttl.wrapping_sub(1);
        let new_hop = u32::from(u16::from_ne_bytes([ip.ttl, ip.protocol]));
        ip.checksum = Update::new(ip.checksum)
            .long(old_addresses, self.addresses)
            .word(old_hop, new_hop)
            .finish();
        ip.addresses = self.addresses.to_ne_bytes();

        self.macs.write(packet.header_mut::<Eth>(0)?);
        Some(())
    }

    #[inline(always)]
    fn apply_tcp<P: Packet + ?Sized>(&self, packet: &mut P, old_addresses: u64) -> Option<()> {
        let tcp = packet.header_mut::<Tcp>(Eth::LEN + Ipv4::LEN)?;
        tcp.checksum = self.checksum(tcp.checksum, old_addresses, tcp.ports);
        tcp.ports = self.ports.to_ne_bytes();
        Some(())
    }

    #[inline(always)]
    fn apply_udp<P: Packet + ?Sized>(&self, packet: &mut P, old_addresses: u64) -> Option<()> {
        let udp = packet.header_mut::<Udp>(Eth::LEN + Ipv4::LEN)?;
        if udp.checksum != Udp::NO_CHECKSUM {
            udp.checksum = match self.checksum(udp.checksum, old_addresses, udp.ports) {
                // Otherwise it would say that there is none.
                Udp::NO_CHECKSUM => [0xff, 0xff],
                computed => computed,
            };
        }
        udp.ports = self.ports.to_ne_bytes();
        Some(())
    }

    /// The checksum of the transport header, which covers the addresses as well.
    #[inline(always)]
    fn checksum(&self, old: [u8; 2], old_addresses: u64, old_ports: [u8; 4]) -> [u8; 2] {
        Update::new(old)
            .long(old_addresses, self.addresses)
            .word(u32::from_ne_bytes(old_ports), self.ports)
            .finish()
    }
}
