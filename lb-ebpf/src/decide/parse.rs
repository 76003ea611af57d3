//! From bytes to the few fields that a decision looks at.
//!
//! Everything that is claimed by one header and can be checked against another, or against the frame, is checked
//! here; what fails is passed, for the stack to reject. Deliberately not here: whose packet it is.

use crate::abi::ServiceCounters;
use crate::family::{Family, V4, V6};
use crate::flow::Key;
use crate::layout::{Handover, Layout, Piece};
use crate::tcp::Flags;
use crate::verdict::Reason::{self, Arp, Malformed, NoService, OtherEthertype, OtherProtocol, Udp};
use crate::verdict::Stage;
use crate::verdict::Verdict::{self, Continue, Pass};
use crate::wire::{
    ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_QINQ, ETHERTYPE_VLAN, Eth, Ipv4, Ipv6,
    PROTOCOL_ICMP, PROTOCOL_ICMPV6, PROTOCOL_TCP, PROTOCOL_UDP, Packet, Tcp, Udp as Datagram,
    is_extension,
};

/// What is looked at in a TCP segment or UDP datagram.
pub(super) struct Segment<F: Family> {
    pub(super) key: Key<F>,
    /// Of a datagram, which has none: those that it counts as (see [`Flags::DATAGRAM`]).
    pub(super) flags: Flags,
    pub(super) ttl: u8,
    /// Of the whole frame, in bytes.
    pub(super) length: u32,
}

impl<F: Family> Segment<F> {
    /// The note with all this and the link that it came by, which saves the next stage from reading it again.
    #[inline(always)]
    pub(super) fn noted(&self, mut note: Handover, link: u32) -> Handover {
        note.link = link;
        note.ports = self.key.ports;
        note.length = self.length;
        note.control = self.flags.0;
        note.hops = self.ttl;
        note
    }

    /// What was noted, of a packet with these addresses.
    #[inline(always)]
    pub(super) fn of(note: &Handover, addresses: F::Addresses) -> Self {
        Self {
            key: Key {
                addresses,
                ports: note.ports,
                protocol: note.layout().protocol,
            },
            flags: Flags(note.control),
            ttl: note.hops,
            length: note.length,
        }
    }

    /// Whether it starts a flow if there is none: each datagram might be the first.
    #[inline(always)]
    pub(super) fn opens(&self) -> bool {
        self.key.protocol == PROTOCOL_UDP || self.flags.opens()
    }

    /// Why it is passed if it is for a port of nobody.
    #[inline(always)]
    pub(super) fn no_service(&self) -> Reason {
        if self.key.protocol == PROTOCOL_UDP {
            Udp
        } else {
            NoService
        }
    }

    #[inline(always)]
    pub(super) fn counters(&self) -> ServiceCounters {
        ServiceCounters {
            packets: 1,
            bytes: u64::from(self.length),
            flows: 0,
            forwarded: 0,
        }
    }
}

/// The layout of a plain IPv4 packet, if that is what it is and one that we can vouch for.
#[inline(always)]
pub(super) fn parse_ipv4<P: Packet + ?Sized>(packet: &P) -> Result<Layout, Verdict> {
    let eth = packet.header::<Eth>(0).ok_or(Pass(Malformed))?;
    match eth.ethertype {
        ETHERTYPE_IPV4 => {}
        ETHERTYPE_IPV6 => return Err(Continue(Stage::Ipv6)),
        ETHERTYPE_ARP => return Err(Pass(Arp)),
        ETHERTYPE_VLAN | ETHERTYPE_QINQ => return Err(Continue(Stage::Extended)),
        _ => return Err(Pass(OtherEthertype)),
    }
    let ip = packet.header::<Ipv4>(Eth::LEN).ok_or(Pass(Malformed))?;
    if ip.version() != 4 || ip.header_len() < Ipv4::LEN || ip.total_len() < ip.header_len() {
        return Err(Pass(Malformed));
    }
    match ip.protocol {
        PROTOCOL_TCP | PROTOCOL_UDP | PROTOCOL_ICMP
            if ip.header_len() > Ipv4::LEN || ip.is_fragment() =>
        {
            Err(Continue(Stage::Extended))
        }
        PROTOCOL_TCP | PROTOCOL_UDP => Ok(Layout::plain::<V4>(ip.protocol)),
        PROTOCOL_ICMP => Err(Continue(Stage::Icmp)),
        _ => Err(Pass(OtherProtocol)),
    }
}

/// As [`parse_ipv4`], of IPv6.
#[inline(always)]
pub(super) fn parse_ipv6<P: Packet + ?Sized>(packet: &P) -> Result<Layout, Verdict> {
    let ip = packet.header::<Ipv6>(Eth::LEN).ok_or(Pass(Malformed))?;
    match ip.next_header {
        _ if ip.version() != 6 => Err(Pass(Malformed)),
        PROTOCOL_TCP | PROTOCOL_UDP => Ok(Layout::plain::<V6>(ip.next_header)),
        PROTOCOL_ICMPV6 => Err(Continue(Stage::Icmp6)),
        other if is_extension(other) => Err(Continue(Stage::Extended6)),
        _ => Err(Pass(OtherProtocol)),
    }
}

/// What there is to know of TCP or UDP, if its lengths, those of IP and `length`, that of the frame, agree.
#[inline(always)]
pub(super) fn parse_transport<F: Family, P: Packet + ?Sized>(
    packet: &P,
    ip: &F::Header,
    layout: Layout,
    length: usize,
) -> Result<Segment<F>, Verdict> {
    let (ports, flags, least) = match layout.piece {
        Piece::Later => Some((layout.shared, Flags::default(), 0)),
        _ if layout.protocol == PROTOCOL_UDP => parse_udp(packet, layout),
        _ => parse_tcp(packet, layout),
    }
    .ok_or(Pass(Malformed))?;
    let end = layout.network + F::total_len(ip);
    // A frame may be longer than its datagram (padding to 60 bytes), never shorter.
    if end < layout.transport + least || length < end {
        return Err(Pass(Malformed));
    }
    Ok(Segment {
        key: Key {
            addresses: F::addresses(ip),
            ports,
            protocol: layout.protocol,
        },
        flags,
        ttl: F::hops(ip),
        length: u32::try_from(length).unwrap_or(u32::MAX),
    })
}

/// Ports, flags, and the number of bytes that must be there.
#[inline(always)]
fn parse_tcp<P: Packet + ?Sized>(packet: &P, layout: Layout) -> Option<(u32, Flags, usize)> {
    let tcp = packet.header::<Tcp>(layout.transport)?;
    let length = tcp.header_len();
    (length >= Tcp::LEN).then_some((u32::from_ne_bytes(tcp.ports), Flags(tcp.flags), length))
}

/// As [`parse_tcp`].
#[inline(always)]
fn parse_udp<P: Packet + ?Sized>(packet: &P, layout: Layout) -> Option<(u32, Flags, usize)> {
    let udp = packet.header::<Datagram>(layout.transport)?;
    let length = udp.length();
    let ports = u32::from_ne_bytes(udp.ports);
    if length < Datagram::LEN {
        return None;
    }
    // That of all pieces is not in the first one.
    let least = match layout.piece {
        Piece::Whole => length,
        _ => Datagram::LEN,
    };
    Some((ports, Flags::DATAGRAM, least))
}
