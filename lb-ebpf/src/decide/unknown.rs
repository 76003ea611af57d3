//! Packets that seem to be for us and are of no flow: each opens one, goes to a worker, or is left to the stack.

use super::access::admit;
use super::open::{adopt, may_adopt, open, touch_both};
use super::parse::Segment;
use super::stack::goes_to_stack;
use super::{Ingress, Shared, Tables, counters_of, enter, is_reopened, settings};
use crate::abi::{SERVICE_KIND_L4, SERVICE_KIND_NONE, SERVICE_KIND_STACK, SERVICE_KIND_WORKER};
use crate::family::Family;
use crate::flow::Table;
use crate::layout::{Handover, Piece};
use crate::verdict::Part;
use crate::verdict::Reason::{
    Malformed, NoFlow, NoWorker, StackFlow, StackService, WorkerFragment, WorkerHeaders,
};
use crate::verdict::Verdict::{self, Drop, Pass};
use crate::wire::Packet;

/// Decides about a packet of [`Stage::Open`](crate::verdict::Stage::Open): for us, as it seems, and of no flow.
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
    // Before anything is looked for, touched or opened. What is of no flow of mode "l4" would open one, or be adopted.
    let may_begin = service.kind == SERVICE_KIND_L4 || segment.opens();
    if may_begin {
        admit(tables, service, &segment)?;
    }
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
        // Before its headers are looked at: the stack reads more than a worker's TCP does.
        SERVICE_KIND_WORKER if goes_to_stack(tables, service, &segment) => Err(Pass(StackFlow)),
        SERVICE_KIND_WORKER => {
            let part = if segment.opens() {
                Part::Opening
            } else {
                Part::Connection
            };
            Err(worker::<F, P, T>(packet, tables, arrival, part))
        }
        SERVICE_KIND_STACK => Err(Pass(StackService)),
        _ => Err(Pass(segment.no_service())),
    }
}

/// How a packet came in, and where its headers are.
#[derive(Clone, Copy)]
pub(super) struct Arrival {
    pub(super) note: Handover,
    pub(super) ingress: Ingress,
}

/// A segment for a worker. Its TCP knows plain frames only, and the stack, which doesn't know the connection, would answer
/// the others with RST in its name.
#[inline(always)]
fn worker<F: Family, P: Packet + ?Sized, T: Shared>(
    packet: &P,
    tables: &T,
    Arrival { note, ingress }: Arrival,
    part: Part,
) -> Verdict {
    let layout = note.layout();
    if layout.piece != Piece::Whole {
        return Drop(WorkerFragment);
    }
    if !layout.is_plain::<F>() || note.length as usize > packet.len() {
        return Drop(WorkerHeaders);
    }
    to_worker(tables, ingress, part)
}

/// A packet for a worker goes to the socket of the queue it came by: the kernel accepts no other.
#[inline(always)]
pub(super) fn to_worker<T: Shared>(tables: &T, ingress: Ingress, part: Part) -> Verdict {
    match tables.interface(ingress.ifindex) {
        Some(interface) if ingress.queue < interface.queues => Verdict::Worker {
            slot: interface.xsk_base + ingress.queue,
            part,
        },
        _ => Drop(NoWorker),
    }
}
