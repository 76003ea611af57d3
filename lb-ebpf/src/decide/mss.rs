//! Lowering the MSS that a SYN announces (RFC 9293 §3.7.1), so that no segment of the other side is too big for a way that
//! the two ends don't know of.
//!
//! Whoever reads the SYN sends no greater segments: the client's SYN limits the server, the server's the client. Where
//! the server answers by itself, only the client's comes by; what the client then sends into a tunnel is limited by
//! the answer to packets that are too big. A SYN without the option is left alone: it stands for the least that
//! every way takes (536 bytes, 1220 over IPv6).
//!
//! A stage of its own, for the verifier: the walk over the options is short, but on each path that a packet can come by
//! it would be walked again. It is the first one of a SYN, before anything else is done to it, and gives it back to the
//! program that it came from, with a [`Handover`] that says so.

use super::parse::{Segment, parse_transport};
use super::{Tables, enter, settings};
use crate::abi::Service;
use crate::checksum::Update;
use crate::family::Family;
use crate::flow::{Found, Key, Table};
use crate::layout::{HANDOVER_MSS_LIMITED, Layout};
use crate::tcp::Direction;
use crate::verdict::Reason::Malformed;
use crate::verdict::Verdict::{self, Pass};
use crate::wire::{Mss, Packet, Tcp};
use core::hint;

/// Decides about a packet of [`Stage::Mss`](crate::verdict::Stage::Mss): a SYN, of which nothing else is known.
#[inline(always)]
pub fn limit_mss<F, P, T>(packet: &mut P, tables: &T) -> Verdict
where
    F: Family,
    P: Packet + ?Sized,
    T: Tables<F>,
{
    let note = tables.take_over();
    let layout = note.layout();
    match greatest_mss::<F, P, T>(packet, tables, layout) {
        Ok(0) => {}
        Ok(greatest) => clamp(packet, layout.transport, greatest),
        Err(verdict) => return verdict,
    }
    enter(tables, note.with_flag(HANDOVER_MSS_LIMITED), F::FIRST)
}

/// What the service of the SYN allows; 0 if it allows everything.
#[inline(always)]
fn greatest_mss<F, P, T>(packet: &P, tables: &T, layout: Layout) -> Result<u16, Verdict>
where
    F: Family,
    P: Packet + ?Sized,
    T: Tables<F>,
{
    let service = service_of::<F, P, T>(packet, tables, layout)?;
    Ok(service.map_or(0, |service| service.mss))
}

/// The service of a packet of either direction, with a flow or without.
#[inline(always)]
pub(super) fn service_of<F, P, T>(
    packet: &P,
    tables: &T,
    layout: Layout,
) -> Result<Option<Service>, Verdict>
where
    F: Family,
    P: Packet + ?Sized,
    T: Tables<F>,
{
    let settings = settings(tables)?;
    let ip = packet
        .header::<F::Header>(layout.network)
        .ok_or(Pass(Malformed))?;
    let segment = parse_transport::<F, P>(packet, ip, layout, packet.whole_len())?;
    let table = Table::new(tables, settings);
    Ok(tables.service(&to_service(&table, &segment).service()))
}

/// The tuple of a packet to the service: of an answer, which is known by its flow, the one that it answers.
#[inline(always)]
fn to_service<F: Family, T: Tables<F>>(table: &Table<'_, T, F>, segment: &Segment<F>) -> Key<F> {
    let answers = |found: &Found<'_, F>| found.entry.direction() == Direction::Reverse;
    let found = table.find(&segment.key).filter(answers);
    match found.and_then(|found| found.rewrite()) {
        Some(rewrite) => Key {
            addresses: rewrite.addresses,
            ports: rewrite.ports,
            protocol: segment.key.protocol,
        }
        .reversed(),
        None => segment.key,
    }
}

/// As many options as fit before the last one that could be an MSS, each a byte of padding.
const MAX_OPTIONS: usize = MAX_HEADER_LEN - Tcp::LEN - Mss::LEN + 1;

const MAX_HEADER_LEN: usize = 60;

/// Lowers the MSS in a TCP segment to `greatest`, if it is there and above it.
///
/// The end of the options is looked at once, when an MSS is found, and the walk may go astray behind it: so the verifier
/// sees one state in each step, not one for each length that the options before can have.
#[inline(always)]
fn clamp<P: Packet + ?Sized>(packet: &mut P, transport: usize, greatest: u16) {
    let Some(tcp) = packet.header::<Tcp>(transport) else {
        return;
    };
    let end = tcp.header_len();
    let mut at = Tcp::LEN;
    for _ in 0..MAX_OPTIONS {
        // A bound for the verifier, which LLVM would find to do nothing if it knew what comes in.
        let offset = transport + (hint::black_box(at) & 63);
        let Some(option) = packet.header::<Mss>(offset) else {
            return;
        };
        if option.kind == Mss::KIND {
            if usize::from(option.length) == Mss::LEN && at + Mss::LEN <= end {
                lower(packet, transport, offset, greatest);
            }
            return;
        }
        at += match option.kind {
            Mss::END | Mss::NO_OPERATION => 1,
            _ => usize::from(option.length) + astray(option.length),
        };
    }
}

/// No option is shorter than its kind and length, so no receiver reads on behind one that says it is: the walk goes on, at
/// the same place modulo 64, but behind the end. In sums and shifts, for a branch would be one more in each step.
#[inline(always)]
const fn astray(length: u8) -> usize {
    let below_two = (length as usize).wrapping_sub(2) >> (usize::BITS - 1);
    below_two << 6
}

#[inline(always)]
fn lower<P: Packet + ?Sized>(packet: &mut P, transport: usize, offset: usize, greatest: u16) {
    let Some(option) = packet.header_mut::<Mss>(offset) else {
        return;
    };
    if u16::from_be_bytes(option.size) <= greatest {
        return;
    }
    let old = option.size;
    option.size = greatest.to_be_bytes();
    let odd = (offset - transport) % 2;
    if let Some(tcp) = packet.header_mut::<Tcp>(transport) {
        tcp.checksum = Update::new(tcp.checksum)
            .word(word(old, odd), word(greatest.to_be_bytes(), odd))
            .finish();
    }
}

/// Two bytes as a checksum adds them up. Padding before the option can put it on an odd offset, where they belong to two
/// words.
#[inline(always)]
const fn word([high, low]: [u8; 2], odd: usize) -> u32 {
    if odd == 0 {
        u32::from_ne_bytes([high, low, 0, 0])
    } else {
        u32::from_ne_bytes([0, high, low, 0])
    }
}
