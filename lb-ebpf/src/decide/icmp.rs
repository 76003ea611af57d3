//! ICMP: an error about a packet that we have rewritten, or a worker has sent, goes to whom the packet was from.
//!
//! ```text
//!  error? ─▶ quotes TCP or UDP? ─▶ one of our addresses? ─▶ flow of the answers ──hit──▶ NAT: translate both headers
//!    │             │                       │                        │                    else: to the server, as it is
//!    ▼             ▼                       ▼                        ▼ miss
//!  Pass      Pass, of a tunnel           Pass            service? one way ─▶ ring ─▶ to the server
//!                                                                 worker ─▶ as it is, to that of the queue,
//!                                                                           or Pass if the stack has the connection
//! ```
//!
//! Servers and routers answer what NAT has sent with errors about a packet that no client knows; and routers on the
//! client's side send errors about the answers to the virtual address, where no server listens. Without this stage path
//! MTU discovery (RFC 1191, RFC 8201) and "port unreachable" would end here.
//!
//! An error may be forged by anyone who guesses a tuple (RFC 5927). So it leaves no trace in the flow table: it neither
//! refreshes nor closes a flow (RFC 5508 REQ-6, RFC 5382 REQ-10). Whether to believe it is up to the receiver, who gets
//! the quoted sequence number as it was. Nor is its checksum verified: damage before us stays visible behind us.
//!
//! A worker's error comes by the queue that the network card chooses for it, by a router's address and no ports: not
//! the queue of the connection, unless by chance. Which one that is can't be told from here, where the card's hash is not
//! known; so the worker that gets an error and has no such connection passes it on to the others, and the program needs no map
//! of workers' connections. An error is rare, and may be late.
//!
//! Deliberately not here: echo, which the stack answers for virtual addresses, for they are local.

use super::open::{before_change, may_adopt, would_hold};
use super::stack::is_on_stack;
use super::unknown::to_worker;
use super::{Egress, Ingress, Shared, Tables, counters_of, in_prefilter, may_be_ours, settings};
use crate::abi::{
    GUE_PORT, SERVICE_FLAG_PASS_IF_ORPHANED, SERVICE_KIND_L4, SERVICE_KIND_WORKER, ServiceCounters,
};
use crate::family::Family;
use crate::flow::{Key, Table};
use crate::layout::{Layout, Piece};
use crate::rewrite::{Applied, Mode, Quoted, Rewrite};
use crate::tcp::Flags;
use crate::verdict::Part;
use crate::verdict::Reason::{
    Fragment, GueChecksum, Icmp as NotForUs, IcmpQuote, Ipv6Extension, Malformed, NoHeadroom,
    Orphaned, StackFlow, TooBigUnanswered, TtlExpired, TunnelIcmp, VlanGone, WorkerIcmp,
};
use crate::verdict::Verdict::{self, Drop, Pass};
use crate::wire::{Icmp, PROTOCOL_FRAGMENT, PROTOCOL_TCP, PROTOCOL_UDP, Packet, Udp, is_extension};
use core::hint;

/// Decides about a packet of [`Stage::Icmp`](crate::verdict::Stage::Icmp).
#[inline(always)]
pub fn relay_error<F, P, T>(packet: &mut P, tables: &T, ingress: Ingress) -> Verdict
where
    F: Family,
    P: Packet + ?Sized,
    T: Tables<F>,
{
    let note = tables.take_over();
    let layout = if note.is_none() {
        Layout::plain::<F>(F::ICMP)
    } else {
        note.layout()
    };
    let error = match parse::<F, P, T>(packet, tables, layout) {
        Ok(error) => error,
        Err(verdict) => return verdict,
    };
    match receiver(tables, &error) {
        Ok(Receiver::Behind(rewrite)) => {
            relay(packet, tables, &rewrite, (layout, error.quoted), ingress)
        }
        Ok(Receiver::Worker) => tell_worker(tables, &error, ingress),
        Err(verdict) => verdict,
    }
}

#[inline(always)]
fn relay<F, P, T>(
    packet: &mut P,
    tables: &T,
    rewrite: &Rewrite<F>,
    (layout, quoted): (Layout, Quoted),
    ingress: Ingress,
) -> Verdict
where
    F: Family,
    P: Packet + ?Sized,
    T: Tables<F>,
{
    let Some(egress) = Egress::of(packet, tables, rewrite.link, layout.network) else {
        return Drop(VlanGone);
    };
    let applied = match rewrite.mode {
        Mode::Nat => rewrite.translate_error(packet, layout, quoted, egress.tags),
        Mode::Gue if !F::has_tunnel_checksum(&layout) => return Pass(GueChecksum),
        Mode::Dsr | Mode::Ipip | Mode::Gue => rewrite.apply(packet, layout, egress.tags),
    };
    match applied {
        // About an error no error is sent (RFC 1122 §3.2.2).
        Some(Applied::TooBig) => Pass(TooBigUnanswered),
        Some(Applied::Done) => egress.verdict(ingress),
        None => Drop(NoHeadroom),
    }
}

/// An error and the packet that it is about.
struct ErrorMessage<F: Family> {
    /// The tuple of the packets that answer the quoted one: the error goes their way.
    key: Key<F>,
    quoted: Quoted,
    ttl: u8,
    /// Of the whole frame, in bytes.
    length: u32,
    /// Zero if a worker can read it: no tags, options or extension headers, and all in one buffer.
    oddness: usize,
}

impl<F: Family> ErrorMessage<F> {
    #[inline(always)]
    fn counters(&self, forwarded: u64) -> ServiceCounters {
        ServiceCounters {
            packets: 1,
            bytes: u64::from(self.length),
            flows: 0,
            forwarded,
        }
    }
}

/// The error, if the packet is one and about a packet that may be of a flow of ours.
#[inline(always)]
fn parse<F, P, T>(packet: &P, tables: &T, layout: Layout) -> Result<ErrorMessage<F>, Verdict>
where
    F: Family,
    P: Packet + ?Sized,
    T: Tables<F>,
{
    let ip = packet
        .header::<F::Header>(layout.network)
        .ok_or(Pass(Malformed))?;
    if layout.piece != Piece::Whole {
        return Err(Pass(Fragment));
    }
    let end = layout.network + F::total_len(ip);
    let icmp = packet
        .header::<Icmp>(layout.transport)
        .ok_or(Pass(Malformed))?;
    let whole = packet.whole_len();
    if end < layout.transport + Icmp::LEN || whole < end {
        return Err(Pass(Malformed));
    }
    if !F::is_error(icmp.kind) {
        return Err(Pass(NotForUs));
    }
    let settings = settings(tables)?;
    let network = layout.transport + Icmp::LEN;
    let plain = Layout::plain::<F>(F::ICMP);
    let elsewhere = (layout.network ^ plain.network) | (layout.transport ^ plain.transport);
    // Here and in sums, not where it is asked for: the verifier would have to keep all that it is made of until then.
    let oddness = hint::black_box(whole.wrapping_sub(packet.len()) | elsewhere);
    // LLVM would find that what ends before `end` ends before the frame does, and leave out checks that the verifier needs.
    let end = hint::black_box(end);
    let (key, quoted) = parse_quoted::<F, P, T>(packet, tables, network, end)?;
    // It is the sender of a packet who is told about it, and nobody else.
    if !F::same_destination(F::addresses(ip), key.addresses) {
        return Err(Pass(IcmpQuote));
    }
    if !may_be_ours::<F, T>(tables, settings, key.addresses) {
        return Err(Pass(NotForUs));
    }
    Ok(ErrorMessage {
        key,
        quoted,
        ttl: F::hops(ip),
        length: u32::try_from(whole).unwrap_or(u32::MAX),
        oddness,
    })
}

/// The quoted packet at `network`: the tuple of those that answer it, and where it is.
#[inline(always)]
fn parse_quoted<F, P, T>(
    packet: &P,
    tables: &T,
    network: usize,
    end: usize,
) -> Result<(Key<F>, Quoted), Verdict>
where
    F: Family,
    P: Packet + ?Sized,
    T: Tables<F>,
{
    let quote = packet.header::<F::Header>(network).ok_or(Pass(IcmpQuote))?;
    let length = F::header_len(quote).ok_or(Pass(IcmpQuote))?;
    let transport = network + length;
    let start = packet.header::<Udp>(transport).ok_or(Pass(IcmpQuote))?;
    if end < transport + Udp::LEN {
        return Err(Pass(IcmpQuote));
    }
    if !F::is_first_fragment(quote) {
        return Err(Pass(Fragment));
    }
    let protocol = F::protocol(quote);
    let [.., high, low] = start.ports;
    let in_tunnel = match protocol {
        PROTOCOL_TCP => false,
        PROTOCOL_UDP if u16::from_be_bytes([high, low]) != GUE_PORT => false,
        PROTOCOL_UDP => carries_ours::<F, P, T>(packet, tables, transport + Udp::LEN, end),
        other if other == F::TUNNELLED => {
            return Err(Pass(
                if carries_ours::<F, P, T>(packet, tables, transport, end) {
                    TunnelIcmp
                } else {
                    NotForUs
                },
            ));
        }
        PROTOCOL_FRAGMENT => return Err(Pass(Fragment)),
        other if is_extension(other) => return Err(Pass(Ipv6Extension)),
        // Of an error about an error as well.
        _ => return Err(Pass(NotForUs)),
    };
    if in_tunnel {
        return Err(Pass(TunnelIcmp));
    }
    let key = Key {
        addresses: F::addresses(quote),
        ports: u32::from_ne_bytes(start.ports),
        protocol,
    };
    let quoted = Quoted {
        network,
        transport,
        protocol,
        end,
    };
    Ok((key.reversed(), quoted))
}

/// Whether what a quoted packet carries at `offset` is a packet to one of our addresses, as in our tunnels. Only a quote
/// longer than RFC 792 asks for tells.
#[inline(always)]
fn carries_ours<F, P, T>(packet: &P, tables: &T, offset: usize, end: usize) -> bool
where
    F: Family,
    P: Packet + ?Sized,
    T: Tables<F>,
{
    match packet.header::<F::Header>(offset) {
        Some(inner) if offset + size_of::<F::Header>() <= end => {
            F::header_len(inner).is_some() && in_prefilter::<F, T>(tables, F::addresses(inner))
        }
        _ => false,
    }
}

/// Who has sent the quoted packet.
enum Receiver<F: Family> {
    /// A client or server, which the error reaches by this.
    Behind(Rewrite<F>),
    /// A worker of ours.
    Worker,
}

#[inline(always)]
fn receiver<F, T>(tables: &T, error: &ErrorMessage<F>) -> Result<Receiver<F>, Verdict>
where
    F: Family,
    T: Tables<F>,
{
    let table = Table::new(tables, settings(tables)?);
    let (rewrite, service) = match table.find(&error.key) {
        Some(found) => {
            let rewrite = found.rewrite().ok_or(Pass(NotForUs))?;
            (rewrite, found.entry.service())
        }
        None => match without_flow(&table, error)? {
            Some(found) => found,
            None => return Ok(Receiver::Worker),
        },
    };
    if error.ttl <= 1 {
        return Err(Pass(TtlExpired));
    }
    Shared::count(tables, service, error.counters(1));
    Ok(Receiver::Behind(rewrite))
}

/// As [`receiver`], of an error about a packet of no flow that is here. Where a segment in mid-connection would be adopted,
/// the same server is told; but nothing is inserted, for anyone can send an error. `None`: a worker is.
#[inline(always)]
fn without_flow<F, T>(
    table: &Table<'_, T, F>,
    error: &ErrorMessage<F>,
) -> Result<Option<(Rewrite<F>, u8)>, Verdict>
where
    F: Family,
    T: Tables<F>,
{
    let service = table
        .sets
        .service(&error.key.service())
        .ok_or(Pass(NotForUs))?;
    match service.kind {
        SERVICE_KIND_WORKER => {
            let asks_for_stack = service.flags & SERVICE_FLAG_PASS_IF_ORPHANED != 0;
            if asks_for_stack && table.settings.orphaned != 0 {
                return Err(Pass(Orphaned));
            }
            Shared::count(table.sets, counters_of(service), error.counters(0));
            if is_on_stack(table.sets, service, &error.key) {
                return Err(Pass(StackFlow));
            }
            Ok(None)
        }
        SERVICE_KIND_L4 if may_adopt(service, Flags::ACK) => {
            let service = if error.key.protocol == PROTOCOL_TCP {
                before_change(service)
            } else {
                service
            };
            would_hold(table, &error.key, service)
                .map(|value| Some((value.rewrite, counters_of(service))))
                .ok_or(Pass(NotForUs))
        }
        _ => Err(Pass(NotForUs)),
    }
}

/// The error as it is, to a worker, who is at its destination: its hops don't count. Its TCP reads plain frames only; another one
/// is left to the stack, which has no such connection and does nothing, where a segment would be answered with RST.
#[inline(always)]
fn tell_worker<F, T>(tables: &T, error: &ErrorMessage<F>, ingress: Ingress) -> Verdict
where
    F: Family,
    T: Tables<F>,
{
    if error.oddness == 0 {
        to_worker(tables, ingress, Part::Connection)
    } else {
        Pass(WorkerIcmp)
    }
}

#[cfg(test)]
mod tests;
