//! The usual first packet of a flow that comes back here: a plain one for a server on a plain link, when both sets have room
//! and show that nobody has its tuples.
//!
//! Everything else goes on to the stage that can do it all (`unknown`), and nothing has changed. A program of its own, because
//! walking over two sets at once takes the stack of a whole program.

use super::access::admit;
use super::leave::{Egress, leave};
use super::open::{OPENED, back, choose};
use super::parse::Segment;
use super::unknown::Arrival;
use super::{Ingress, Tables, enter, settings};
use crate::abi::{LINK_VLAN, SERVICE_FLAG_KEEP_SOURCE, SERVICE_KIND_L4, Service, ServiceCounters};
use crate::family::Family;
use crate::flow::Table;
use crate::layout::Layout;
use crate::nat;
use crate::rewrite::{Macs, Mode, Rewrite};
use crate::verdict::Verdict;
use crate::wire::{Eth, Packet};

/// Decides about a packet of [`Stage::New`](crate::verdict::Stage::New): one that opens a flow, if there is none.
#[inline(always)]
pub fn decide_new<F, P, T>(packet: &mut P, tables: &T, ingress: Ingress) -> Verdict
where
    F: Family,
    P: Packet + ?Sized,
    T: Tables<F>,
{
    let note = tables.take_over();
    let arrival = Arrival { note, ingress };
    let layout = Layout::plain::<F>(note.layout().protocol);
    match open_plain::<F, P, T>(packet, tables, layout, arrival) {
        Some(Ok(rewrite)) => {
            let egress = Egress::plain(rewrite.link);
            leave(packet, tables, &rewrite, (layout, egress), ingress)
        }
        Some(Err(verdict)) => verdict,
        None => enter(tables, note, F::OPEN),
    }
}

/// `None` if it has to go the long way.
#[inline(always)]
fn open_plain<F, P, T>(
    packet: &P,
    tables: &T,
    layout: Layout,
    arrival: Arrival,
) -> Option<Result<Rewrite<F>, Verdict>>
where
    F: Family,
    P: Packet + ?Sized,
    T: Tables<F>,
{
    let settings = settings(tables).ok()?;
    let ip = packet.header::<F::Header>(layout.network)?;
    let segment = Segment::<F>::of(&arrival.note, F::addresses(ip));
    let service = tables.service(&segment.key.service())?;
    if service.kind != SERVICE_KIND_L4 || !Mode::of_bits(service.forward).is_two_way() {
        return None;
    }
    // As on the long way, before anything is looked for.
    if let Err(verdict) = admit(tables, service, &segment) {
        return Some(Err(verdict));
    }
    let table = Table::new(tables, settings);
    open_at_once(packet, &table, &segment, service, arrival).map(Ok)
}

/// Both entries, if their sets have room and are without doubt.
#[inline(always)]
fn open_at_once<F, P, T>(
    packet: &P,
    table: &Table<'_, T, F>,
    segment: &Segment<F>,
    service: Service,
    arrival: Arrival,
) -> Option<Rewrite<F>>
where
    F: Family,
    P: Packet + ?Sized,
    T: Tables<F>,
{
    if segment.ttl <= 1 {
        return None;
    }
    let chosen = choose(table, &segment.key, service).ok()?;
    let tuple = if service.flags & SERVICE_FLAG_KEEP_SOURCE == 0 {
        nat::first_choice(table, &segment.key, chosen.backend, arrival.ingress.cpu)?
    } else {
        nat::same_source(&segment.key, chosen.backend)
    };
    let reverse = tuple.reversed();
    let vacancies = table.vacancies(&segment.key, &reverse)?;
    let eth = packet.header::<Eth>(0)?;
    let to = chosen.value(service, Mode::Nat, tuple.addresses, tuple.ports);
    let back = back(&to, segment, Macs::of(eth), arrival.note.link);
    if to.rewrite.link & LINK_VLAN != 0
        || !table.fill(vacancies, (&segment.key, &to), (&reverse, &back))
    {
        return None;
    }
    let counters = ServiceCounters {
        flows: OPENED.flows,
        forwarded: OPENED.forwarded,
        ..segment.counters()
    };
    table.sets.count(to.service, counters);
    Some(to.rewrite)
}
