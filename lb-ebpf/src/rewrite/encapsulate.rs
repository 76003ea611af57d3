//! Putting a packet into another one, for a server that unwraps it and answers the client itself.
//!
//! ```text
//!  before   Ethernet │ IP │ TCP or UDP …
//!  IPIP     Ethernet │ outer IP │ IP │ TCP or UDP …
//!  GUE      Ethernet │ outer IP │ UDP │ IP │ TCP or UDP …
//! ```
//!
//! IPIP is RFC 2003, for IPv6 RFC 2473. GUE is version 1 of draft-ietf-intarea-gue: the IP header follows the UDP header
//! at once, which costs no header of its own and is what Linux' `fou` unwraps by itself. Class and congestion bits are
//! copied outwards (RFC 6040 §4.1). No checksum is computed over the packet: see [`Family::tunnel_checksum`].

use super::{Applied, Mode, Rewrite, distance};
use crate::abi::GUE_PORT;
use crate::family::Family;
use crate::layout::{Layout, Tags};
use crate::wire::{PROTOCOL_UDP, Packet, Udp};

/// Hops that the outer packet may take: the way to our own server is never longer.
pub const TUNNEL_HOPS: u8 = 64;

/// What a tunnel needs besides addresses, in the place where NAT has its ports: the source port of GUE, for the receive
/// queues of the server, and the greatest outer packet that the way to it takes.
#[inline(always)]
#[must_use]
pub const fn tunnel_ports(source_port: u16, mtu: u16) -> u32 {
    (source_port as u32) << 16 | mtu as u32
}

#[inline(always)]
const fn source_port(ports: u32) -> u16 {
    (ports >> 16) as u16
}

/// The greatest outer packet.
#[expect(clippy::cast_possible_truncation, reason = "the low half is meant")]
#[inline(always)]
const fn mtu(ports: u32) -> u16 {
    ports as u16
}

impl Mode {
    /// Bytes that the mode puts before a packet.
    #[inline(always)]
    #[must_use]
    pub const fn overhead<F: Family>(self) -> usize {
        match self {
            Self::Nat | Self::Dsr => 0,
            Self::Ipip => size_of::<F::Header>(),
            Self::Gue => size_of::<F::Header>() + Udp::LEN,
        }
    }
}

impl<F: Family> Rewrite<F> {
    /// The greatest packet that fits into the tunnel.
    #[inline(always)]
    #[must_use]
    pub fn inner_mtu(&self) -> usize {
        usize::from(mtu(self.ports)).saturating_sub(self.mode.overhead::<F>())
    }

    #[inline(always)]
    pub(super) fn encapsulate<P: Packet + ?Sized>(
        &self,
        packet: &mut P,
        layout: Layout,
        tags: Tags,
    ) -> Option<Applied> {
        let inner = packet.header_mut::<F::Header>(layout.network)?;
        let length = F::total_len(inner);
        if length > self.inner_mtu() {
            return Some(Applied::TooBig);
        }
        F::forward(inner, F::addresses(inner));
        let inner = *inner;
        let unchecked = layout.protocol == PROTOCOL_UDP
            && layout.has_transport()
            && packet.header::<Udp>(layout.transport)?.checksum == Udp::NO_CHECKSUM;
        if self.mode == Mode::Gue {
            return self.wrap_in_udp(packet, &inner, length, unchecked, (layout.network, tags));
        }
        let outer = F::outer(&inner, length, F::TUNNELLED, self.addresses);
        let front = tags.network() + size_of::<F::Header>();
        packet.move_front(distance(front, layout.network))?;
        self.begin(packet, outer, tags)
    }

    /// With where the inner packet was, and the tags to stand before the outer one.
    #[inline(always)]
    fn wrap_in_udp<P: Packet + ?Sized>(
        &self,
        packet: &mut P,
        inner: &F::Header,
        length: usize,
        unchecked: bool,
        (network, tags): (usize, Tags),
    ) -> Option<Applied> {
        let length = length + Udp::LEN;
        // Not above 65,535: it is within the MTU.
        let mut udp = Udp {
            ports: ports(source_port(self.ports), GUE_PORT),
            length: u16::try_from(length).ok()?.to_be_bytes(),
            checksum: Udp::NO_CHECKSUM,
        };
        if !unchecked {
            udp.checksum = F::tunnel_checksum(inner, &udp, self.addresses);
        }
        let outer = F::outer(inner, length, PROTOCOL_UDP, self.addresses);
        let front = tags.network() + size_of::<F::Header>();
        packet.move_front(distance(front + Udp::LEN, network))?;
        *packet.header_mut(front)? = udp;
        self.begin(packet, outer, tags)
    }

    /// Writes the outer network header and what stands before it.
    #[inline(always)]
    fn begin<P: Packet + ?Sized>(
        &self,
        packet: &mut P,
        outer: F::Header,
        tags: Tags,
    ) -> Option<Applied> {
        *packet.header_mut(tags.network())? = outer;
        self.write_link(packet, tags)?;
        Some(Applied::Done)
    }
}

#[inline(always)]
const fn ports(source: u16, destination: u16) -> [u8; 4] {
    let ([a, b], [c, d]) = (source.to_be_bytes(), destination.to_be_bytes());
    [a, b, c, d]
}
