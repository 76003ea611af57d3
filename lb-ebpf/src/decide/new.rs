//! The usual first packet of a flow that comes back here: a plain one for a server on a plain link, when both sets have room
//! and show that nobody has its tuples.
//!
//! Everything else goes on to the stage that can do it all (`unknown`), and nothing has changed. A program of its own, because
//! walking over two sets at once takes the stack of a whole program.
//!
//! Where the sets have no room, the look at them was for nothing: in a table that a flood has filled, a sixth of what a SYN
//! costs. So each look in vain has more of the next packets go the long way unseen ([`Haste`]).

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

/// How looks for room have gone lately on this CPU: the element of the per-CPU map `HASTE`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Haste {
    /// So many of the next packets go the long way unseen.
    skip: u32,
    /// So many will after the next failure: one less than a power of two.
    failures: u32,
}

impl Haste {
    /// At most so many are not looked at in a row.
    const MOST: u32 = 63;

    /// With one less to go the long way; `None` if there is none.
    #[inline(always)]
    fn spent(self) -> Option<Self> {
        let skip = self.skip.checked_sub(1)?;
        Some(Self { skip, ..self })
    }

    /// Twice as many as after the failure before.
    #[inline(always)]
    const fn after_failure(self) -> Self {
        let failures = (self.failures << 1 | 1) & Self::MOST;
        Self {
            skip: failures,
            failures,
        }
    }

    /// Half as many.
    #[inline(always)]
    const fn after_success(self) -> Self {
        Self {
            skip: 0,
            failures: self.failures >> 1,
        }
    }
}

/// Decides about a packet of [`Stage::New`](crate::verdict::Stage::New): one that opens a flow, if there is none.
#[inline(always)]
pub fn decide_new<F, P, T>(packet: &mut P, tables: &T, ingress: Ingress) -> Verdict
where
    F: Family,
    P: Packet + ?Sized,
    T: Tables<F>,
{
    let note = tables.take_over();
    if let Some(less) = tables.haste().spent() {
        tables.set_haste(less);
        return enter(tables, note, F::OPEN);
    }
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
    let haste = table.sets.haste();
    let Some(vacancies) = table.vacancies(&segment.key, &reverse) else {
        table.sets.set_haste(haste.after_failure());
        return None;
    };
    if haste != Haste::default() {
        table.sets.set_haste(haste.after_success());
    }
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

#[cfg(test)]
mod tests {
    use super::Haste;

    /// How many of `packets` are looked at, if none or each of the looks is in vain.
    fn looks(haste: &mut Haste, packets: u32, in_vain: bool) -> u32 {
        let mut looks = 0;
        for _ in 0..packets {
            if let Some(less) = haste.spent() {
                *haste = less;
                continue;
            }
            looks += 1;
            *haste = if in_vain {
                haste.after_failure()
            } else {
                haste.after_success()
            };
        }
        looks
    }

    #[test]
    fn in_a_full_table_few_packets_are_looked_at() {
        let mut haste = Haste::default();
        assert_eq!(looks(&mut haste, 1, true), 1);
        assert_eq!(looks(&mut haste, 6400, true), 104);
    }

    #[test]
    fn as_soon_as_there_is_room_all_are_looked_at() {
        let mut haste = Haste::default();
        looks(&mut haste, 6400, true);
        looks(&mut haste, Haste::MOST, false);
        assert_eq!(looks(&mut haste, 100, false), 100);
        assert_eq!(haste, Haste::default());
    }

    #[test]
    fn one_failure_costs_the_next_packet_its_look() {
        let mut haste = Haste::default();
        assert_eq!(looks(&mut haste, 1, true), 1);
        assert_eq!(looks(&mut haste, 10, false), 9);
    }
}
