//! Packets whose headers are not plain: VLAN tags, IPv4 options, IPv6 extension headers, fragments, frames in several
//! buffers; and plain ones that leave tagged.
//!
//! A stage of its own, because every offset in it is a variable. Once found, the layout goes along with the packet in a
//! [`Handover`], and every later stage reads it there.
//!
//! A fragment behind the first one has no ports. The first one's are remembered by what all pieces share; so they find
//! the same flow, in the order in which senders send them. One that overtakes the first goes to the stack, and its
//! datagram is lost.
//!
//! Deliberately not here: reassembly, and options that routers act upon. A packet with a source route is left to the
//! stack, where the host's policy (`accept_source_route`) is; all others are carried as they are.

use super::orphan::detour;
use super::parse::{Segment, parse_transport};
use super::{
    Ingress, Shared, Tables, enter, established, is_reopened, may_be_ours, send, settings,
};
use crate::abi::{LINK_VLAN, VlanKey};
use crate::family::{Family, V4, V6};
use crate::flow::Table;
use crate::layout::{FragmentKey, Handover, Layout, MAX_TAGS, Piece, Tags};
use crate::rewrite::Rewrite;
use crate::verdict::Reason::{
    Arp, Fragment, Ipv4Options, Ipv6Extension, Malformed, NotOurs, OtherEthertype, OtherProtocol,
    Vlan,
};
use crate::verdict::Stage;
use crate::verdict::Verdict::{self, Continue, Pass};
use crate::wire::{
    ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_QINQ, ETHERTYPE_VLAN, Eth, Ethertype,
    Extension, FragmentHeader, Ipv4, Ipv4Option, Ipv6, PROTOCOL_DESTINATION_OPTIONS,
    PROTOCOL_FRAGMENT, PROTOCOL_HIP, PROTOCOL_HOP_BY_HOP, PROTOCOL_ICMP, PROTOCOL_ICMPV6,
    PROTOCOL_MOBILITY, PROTOCOL_ROUTING, PROTOCOL_SHIM6, PROTOCOL_TCP, PROTOCOL_UDP, Packet, Tag,
    Tcp, is_extension,
};
use core::hint;

/// Decides about a packet of [`Stage::Extended`].
#[inline(always)]
pub fn decide_extended<P, T>(packet: &mut P, tables: &T, ingress: Ingress) -> Verdict
where
    P: Packet + ?Sized,
    T: Tables<V4>,
{
    match locate_ipv4(packet) {
        Ok(layout) => decide_located::<V4, P, T>(packet, tables, layout, ingress),
        Err(verdict) => verdict,
    }
}

/// Decides about a packet of [`Stage::Extended6`].
#[inline(always)]
pub fn decide_extended6<P, T>(packet: &mut P, tables: &T, ingress: Ingress) -> Verdict
where
    P: Packet + ?Sized,
    T: Tables<V6>,
{
    match locate_ipv6(packet) {
        Ok(layout) => decide_located::<V6, P, T>(packet, tables, layout, ingress),
        Err(verdict) => verdict,
    }
}

#[inline(always)]
fn decide_located<F, P, T>(packet: &mut P, tables: &T, layout: Layout, ingress: Ingress) -> Verdict
where
    F: Family,
    P: Packet + ?Sized,
    T: Tables<F>,
{
    if layout.protocol == F::ICMP {
        return enter(tables, Handover::of(layout), F::RELAY);
    }
    // By way of the map, in which the verifier sees any layout: otherwise it would go on with each one that can be found.
    let earlier = tables.take_over();
    tables.hand_over(Handover::of(layout).with_flag(earlier.flags));
    let note = tables.take_over();
    let layout = match with_ports::<F, P, T>(packet, tables, note.layout()) {
        Ok(layout) => layout,
        Err(verdict) => return verdict,
    };
    let note = Handover::of(layout).with_flag(note.flags);
    let rewrite = forward::<F, P, T>(packet, tables, note, ingress);
    send(packet, tables, rewrite, layout, ingress)
}

/// The layout, with the ports of the first piece in that of a later one.
#[inline(always)]
fn with_ports<F, P, T>(packet: &P, tables: &T, layout: Layout) -> Result<Layout, Verdict>
where
    F: Family,
    P: Packet + ?Sized,
    T: Tables<F>,
{
    if layout.has_transport() {
        return Ok(layout);
    }
    let ip = packet
        .header::<F::Header>(layout.network)
        .ok_or(Pass(Malformed))?;
    let key = FragmentKey {
        addresses: F::addresses(ip),
        identification: layout.shared,
        protocol: layout.protocol.into(),
    };
    let shared = tables.fragment(&key).ok_or(Pass(Fragment))?;
    Ok(Layout { shared, ..layout })
}

/// Lets the other pieces of a datagram, whose first one this is, find the flow that it will find.
#[inline(always)]
fn remember_first<F: Family, T: Tables<F>>(tables: &T, segment: &Segment<F>, layout: Layout) {
    if layout.piece == Piece::First {
        let key = FragmentKey {
            addresses: segment.key.addresses,
            identification: layout.shared,
            protocol: layout.protocol.into(),
        };
        tables.remember_fragment(&key, segment.key.ports);
    }
}

/// As for plain packets: the rewrite for one of a flow that is there; what is of no flow goes on to be opened.
#[inline(always)]
fn forward<F, P, T>(
    packet: &P,
    tables: &T,
    note: Handover,
    ingress: Ingress,
) -> Result<Rewrite<F>, Verdict>
where
    F: Family,
    P: Packet + ?Sized,
    T: Tables<F>,
{
    let layout = note.layout();
    let settings = settings(tables)?;
    let ip = packet
        .header::<F::Header>(layout.network)
        .ok_or(Pass(Malformed))?;
    if !may_be_ours::<F, T>(tables, settings, F::addresses(ip)) {
        return Err(Pass(NotOurs));
    }
    let segment = parse_transport::<F, P>(packet, ip, layout, packet.whole_len())?;
    remember_first(tables, &segment, layout);
    detour(tables, settings, segment.flags, note)?;
    let table = Table::new(tables, settings);
    match table.find(&segment.key) {
        Some(found) if !is_reopened(&found, &segment) => {
            established(&table, &found, &segment, note)
        }
        None if !layout.has_transport() => Err(Pass(Fragment)),
        _ => {
            let link = arrived_by(packet, tables, layout, ingress)?;
            Err(enter(tables, segment.noted(note, link), F::OPEN))
        }
    }
}

/// The interface, or the VLAN whose tags the packet has. One that this host has no device for is none of ours.
#[inline(always)]
fn arrived_by<P, T>(
    packet: &P,
    tables: &T,
    layout: Layout,
    ingress: Ingress,
) -> Result<u32, Verdict>
where
    P: Packet + ?Sized,
    T: Shared,
{
    if layout.network == Eth::LEN {
        return Ok(ingress.ifindex);
    }
    let tags = Tags::of(packet, layout.network).ok_or(Pass(Malformed))?;
    let key = VlanKey {
        vlans: tags.vlans(),
        ifindex: ingress.ifindex,
        zero: 0,
    };
    let index = tables.vlan_index(&key).ok_or(Pass(Vlan))?;
    Ok(LINK_VLAN | index)
}

/// Where the network header starts, behind at most two tags, and what it is.
#[inline(always)]
fn after_tags<P: Packet + ?Sized>(packet: &P) -> Option<(usize, [u8; 2])> {
    let mut at = Tag::FIRST;
    let mut ethertype = packet.header::<Ethertype>(at)?.0;
    for _ in 0..MAX_TAGS {
        at += Tag::LEN * is_tag(ethertype);
        ethertype = packet.header::<Ethertype>(at)?.0;
    }
    Some((at + size_of::<Ethertype>(), ethertype))
}

/// 1 if a tag follows, otherwise 0. In sums, not branches: the verifier would follow each, with another offset in each.
#[inline(always)]
fn is_tag(ethertype: [u8; 2]) -> usize {
    let is = |kind: [u8; 2]| {
        let difference = u64::from(u16::from_ne_bytes(ethertype) ^ u16::from_ne_bytes(kind));
        difference.wrapping_sub(1) >> 63
    };
    // Both can't be.
    low(is(ETHERTYPE_VLAN) + is(ETHERTYPE_QINQ))
}

#[expect(clippy::cast_possible_truncation, reason = "it is 0 or 1")]
#[inline(always)]
const fn low(bit: u64) -> usize {
    bit as usize
}

/// Where the headers of an IPv4 packet are; what it gets instead if it is none that is looked into.
///
/// # Errors
/// The verdict.
#[inline(always)]
pub fn locate_ipv4<P: Packet + ?Sized>(packet: &P) -> Result<Layout, Verdict> {
    let (network, ethertype) = after_tags(packet).ok_or(Pass(Malformed))?;
    match ethertype {
        ETHERTYPE_IPV4 => {}
        ETHERTYPE_IPV6 => return Err(Continue(Stage::Extended6)),
        ETHERTYPE_ARP => return Err(Pass(Arp)),
        ETHERTYPE_VLAN | ETHERTYPE_QINQ => return Err(Pass(Vlan)),
        _ => return Err(Pass(OtherEthertype)),
    }
    let ip = packet.header::<Ipv4>(network).ok_or(Pass(Malformed))?;
    let header = ip.header_len();
    if ip.version() != 4 || header < Ipv4::LEN || ip.total_len() < header {
        return Err(Pass(Malformed));
    }
    match ip.protocol {
        PROTOCOL_TCP | PROTOCOL_UDP | PROTOCOL_ICMP => {}
        _ => return Err(Pass(OtherProtocol)),
    }
    let layout = Layout {
        network,
        transport: network + header,
        protocol: ip.protocol,
        piece: piece(ip.fragment_offset(), ip.more_fragments()),
        shared: u32::from(u16::from_be_bytes(ip.identification)),
    };
    check_piece(layout, ip.fragment_offset())?;
    if header > Ipv4::LEN && has_source_route(packet, network, header) {
        return Err(Pass(Ipv4Options));
    }
    Ok(layout)
}

#[inline(always)]
fn piece(offset: usize, more: bool) -> Piece {
    match (offset, more) {
        (0, false) => Piece::Whole,
        (0, true) => Piece::First,
        _ => Piece::Later,
    }
}

/// A later piece that starts within a transport header would replace flags that have been looked at (RFC 3128 §2).
#[inline(always)]
fn check_piece(layout: Layout, offset: usize) -> Result<(), Verdict> {
    let within = layout.protocol == PROTOCOL_TCP && offset > 0 && offset < Tcp::LEN;
    if within { Err(Pass(Malformed)) } else { Ok(()) }
}

/// Whether the options of an IPv4 header hold a source route (RFC 791 §3.1). Its destination is not the packet's.
///
/// As in `mss`, the end of the options is looked at once, when one is found, and the walk may go astray behind it; and a step
/// is a sum: with a branch in each, Linux 6.1 gives up.
#[inline(always)]
fn has_source_route<P: Packet + ?Sized>(packet: &P, network: usize, end: usize) -> bool {
    let mut at = Ipv4::LEN;
    for _ in 0..Ipv4Option::MOST {
        // A bound for the verifier that LLVM would find to do nothing.
        let Some(option) = packet.header::<Ipv4Option>(network + (hint::black_box(at) & 63)) else {
            return false;
        };
        match option.kind {
            Ipv4Option::END => return false,
            Ipv4Option::LOOSE_SOURCE_ROUTE | Ipv4Option::STRICT_SOURCE_ROUTE => return at < end,
            _ => at += option.step(),
        }
    }
    false
}

/// Extension headers that are walked over in one packet.
const MOST_EXTENSIONS: usize = 6;

/// As [`locate_ipv4`], of an IPv6 packet.
///
/// # Errors
/// The verdict.
#[inline(always)]
pub fn locate_ipv6<P: Packet + ?Sized>(packet: &P) -> Result<Layout, Verdict> {
    let (network, ethertype) = after_tags(packet).ok_or(Pass(Malformed))?;
    let ip = packet.header::<Ipv6>(network).ok_or(Pass(Malformed))?;
    if ethertype != ETHERTYPE_IPV6 || ip.version() != 6 {
        return Err(Pass(Malformed));
    }
    let mut layout = Layout {
        network,
        transport: network + Ipv6::LEN,
        protocol: ip.next_header,
        piece: Piece::Whole,
        shared: 0,
    };
    for _ in 0..MOST_EXTENSIONS {
        if !is_extension(layout.protocol) || !layout.has_transport() {
            break;
        }
        layout = behind_extension(packet, layout)?;
    }
    match layout.protocol {
        PROTOCOL_TCP | PROTOCOL_UDP | PROTOCOL_ICMPV6 => Ok(layout),
        _ if !layout.has_transport() => Err(Pass(Fragment)),
        other if is_extension(other) => Err(Pass(Ipv6Extension)),
        _ => Err(Pass(OtherProtocol)),
    }
}

/// The layout as if the extension header at the place of the transport header were part of what comes before.
#[inline(always)]
fn behind_extension<P: Packet + ?Sized>(packet: &P, layout: Layout) -> Result<Layout, Verdict> {
    // As in `has_source_route`; farther than that nothing is looked for.
    let at = hint::black_box(layout.transport) & MOST_OFFSET;
    let extension = packet.header::<Extension>(at).ok_or(Pass(Malformed))?;
    let behind = Layout {
        transport: layout.transport + extension.header_len(),
        protocol: extension.next_header,
        ..layout
    };
    match layout.protocol {
        PROTOCOL_FRAGMENT => {
            let fragment = packet.header::<FragmentHeader>(at).ok_or(Pass(Malformed))?;
            let layout = Layout {
                transport: layout.transport + FragmentHeader::LEN,
                piece: piece(fragment.offset(), fragment.more()),
                shared: u32::from_be_bytes(fragment.identification),
                ..behind
            };
            check_piece(layout, fragment.offset())?;
            Ok(layout)
        }
        // Not at its destination yet.
        PROTOCOL_ROUTING if extension.segments_left != 0 => Err(Pass(Ipv6Extension)),
        PROTOCOL_HOP_BY_HOP
        | PROTOCOL_ROUTING
        | PROTOCOL_DESTINATION_OPTIONS
        | PROTOCOL_MOBILITY
        | PROTOCOL_HIP
        | PROTOCOL_SHIM6
            if behind.transport <= MOST_OFFSET =>
        {
            Ok(behind)
        }
        _ => Err(Pass(Ipv6Extension)),
    }
}

/// Headers behind this offset are not looked for; what a [`Handover`] can hold.
const MOST_OFFSET: usize = crate::layout::TRANSPORT_MASK;
