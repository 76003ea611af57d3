//! Making an ICMP error about a packet as it was rewritten one about the packet as its sender knows it.
//!
//! ```text
//!  Ethernet │ IP, to the sender of the quoted packet │ ICMP │ quoted: IP │ 8 bytes or more of TCP or UDP
//! ```
//!
//! The error goes the way of the flow's answers, so the flow's rewrite is for it as well: the message gets the new
//! addresses, the quoted packet the same ones the other way round (RFC 5508 §4.2). Every checksum is updated, that of a
//! transport header too if the quote reaches so far. Undoing is doing: what NAT did to the quoted packet on its way there,
//! this undoes, so the sender recognises every byte.

use super::{Applied, Rewrite};
use crate::checksum::Update;
use crate::family::Family;
use crate::layout::{Layout, Tags};
use crate::wire::{Half, Icmp, PROTOCOL_UDP, Packet, Tcp, Udp};

/// Where the packet that an error is about starts in the frame, and where what is quoted of it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quoted {
    /// Its network header.
    pub network: usize,
    /// Its transport header.
    pub transport: usize,
    /// Protocol of that one.
    pub protocol: u8,
    /// The first byte behind.
    pub end: usize,
}

impl<F: Family> Rewrite<F> {
    /// As [`apply`](Self::apply) with full NAT, of an error about a packet of the other direction.
    #[inline(always)]
    pub fn translate_error<P: Packet + ?Sized>(
        &self,
        packet: &mut P,
        layout: Layout,
        quoted: Quoted,
        tags: Tags,
    ) -> Option<Applied> {
        let old = F::addresses(packet.header::<F::Header>(layout.network)?);
        let checksum = packet.header::<Icmp>(layout.transport)?.checksum;
        let quote = packet.header::<F::Header>(quoted.network)?;
        let old_quoted = F::addresses(quote);
        let sender = Self {
            addresses: F::swapped(self.addresses),
            ports: self.ports.rotate_left(16),
            ..*self
        };
        // The last header first, so that a packet too short is not half rewritten.
        let change = sender.translate_quoted(packet, quoted, old_quoted)?;
        F::readdress(packet.header_mut(quoted.network)?, sender.addresses);
        let checksum = change.apply(Update::new(checksum));
        let checksum = F::update_icmp(checksum, old_quoted, sender.addresses);
        packet.header_mut::<Icmp>(layout.transport)?.checksum =
            F::update_icmp(checksum, old, self.addresses).finish();
        F::forward(packet.header_mut(layout.network)?, self.addresses);
        self.link(packet, layout, tags)
    }

    /// Rewrites as much of the quoted transport header as is there, eight bytes at least.
    #[inline(always)]
    fn translate_quoted<P: Packet + ?Sized>(
        &self,
        packet: &mut P,
        quoted: Quoted,
        old: F::Addresses,
    ) -> Option<Change> {
        let at = quoted.transport;
        if quoted.protocol == PROTOCOL_UDP {
            let udp = packet.header_mut::<Udp>(at)?;
            let before = (udp.ports, udp.checksum);
            self.apply_udp(udp, old);
            return Some(Change(before, (udp.ports, udp.checksum)));
        }
        // Of TCP, the first eight bytes are ports and sequence number.
        let ports = packet.header::<Udp>(at)?.ports;
        let mut change = Change((ports, [0; 2]), (self.ports.to_ne_bytes(), [0; 2]));
        let checksum = at + Tcp::CHECKSUM;
        if checksum + Half::LEN <= quoted.end {
            let checksum = packet.header_mut::<Half>(checksum)?;
            change.0.1 = checksum.0;
            checksum.0 = self.checksum(checksum.0, old, ports);
            change.1.1 = checksum.0;
        }
        packet.header_mut::<Udp>(at)?.ports = self.ports.to_ne_bytes();
        Some(change)
    }
}

/// Ports and checksum of a transport header before and after.
struct Change(([u8; 4], [u8; 2]), ([u8; 4], [u8; 2]));

impl Change {
    #[inline(always)]
    fn apply(self, checksum: Update) -> Update {
        let Self((old_ports, old), (new_ports, new)) = self;
        checksum
            .word(u32::from_ne_bytes(old_ports), u32::from_ne_bytes(new_ports))
            .word(half(old), half(new))
    }
}

/// Two bytes at an even offset as a checksum adds them up.
#[inline(always)]
const fn half([high, low]: [u8; 2]) -> u32 {
    u32::from_ne_bytes([high, low, 0, 0])
}
