//! The decision: what happens to one packet. The file to read first.
//!
//! ```text
//!  parse ─▶ one of our addresses? ─▶ flow table ──hit──▶ count, track ─▶ rewrite ─▶ Transmit | Redirect
//!    │               │                   │ miss, or a SYN
//!    ▼               ▼                   ▼
//!  Pass            Pass        service? ─┬─ none ──────▶ Pass
//!                                        ├─ WORKER ────▶ Worker
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
//! rare is no burden to the common.
//!
//! No clock: the tick is in [`Settings`]. No unsafe, allocation, I/O or panic. Called by the XDP
//! program with kernel maps, and by tests with vectors.

mod answer;
mod mss;
mod open;
mod parse;

pub use answer::answer_too_big;
pub use mss::{Handover, limit_mss};

use crate::abi::{
    ABI_VERSION, Backend, Interface, PREFILTER_WORDS, SERVICE_KIND_L4, SERVICE_KIND_NONE,
    SERVICE_KIND_STACK, SERVICE_KIND_WORKER, SETTINGS_LIMIT_MSS, SETTINGS_MATCH_SOURCE, Service,
    ServiceCounters, Settings,
};
use crate::family::{Family, V4, V6};
use crate::flow::{FlowEntry, Found, Key, Sets, Table};
use crate::nat::SourceAddresses;
use crate::rewrite::{Applied, Layout, Rewrite};
use crate::tcp::{Flags, State};
use crate::verdict::Reason::{
    Fragment, Malformed, NoFlow, NoHeadroom, NoWorker, NotOurs, NotReady, StackService, TtlExpired,
    WorkerFragment,
};
use crate::verdict::Stage;
use crate::verdict::Verdict::{self, Continue, Drop, Pass};
use crate::wire::{Packet, Udp as Datagram};
use open::{adopt, may_adopt, open, touch_both};
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

/// What userspace has told us, whatever the family: maps in the kernel, vectors in tests. `None` means "no such
/// element".
pub trait Shared {
    /// Map `SETTINGS`.
    fn settings(&self) -> Option<&Settings>;
    /// Map `PREFILTER`.
    fn prefilter_word(&self, index: u32) -> Option<u32>;
    /// Map `RINGS`: index of a server.
    fn ring_slot(&self, index: u32) -> Option<u32>;
    /// Map `BACKENDS`.
    fn backend(&self, index: u32) -> Option<&Backend>;
    /// Map `INTERFACES`.
    fn interface(&self, ifindex: u32) -> Option<Interface>;
    /// Adds to map `SERVICE_COUNTERS`.
    fn count(&self, service: u8, counters: ServiceCounters);
    /// Leaves a note for the next stage of the packet.
    fn hand_over(&self, handover: Handover);
    /// Takes the note of the stage before.
    fn take_over(&self) -> Handover;
}

/// What userspace has told us about one family.
pub trait Tables<F: Family>: Shared + Sets<F> + SourceAddresses<F> {
    /// Map `SERVICES` or `SERVICES6`.
    fn service(&self, key: &F::ServiceKey) -> Option<Service>;
}

/// Decides about `packet` and, if it is to be forwarded, rewrites it. Where every packet enters.
#[inline(always)]
pub fn decide<P, T>(packet: &mut P, tables: &T, ingress: Ingress) -> Verdict
where
    P: Packet + ?Sized,
    T: Tables<V4>,
{
    let layout = Layout::plain::<V4>();
    let rewrite = parse_ipv4(packet).and_then(|ip| forward::<V4, _, _>(packet, tables, ip, layout));
    send(packet, rewrite, layout, ingress)
}

/// As [`decide`], of [`Stage::Ipv6`].
#[inline(always)]
pub fn decide_ipv6<P, T>(packet: &mut P, tables: &T, ingress: Ingress) -> Verdict
where
    P: Packet + ?Sized,
    T: Tables<V6>,
{
    let layout = Layout::plain::<V6>();
    let rewrite = parse_ipv6(packet).and_then(|ip| forward::<V6, _, _>(packet, tables, ip, layout));
    send(packet, rewrite, layout, ingress)
}

/// All stages that `packet` goes through, as the kernel does by tail calls.
pub fn decide_fully<P, T>(packet: &mut P, tables: &T, ingress: Ingress) -> Verdict
where
    P: Packet + ?Sized,
    T: Tables<V4> + Tables<V6>,
{
    let mut verdict = decide(packet, tables, ingress);
    while let Continue(stage) = verdict {
        verdict = match stage {
            Stage::Ipv4 => decide(packet, tables, ingress),
            Stage::Open => decide_unknown::<V4, _, _>(packet, tables, ingress),
            Stage::Open6 => decide_unknown::<V6, _, _>(packet, tables, ingress),
            Stage::Ipv6 => decide_ipv6(packet, tables, ingress),
            Stage::TooBig => answer_too_big::<V4, _, _>(packet, tables),
            Stage::TooBig6 => answer_too_big::<V6, _, _>(packet, tables),
            Stage::Mss => limit_mss::<V4, _, _>(packet, tables),
            Stage::Mss6 => limit_mss::<V6, _, _>(packet, tables),
        };
    }
    verdict
}

/// The rewrite for a packet of a flow that is there; what is for no flow of ours goes to [`open_or_pass`].
#[inline(always)]
fn forward<F, P, T>(
    packet: &P,
    tables: &T,
    ip: &F::Header,
    layout: Layout,
) -> Result<Rewrite<F>, Verdict>
where
    F: Family,
    P: Packet + ?Sized,
    T: Tables<F>,
{
    let settings = settings(tables)?;
    let addresses = F::addresses(ip);
    if !may_be_ours::<F, T>(tables, settings, addresses) {
        return Err(Pass(NotOurs));
    }
    if F::is_fragment(ip) {
        return Err(fragment::<F, P, T>(packet, tables, ip, layout));
    }
    let segment = parse_transport::<F, P>(packet, ip, layout)?;
    if segment.flags.has(Flags::SYN) {
        if settings.flags & SETTINGS_LIMIT_MSS != 0 && tables.take_over() != Handover::MssLimited {
            return Err(Continue(F::MSS));
        }
        // It most likely opens a flow. To look for one here as well would be to look twice.
        if segment.flags.opens() {
            return Err(Continue(F::OPEN));
        }
    }
    let table = Table::new(tables, settings);
    match table.find(&segment.key) {
        Some(found) => established(&table, &found, &segment),
        None => Err(Continue(F::OPEN)),
    }
}

/// Decides about a packet of [`Stage::Open`]: for us, as it seems, and of no flow.
#[inline(always)]
pub fn decide_unknown<F, P, T>(packet: &mut P, tables: &T, ingress: Ingress) -> Verdict
where
    F: Family,
    P: Packet + ?Sized,
    T: Tables<F>,
{
    let layout = Layout::plain::<F>();
    let rewrite = open_or_pass::<F, P, T>(packet, tables, layout, ingress);
    send(packet, rewrite, layout, ingress)
}

/// The rewrite for the first packet of a flow; any other packet's verdict is the error.
#[inline(always)]
fn open_or_pass<F, P, T>(
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
    let segment = parse_transport::<F, P>(packet, ip, layout)?;
    let table = Table::new(tables, settings);
    let service = tables.service(&segment.key.service()).unwrap_or_default();
    if service.kind == SERVICE_KIND_L4 && segment.opens() {
        touch_both(&table, &segment.key, service, ingress);
    }
    if let Some(found) = table.find(&segment.key) {
        if !is_reopened(&found, &segment) {
            // A SYN that is sent again, or another CPU has opened the flow since.
            return established(&table, &found, &segment);
        }
        // The client reuses its port: a new connection, which may go to another server.
        let rewrite = found.rewrite();
        if let Some(peer) = rewrite.and_then(|rewrite| rewrite.peer(segment.key.protocol)) {
            table.remove(&peer);
        }
        table.remove(&segment.key);
    }
    if service.kind == SERVICE_KIND_NONE {
        return Err(Pass(segment.no_service()));
    }
    tables.count(counters_of(service), segment.counters());
    match service.kind {
        SERVICE_KIND_L4 if segment.opens() => open(packet, &table, &segment, service, ingress),
        SERVICE_KIND_L4 if may_adopt(service, segment.flags) => {
            adopt(packet, &table, &segment, service, ingress)
        }
        // Without a flow there is no server to send it to. The stack, which has no such connection
        // either, answers with RST: the client learns at once what a drop would tell it by timeout.
        SERVICE_KIND_L4 => Err(Pass(NoFlow)),
        SERVICE_KIND_WORKER => Err(worker(tables, ingress)),
        SERVICE_KIND_STACK => Err(Pass(StackService)),
        _ => Err(Pass(segment.no_service())),
    }
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

/// Fragments go to the stack, except to workers: their TCP does not reassemble, and the stack would
/// answer with RST in their name. Later fragments carry no port to tell whose they are, but without
/// the first one the stack can do nothing with them.
#[inline(always)]
fn fragment<F: Family, P: Packet + ?Sized, T: Tables<F>>(
    packet: &P,
    tables: &T,
    ip: &F::Header,
    layout: Layout,
) -> Verdict {
    if !F::is_first_fragment(ip) {
        return Pass(Fragment);
    }
    // The first eight bytes of both protocols have the ports in the same place, and a fragment has at
    // least eight bytes (RFC 791 §2.3).
    let Some(transport) = packet.header::<Datagram>(layout.transport) else {
        return Pass(Malformed);
    };
    let key = Key::<F> {
        addresses: F::addresses(ip),
        ports: u32::from_ne_bytes(transport.ports),
        protocol: F::protocol(ip),
    };
    match tables.service(&key.service()) {
        Some(service) if service.kind == SERVICE_KIND_WORKER => Drop(WorkerFragment),
        _ => Pass(Fragment),
    }
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
    found.rewrite().ok_or(Continue(F::OPEN))
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

/// A packet for a worker goes to the socket of the queue it came by: the kernel accepts no other.
#[inline(always)]
fn worker<T: Shared>(tables: &T, ingress: Ingress) -> Verdict {
    match tables.interface(ingress.ifindex) {
        Some(interface) if ingress.queue < interface.queues => Verdict::Worker {
            slot: interface.xsk_base + ingress.queue,
        },
        _ => Drop(NoWorker),
    }
}

/// Index of the service's counters. Userspace numbers services from zero, below `MAX_SERVICES`.
#[expect(
    clippy::cast_possible_truncation,
    reason = "at most 256 services (asserted in `flow`)"
)]
#[inline(always)]
fn counters_of(service: Service) -> u8 {
    service.id as u8
}

/// Rewrites the packet and says where it leaves.
#[inline(always)]
fn send<F: Family, P: Packet + ?Sized>(
    packet: &mut P,
    rewrite: Result<Rewrite<F>, Verdict>,
    layout: Layout,
    ingress: Ingress,
) -> Verdict {
    let rewrite = match rewrite {
        Ok(rewrite) => rewrite,
        Err(verdict) => return verdict,
    };
    match rewrite.apply(packet, layout) {
        None => Drop(NoHeadroom),
        Some(Applied::TooBig) => Continue(F::TOO_BIG),
        Some(Applied::Done) if rewrite.ifindex == ingress.ifindex => Verdict::Transmit,
        Some(Applied::Done) => Verdict::Redirect {
            ifindex: rewrite.ifindex,
        },
    }
}

#[cfg(test)]
mod tests;
