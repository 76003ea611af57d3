//! The decision: what happens to one packet. The file to read first.
//!
//! ```text
//!  parse ─▶ one of our addresses? ─▶ flow table ──hit──▶ count, track ─▶ rewrite ─▶ Transmit | Redirect
//!    │               │                   │ miss, or a SYN
//!    ▼               ▼                   ▼
//!  Pass            Pass        service? ─┬─ none ──────▶ Pass
//!                                        ├─ WORKER ────▶ Worker, or Pass if its connection lives on the stack
//!                                        ├─ STACK ─────▶ Pass
//!                                        └─ L4, opens ─▶ ring ─▶ server ─▶ tuple ─▶ insert ─▶ rewrite …
//! ```
//!
//! The flow table comes before the service lookup, for two reasons. Answers from servers are addressed
//! to a NAT address or a client, which no service lookup knows. And the service map is a kernel hash,
//! 24 ns, more than everything else on the path of an established packet. The price is a probe in vain
//! for each packet of a worker's service: one cache line before microseconds of TCP and TLS.
//!
//! The kernel holds this as several programs, joined by tail calls ([`Stage`]): the one that every packet
//! enters has what plain IPv4 needs and nothing else, so that each stays small for the verifier and the
//! rare is no burden to the common. Each stage has a file:
//!
//! | packet | file |
//! |---|---|
//! | plain, of a flow | this one |
//! | of a worker's connection that lives on the stack | `stack` |
//! | of no flow yet | `new`, and for what is not as usual `unknown`, and `open` for what becomes one |
//! | with tags, options, extension headers, in pieces | `extended` |
//! | ready to be rewritten | `leave` |
//! | a SYN whose MSS is to be lowered | `mss` |
//! | ICMP | `icmp`; `answer` writes our own |
//! | anything, while userspace is gone | `orphan` |
//!
//! No clock: the tick is in [`Settings`]. No unsafe, allocation, I/O or panic. Called by the XDP
//! program with kernel maps, and by tests with vectors.

mod access;
mod answer;
mod extended;
mod icmp;
mod leave;
mod mss;
mod new;
mod open;
mod orphan;
mod parse;
mod stack;
mod tables;
mod unknown;

pub use answer::{Answers, answer_too_big, refuse};
pub use extended::{decide_extended, decide_extended6, locate_ipv4, locate_ipv6};
pub use icmp::relay_error;
pub use leave::decide_leaving;
pub use mss::limit_mss;
pub use new::{Haste, decide_new};
pub use orphan::{WATCH_EVERY, decide_orphaned};
pub use tables::{Shared, Tables};
pub use unknown::decide_unknown;

use crate::abi::{
    ABI_VERSION, PREFILTER_WORDS, SETTINGS_MATCH_SOURCE, Service, ServiceCounters, Settings,
};
use crate::family::{Family, V4, V6};
use crate::flow::{FlowEntry, Found, Key, Table};
use crate::layout::{Handover, Layout};
use crate::rewrite::Rewrite;
use crate::tcp::{Flags, State};
use crate::verdict::Reason::{Malformed, NotOurs, NotReady, TtlExpired};
use crate::verdict::Stage;
use crate::verdict::Verdict::{self, Continue, Pass};
use crate::wire::Packet;
use leave::{Egress, leave, send};
use orphan::{detour, may_detour};
use parse::{Segment, parse_ipv4, parse_ipv6, parse_transport};

/// How the packet came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ingress {
    /// Kernel index of the interface.
    pub ifindex: u32,
    /// Receive queue of that interface.
    pub queue: u32,
    /// The CPU we run on, which has source ports of its own.
    pub cpu: u32,
}

/// Decides about `packet` and, if it is to be forwarded, rewrites it. Where every packet enters.
#[inline(always)]
pub fn decide<P, T>(packet: &mut P, tables: &T, ingress: Ingress) -> Verdict
where
    P: Packet + ?Sized,
    T: Tables<V4>,
{
    match parse_ipv4(packet) {
        Ok(layout) => decide_plain::<V4, P, T>(packet, tables, layout, ingress),
        Err(verdict) => verdict,
    }
}

/// As [`decide`], of [`Stage::Ipv6`].
#[inline(always)]
pub fn decide_ipv6<P, T>(packet: &mut P, tables: &T, ingress: Ingress) -> Verdict
where
    P: Packet + ?Sized,
    T: Tables<V6>,
{
    match parse_ipv6(packet) {
        Ok(layout) => decide_plain::<V6, P, T>(packet, tables, layout, ingress),
        Err(verdict) => verdict,
    }
}

#[inline(always)]
fn decide_plain<F, P, T>(packet: &mut P, tables: &T, layout: Layout, ingress: Ingress) -> Verdict
where
    F: Family,
    P: Packet + ?Sized,
    T: Tables<F>,
{
    match forward::<F, P, T>(packet, tables, layout, ingress) {
        Ok(rewrite) => {
            let egress = Egress::plain(rewrite.link);
            leave(packet, tables, &rewrite, (layout, egress), ingress)
        }
        Err(verdict) => verdict,
    }
}

/// So many tail calls the kernel makes for one packet (`MAX_TAIL_CALL_CNT`); the program goes on behind one more.
const MAX_TAIL_CALLS: u32 = 33;

/// All stages that `packet` goes through, as the kernel does by tail calls.
pub fn decide_fully<P, T>(packet: &mut P, tables: &T, ingress: Ingress) -> Verdict
where
    P: Packet + ?Sized,
    T: Tables<V4> + Tables<V6>,
{
    let mut verdict = decide(packet, tables, ingress);
    for _ in 0..MAX_TAIL_CALLS {
        let Continue(stage) = verdict else {
            break;
        };
        verdict = match stage {
            Stage::Ipv4 => decide(packet, tables, ingress),
            Stage::New => decide_new::<V4, _, _>(packet, tables, ingress),
            Stage::Open => decide_unknown::<V4, _, _>(packet, tables, ingress),
            Stage::Open6 => decide_unknown::<V6, _, _>(packet, tables, ingress),
            Stage::Ipv6 => decide_ipv6(packet, tables, ingress),
            Stage::TooBig => answer_too_big::<V4, _, _>(packet, tables),
            Stage::TooBig6 => answer_too_big::<V6, _, _>(packet, tables),
            Stage::Mss => limit_mss::<V4, _, _>(packet, tables),
            Stage::Mss6 => limit_mss::<V6, _, _>(packet, tables),
            Stage::Leave => decide_leaving::<V4, _, _>(packet, tables, ingress),
            Stage::Leave6 => decide_leaving::<V6, _, _>(packet, tables, ingress),
            Stage::Extended => decide_extended(packet, tables, ingress),
            Stage::Extended6 => decide_extended6(packet, tables, ingress),
            Stage::Orphaned => decide_orphaned::<V4, _, _>(packet, tables),
            Stage::Orphaned6 => decide_orphaned::<V6, _, _>(packet, tables),
            Stage::Icmp => relay_error::<V4, _, _>(packet, tables, ingress),
            Stage::Icmp6 => relay_error::<V6, _, _>(packet, tables, ingress),
            Stage::Refuse => refuse::<V4, _, _>(packet, tables),
            Stage::Refuse6 => refuse::<V6, _, _>(packet, tables),
        };
    }
    verdict
}

/// The rewrite for a plain packet of a flow that is there; what is of no flow goes on to be opened.
#[inline(always)]
fn forward<F, P, T>(
    packet: &P,
    tables: &T,
    layout: Layout,
    ingress: Ingress,
) -> Result<Rewrite<F>, Verdict>
where
    F: Family,
    P: Packet + ?Sized,
    T: Tables<F>,
{
    let settings = settings(tables)?;
    let ip = packet
        .header::<F::Header>(layout.network)
        .ok_or(Pass(Malformed))?;
    if !may_be_ours::<F, T>(tables, settings, F::addresses(ip)) {
        return Err(Pass(NotOurs));
    }
    if packet.len() < layout.network + F::total_len(ip) {
        // Or the rest of it is in other buffers, which it takes a helper to know.
        return Err(Continue(F::EXTENDED));
    }
    let segment = parse_transport::<F, P>(packet, ip, layout, packet.len())?;
    let mut note = Handover::of(layout);
    if may_detour(settings) {
        note = note.with_flag(tables.take_over().flags);
        detour(tables, settings, segment.flags, note)?;
    }
    // A SYN most likely opens a flow. To look for one here as well would be to look twice.
    if segment.flags.opens() {
        return Err(enter(tables, segment.noted(note, ingress.ifindex), F::NEW));
    }
    let table = Table::new(tables, settings);
    match table.find(&segment.key) {
        // With the flags of where it has been, or it would be sent there again.
        Some(found) if found.is_tagged() => Err(enter(tables, note, F::EXTENDED)),
        Some(found) => established(&table, &found, &segment, note),
        None => {
            let stage = if segment.opens() { F::NEW } else { F::OPEN };
            Err(enter(tables, segment.noted(note, ingress.ifindex), stage))
        }
    }
}

/// Hands the packet on to another program, which finds its headers where this one has found them.
#[inline(always)]
fn enter<T: Shared>(tables: &T, note: Handover, stage: Stage) -> Verdict {
    tables.hand_over(note);
    Continue(stage)
}

/// The settings, once userspace has written them.
#[inline(always)]
fn settings<T: Shared>(tables: &T) -> Result<&Settings, Verdict> {
    tables
        .settings()
        .filter(|settings| settings.abi_version == ABI_VERSION)
        .ok_or(Pass(NotReady))
}

impl<F: Family> Key<F> {
    /// The service that packets of this tuple are addressed to.
    #[inline(always)]
    fn service(&self) -> F::ServiceKey {
        let (address, port) = self.destination();
        F::service_key(address, port.to_be_bytes(), self.protocol)
    }
}

/// Whether a packet can belong to a service or flow at all. Most packets of a host that does other
/// things too end here, after four nanoseconds.
#[inline(always)]
fn may_be_ours<F: Family, T: Shared>(
    tables: &T,
    settings: &Settings,
    addresses: F::Addresses,
) -> bool {
    in_prefilter::<F, T>(tables, addresses)
        || (settings.flags & SETTINGS_MATCH_SOURCE != 0
            && in_prefilter::<F, T>(tables, F::swapped(addresses)))
}

/// Whether the destination may be one of ours.
#[inline(always)]
fn in_prefilter<F: Family, T: Shared>(tables: &T, addresses: F::Addresses) -> bool {
    let (word, bit) = F::prefilter_bit(F::destination(addresses));
    tables
        .prefilter_word(word & (PREFILTER_WORDS - 1))
        .is_some_and(|bits| bits & bit != 0)
}

/// Whether the packet opens another flow in the place of this one. Of a one-way flow only one side's FIN is ever seen.
#[inline(always)]
fn is_reopened<F: Family>(found: &Found<'_, F>, segment: &Segment<F>) -> bool {
    segment.flags.opens()
        && match found.entry.state() {
            State::Closed => true,
            State::Closing => !found.mode().is_two_way(),
            State::HalfOpen | State::Established => false,
        }
}

/// A packet of a flow that we know.
#[inline(always)]
fn established<F: Family, T: Tables<F>>(
    table: &Table<'_, T, F>,
    found: &Found<'_, F>,
    segment: &Segment<F>,
    note: Handover,
) -> Result<Rewrite<F>, Verdict> {
    let entry = found.entry;
    if segment.ttl <= 1 {
        return Err(Pass(TtlExpired));
    }
    entry.count(segment.length, table.settings.tick);
    let counters = ServiceCounters {
        forwarded: 1,
        ..segment.counters()
    };
    table.sets.count(entry.service(), counters);
    let news = entry.track(segment.flags);
    if news != Flags::default() {
        tell_peer(table, found, segment.key.protocol, news);
    }
    // `None`: given up in this instant, and so as good as not found, except that it has been counted.
    let rewrite = found.rewrite();
    rewrite.ok_or_else(|| enter(table.sets, note, F::EXTENDED))
}

/// Tells the entry of the other direction, if that comes by here, of the flags that it must learn.
#[inline(always)]
fn tell_peer<F: Family, T: Tables<F>>(
    table: &Table<'_, T, F>,
    found: &Found<'_, F>,
    protocol: u8,
    news: Flags,
) {
    let rewrite = found.rewrite();
    let peer = rewrite.and_then(|rewrite| rewrite.peer(protocol));
    if let Some(peer) = peer.and_then(|peer| table.find_cold(&peer)) {
        FlowEntry::tell(peer, news);
    }
}

/// Index of the service's counters.
#[expect(
    clippy::cast_possible_truncation,
    reason = "at most 256 numbers (asserted in `abi`)"
)]
#[inline(always)]
fn counters_of(service: Service) -> u8 {
    service.id as u8
}

#[cfg(test)]
mod tests;
