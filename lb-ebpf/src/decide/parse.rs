//! From bytes to the few fields that a decision looks at.
//!
//! Everything that is claimed by one header and can be checked against another, or against the frame, is checked
//! here; what fails is passed, for the stack to reject. Deliberately not here: whose packet it is.

use crate::abi::ServiceCounters;
use crate::family::Family;
use crate::flow::Key;
use crate::rewrite::Layout;
use crate::tcp::Flags;
use crate::verdict::Reason::{
    self, Arp, Fragment, Ipv4Options, Ipv6Extension, Malformed, NoService, OtherEthertype,
    OtherProtocol, Udp, Vlan,
};
use crate::verdict::Stage;
use crate::verdict::Verdict::{self, Continue, Pass};
use crate::wire::{
    ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_QINQ, ETHERTYPE_VLAN, Eth, Ipv4, Ipv6,
    PROTOCOL_FRAGMENT, PROTOCOL_ICMP, PROTOCOL_ICMPV6, PROTOCOL_TCP, PROTOCOL_UDP, Packet, Tcp,
    Udp as Datagram, is_extension,
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

/// The IPv4 header, if that is what the packet has, and one that we can vouch for.
#[inline(always)]
pub(super) fn parse_ipv4<P: Packet + ?Sized>(packet: &P) -> Result<&Ipv4, Verdict> {
    let eth = packet.header::<Eth>(0).ok_or(Pass(Malformed))?;
    match eth.ethertype {
        ETHERTYPE_IPV4 => {}
        ETHERTYPE_IPV6 => return Err(Continue(Stage::Ipv6)),
        ETHERTYPE_ARP => return Err(Pass(Arp)),
        ETHERTYPE_VLAN | ETHERTYPE_QINQ => return Err(Pass(Vlan)),
        _ => return Err(Pass(OtherEthertype)),
    }
    let ip = packet.header::<Ipv4>(Eth::LEN).ok_or(Pass(Malformed))?;
    if ip.version() != 4 || ip.header_len() < Ipv4::LEN || ip.total_len() < ip.header_len() {
        return Err(Pass(Malformed));
    }
    match ip.protocol {
        _ if ip.header_len() > Ipv4::LEN => Err(Pass(Ipv4Options)),
        PROTOCOL_TCP | PROTOCOL_UDP => Ok(ip),
        PROTOCOL_ICMP => Err(Continue(Stage::Icmp)),
        _ => Err(Pass(OtherProtocol)),
    }
}

/// As [`parse_ipv4`], of IPv6.
#[inline(always)]
pub(super) fn parse_ipv6<P: Packet + ?Sized>(packet: &P) -> Result<&Ipv6, Verdict> {
    let ip = packet.header::<Ipv6>(Eth::LEN).ok_or(Pass(Malformed))?;
    match ip.next_header {
        _ if ip.version() != 6 => Err(Pass(Malformed)),
        PROTOCOL_TCP | PROTOCOL_UDP => Ok(ip),
        PROTOCOL_ICMPV6 => Err(Continue(Stage::Icmp6)),
        PROTOCOL_FRAGMENT => Err(Pass(Fragment)),
        other if is_extension(other) => Err(Pass(Ipv6Extension)),
        _ => Err(Pass(OtherProtocol)),
    }
}

/// The TCP or UDP header, if its lengths and those of IP and the frame agree.
#[inline(always)]
pub(super) fn parse_transport<F: Family, P: Packet + ?Sized>(
    packet: &P,
    ip: &F::Header,
    layout: Layout,
) -> Result<Segment<F>, Verdict> {
    let protocol = F::protocol(ip);
    let (ports, flags, least) = match protocol {
        PROTOCOL_UDP => parse_udp(packet, layout),
        _ => parse_tcp(packet, layout),
    }
    .ok_or(Pass(Malformed))?;
    let end = layout.network + F::total_len(ip);
    // A frame may be longer than its datagram (padding to 60 bytes), never shorter.
    if end < layout.transport + least || packet.len() < end {
        return Err(Pass(Malformed));
    }
    Ok(Segment {
        key: Key {
            addresses: F::addresses(ip),
            ports,
            protocol,
        },
        flags,
        ttl: F::hops(ip),
        // At most one page.
        length: u32::try_from(packet.len()).unwrap_or(u32::MAX),
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
    (length >= Datagram::LEN).then_some((ports, Flags::DATAGRAM, length))
}
