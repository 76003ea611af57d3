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
mod extended;
mod icmp;
mod mss;
mod open;
mod orphan;
mod parse;

pub use answer::{Answers, answer_too_big, refuse};
pub use extended::{decide_extended, decide_extended6};
pub use icmp::relay_error;
pub use mss::limit_mss;
pub use orphan::{WATCH_EVERY, decide_orphaned};

use crate::abi::{
    ABI_VERSION, Backend, Interface, LINK_VLAN, PREFILTER_WORDS, SERVICE_KIND_L4,
    SERVICE_KIND_NONE, SERVICE_KIND_STACK, SERVICE_KIND_WORKER, SETTINGS_MATCH_SOURCE, Service,
    ServiceCounters, Settings, Vlan, VlanKey,
};
use crate::family::{Family, V4, V6};
use crate::flow::{FlowEntry, Found, Key, Sets, Table};
use crate::layout::{FragmentKey, Handover, Layout, MAX_TAGS, Piece, Tags};
use crate::nat::SourceAddresses;
use crate::rewrite::{Applied, Mode, Rewrite};
use crate::tcp::{Flags, State};
use crate::verdict::Reason::{
    GueChecksum, Malformed, NoFlow, NoHeadroom, NoWorker, NotOurs, NotReady, StackService, TooBig,
    TtlExpired, VlanGone, WorkerFragment, WorkerHeaders,
};
use crate::verdict::Stage;
use crate::verdict::Verdict::{self, Continue, Drop, Pass};
use crate::wire::Packet;
use open::{adopt, may_adopt, open, touch_both};
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
    /// Map `VLANS`.
    fn vlan(&self, index: u32) -> Option<Vlan>;
    /// Map `VLAN_IDS`.
    fn vlan_index(&self, key: &VlanKey) -> Option<u32>;
    /// Adds to map `SERVICE_COUNTERS`.
    fn count(&self, service: u8, counters: ServiceCounters);
    /// Leaves a note for the next stage of the packet.
    fn hand_over(&self, handover: Handover);
    /// Takes the note of the stage before.
    fn take_over(&self) -> Handover;
    /// Map `ANSWERS`, of this CPU.
    fn answers(&self) -> Answers;
    /// Writes map `ANSWERS`.
    fn set_answers(&self, answers: Answers);
}

/// What userspace has told us about one family.
pub trait Tables<F: Family>: Shared + Sets<F> + SourceAddresses<F> {
    /// Map `SERVICES` or `SERVICES6`.
    fn service(&self, key: &F::ServiceKey) -> Option<Service>;
    /// Map `FRAGMENTS` or `FRAGMENTS6`: the ports of a datagram whose first piece has come by.
    fn fragment(&self, key: &FragmentKey<F>) -> Option<u32>;
    /// Writes to that map.
    fn remember_fragment(&self, key: &FragmentKey<F>, ports: u32);
    /// Leaves what is to become of the packet to [`Stage::Leave`], in map `REWRITE` or `REWRITE6`.
    fn note_rewrite(&self, rewrite: &Rewrite<F>);
    /// What was noted last.
    fn noted_rewrite(&self) -> Rewrite<F>;
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
    match forward::<F, P, T>(packet, tables, layout) {
        Ok(rewrite) => {
            let egress = Egress {
                ifindex: rewrite.ifindex,
                tags: Tags::NONE,
            };
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
fn forward<F, P, T>(packet: &P, tables: &T, layout: Layout) -> Result<Rewrite<F>, Verdict>
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
        return Err(enter(tables, segment.noted(note), F::OPEN));
    }
    let table = Table::new(tables, settings);
    match table.find(&segment.key) {
        // With the flags of where it has been, or it would be sent there again.
        Some(found) if found.is_tagged() => Err(enter(tables, note, F::EXTENDED)),
        Some(found) => established(&table, &found, &segment, note),
        None => Err(enter(tables, segment.noted(note), F::OPEN)),
    }
}

/// Hands the packet on to another program, which finds its headers where this one has found them.
#[inline(always)]
fn enter<T: Shared>(tables: &T, note: Handover, stage: Stage) -> Verdict {
    tables.hand_over(note);
    Continue(stage)
}

/// Decides about a packet of [`Stage::Open`]: for us, as it seems, and of no flow.
#[inline(always)]
pub fn decide_unknown<F, P, T>(packet: &mut P, tables: &T, ingress: Ingress) -> Verdict
where
    F: Family,
    P: Packet + ?Sized,
    T: Tables<F>,
{
    let note = tables.take_over();
    match open_or_pass::<F, P, T>(packet, tables, note, ingress) {
        Ok(()) => enter(tables, note, F::LEAVE),
        Err(verdict) => verdict,
    }
}

/// Rewrites a packet of [`Stage::Leave`], as the stage before has found that it must be.
#[inline(always)]
pub fn decide_leaving<F, P, T>(packet: &mut P, tables: &T, ingress: Ingress) -> Verdict
where
    F: Family,
    P: Packet + ?Sized,
    T: Tables<F>,
{
    let layout = tables.take_over().layout();
    let rewrite = tables.noted_rewrite();
    send(packet, tables, Ok(rewrite), layout, ingress)
}

/// Notes the rewrite for the first packet of a flow; any other packet's verdict is the error.
#[inline(always)]
fn open_or_pass<F, P, T>(
    packet: &P,
    tables: &T,
    note: Handover,
    ingress: Ingress,
) -> Result<(), Verdict>
where
    F: Family,
    P: Packet + ?Sized,
    T: Tables<F>,
{
    let settings = settings(tables)?;
    let layout = note.layout();
    let ip = packet
        .header::<F::Header>(layout.network)
        .ok_or(Pass(Malformed))?;
    let segment = Segment::<F>::of(&note, F::addresses(ip));
    let table = Table::new(tables, settings);
    let service = tables.service(&segment.key.service()).unwrap_or_default();
    if service.kind == SERVICE_KIND_L4 && segment.opens() {
        touch_both(&table, &segment.key, service, ingress);
    }
    if let Some(found) = table.find_rare(&segment.key) {
        if !is_reopened(&found, &segment) {
            // A SYN that is sent again, or another CPU has opened the flow since. Who knows all packets knows this one.
            return Err(enter(tables, note, F::EXTENDED));
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
    let arrival = Arrival { note, ingress };
    match service.kind {
        SERVICE_KIND_L4 if segment.opens() => open(packet, &table, &segment, service, arrival),
        SERVICE_KIND_L4 if may_adopt(service, segment.flags) => {
            adopt(packet, &table, &segment, service, arrival)
        }
        // Without a flow there is no server to send it to. The stack, which has no such connection
        // either, answers with RST: the client learns at once what a drop would tell it by timeout.
        SERVICE_KIND_L4 => Err(Pass(NoFlow)),
        SERVICE_KIND_WORKER => Err(worker::<F, P, T>(packet, tables, note, ingress)),
        SERVICE_KIND_STACK => Err(Pass(StackService)),
        _ => Err(Pass(segment.no_service())),
    }
}

/// How a packet came in, and where its headers are.
#[derive(Clone, Copy)]
struct Arrival {
    note: Handover,
    ingress: Ingress,
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
    rewrite.ok_or_else(|| enter(table.sets, segment.noted(note), F::OPEN))
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

/// A packet for a worker goes to the socket of the queue it came by: the kernel accepts no other. Its TCP knows plain frames
/// only, and the stack, which doesn't know the connection, would answer the others with RST in its name.
#[inline(always)]
fn worker<F: Family, P: Packet + ?Sized, T: Shared>(
    packet: &P,
    tables: &T,
    note: Handover,
    ingress: Ingress,
) -> Verdict {
    let layout = note.layout();
    if layout.piece != Piece::Whole {
        return Drop(WorkerFragment);
    }
    if !layout.is_plain::<F>() || note.length as usize > packet.len() {
        return Drop(WorkerHeaders);
    }
    match tables.interface(ingress.ifindex) {
        Some(interface) if ingress.queue < interface.queues => Verdict::Worker {
            slot: interface.xsk_base + ingress.queue,
        },
        _ => Drop(NoWorker),
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

/// Where a packet leaves.
#[derive(Clone, Copy)]
struct Egress {
    ifindex: u32,
    tags: Tags,
}

impl Egress {
    /// What a rewrite means by its interface. Priority is that of the packet as it came, if it came with any
    /// (IEEE 802.1Q §6.9.3: a bridge keeps it).
    #[inline(always)]
    fn of<P: Packet + ?Sized, T: Shared>(
        packet: &P,
        tables: &T,
        link: u32,
        network: usize,
    ) -> Option<Self> {
        if link & LINK_VLAN == 0 {
            return Some(Self {
                ifindex: link,
                tags: Tags::NONE,
            });
        }
        let vlan = tables
            .vlan(link & !LINK_VLAN)
            .filter(|vlan| vlan.count > 0)?;
        let count = (vlan.count as usize - 1) % MAX_TAGS + 1;
        let tags = Tags {
            count,
            tags: vlan.tags,
        };
        Some(Self {
            ifindex: vlan.ifindex,
            tags: tags.with_priority_of(Tags::of(packet, network)?),
        })
    }

    /// What becomes of a packet that is ready.
    #[inline(always)]
    fn verdict(&self, ingress: Ingress) -> Verdict {
        if self.ifindex == ingress.ifindex {
            Verdict::Transmit
        } else {
            Verdict::Redirect {
                ifindex: self.ifindex,
            }
        }
    }
}

/// Rewrites a packet of any layout and says where it leaves.
#[inline(always)]
fn send<F, P, T>(
    packet: &mut P,
    tables: &T,
    rewrite: Result<Rewrite<F>, Verdict>,
    layout: Layout,
    ingress: Ingress,
) -> Verdict
where
    F: Family,
    P: Packet + ?Sized,
    T: Shared,
{
    let rewrite = match rewrite {
        Ok(rewrite) => rewrite,
        Err(verdict) => return verdict,
    };
    if rewrite.mode == Mode::Gue && !F::has_tunnel_checksum(&layout) {
        return Pass(GueChecksum);
    }
    match Egress::of(packet, tables, rewrite.ifindex, layout.network) {
        Some(egress) => leave(packet, tables, &rewrite, (layout, egress), ingress),
        None => Drop(VlanGone),
    }
}

#[inline(always)]
fn leave<F, P, T>(
    packet: &mut P,
    tables: &T,
    rewrite: &Rewrite<F>,
    (layout, egress): (Layout, Egress),
    ingress: Ingress,
) -> Verdict
where
    F: Family,
    P: Packet + ?Sized,
    T: Shared,
{
    match rewrite.apply(packet, layout, egress.tags) {
        None => Drop(NoHeadroom),
        // Nothing is said about a piece that is not the first (RFC 1122 §3.2.2).
        Some(Applied::TooBig) if !layout.has_transport() => Drop(TooBig),
        Some(Applied::TooBig) => enter(tables, Handover::of(layout), F::TOO_BIG),
        Some(Applied::Done) => egress.verdict(ingress),
    }
}

#[cfg(test)]
mod tests;
