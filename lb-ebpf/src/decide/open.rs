//! The first packet of a flow: its server, its tuple there, and the entries that make the rest of it fast.

use super::parse::Segment;
use super::unknown::Arrival;
use super::{Ingress, Tables, counters_of, enter};
use crate::abi::{
    BACKEND_FLAG_REACHABLE, Backend, RING_EMPTY, SERVICE_FLAG_AFFINITY, SERVICE_FLAG_KEEP_SOURCE,
    Service, ServiceCounters,
};
use crate::family::Family;
use crate::flow::{self, Key, Table, Value};
use crate::nat;
use crate::rewrite::{Macs, Mode, Rewrite, tunnel_ports};
use crate::tcp::{Direction, Flags};
use crate::verdict::Reason::{
    self, Malformed, NoServer, ServerUnreachable, TableFull, TtlExpired, TupleInUse,
};
use crate::verdict::Verdict::{self, Drop, Pass};
use crate::wire::{Eth, Packet};

/// The first packet of a connection: chooses its server, its tuple there, and remembers both.
#[inline(always)]
pub(super) fn open<F, P, T>(
    packet: &P,
    table: &Table<'_, T, F>,
    segment: &Segment<F>,
    service: Service,
    arrival: Arrival,
) -> Result<(), Verdict>
where
    F: Family,
    P: Packet + ?Sized,
    T: Tables<F>,
{
    if segment.ttl <= 1 {
        return Err(Pass(TtlExpired));
    }
    let chosen = choose(table, &segment.key, service).map_err(Drop)?;
    if !Mode::of_bits(service.forward).is_two_way() {
        open_one_way(table, segment, service, &chosen);
        return Ok(());
    }
    let tuple = if service.flags & SERVICE_FLAG_KEEP_SOURCE == 0 {
        nat::map_source(table, &segment.key, chosen.backend, arrival.ingress.cpu)
            .ok_or_else(|| enter(table.sets, arrival.note, F::REFUSE))?
    } else {
        nat::keep_source(table, &segment.key, chosen.backend).ok_or(Drop(TupleInUse))?
    };
    let eth = packet.header::<Eth>(0).ok_or(Pass(Malformed))?;
    let to = chosen.value(service, Mode::Nat, tuple.addresses, tuple.ports);
    table.sets.note_rewrite(&to.rewrite);
    let back = back(&to, segment, Macs::of(eth), arrival.note.link);
    table
        .insert(&segment.key, &to, &tuple.reversed(), &back)
        .map_err(|flow::Full| Drop(TableFull))?;
    table.sets.count(to.service, OPENED);
    Ok(())
}

/// Touches the sets that [`open`] will need, that of the packet and that of the answers. Both are cold, and the two waits
/// become one, as long as so little is between the two that the processor has both on its hands at once.
#[inline(always)]
pub(super) fn touch_both<F: Family, T: Tables<F>>(
    table: &Table<'_, T, F>,
    client: &Key<F>,
    service: Service,
    ingress: Ingress,
) {
    if !Mode::of_bits(service.forward).is_two_way() {
        return;
    }
    let Ok(Chosen { backend, .. }) = choose(table, client, service) else {
        return;
    };
    let tuple = if service.flags & SERVICE_FLAG_KEEP_SOURCE == 0 {
        nat::first_choice(table, client, backend, ingress.cpu)
    } else {
        Some(nat::same_source(client, backend))
    };
    if let Some(tuple) = tuple {
        table.touch(client);
        table.touch(&tuple.reversed());
    }
}

/// What the entry of the answers holds, to packets of a client that came by `link`.
#[inline(always)]
pub(super) fn back<F: Family>(
    to: &Value<F>,
    segment: &Segment<F>,
    macs: Macs,
    link: u32,
) -> Value<F> {
    let answer = segment.key.reversed();
    Value {
        rewrite: Rewrite {
            mode: Mode::Nat,
            addresses: answer.addresses,
            ports: answer.ports,
            macs: macs.swapped(),
            link,
        },
        direction: Direction::Reverse,
        seen: Flags::default(),
        ..*to
    }
}

/// As [`open`], in the modes in which the server answers its client itself.
///
/// A full table is no reason to refuse: as long as the ring stays, the next packet finds the same server without it.
#[inline(always)]
fn open_one_way<F: Family, T: Tables<F>>(
    table: &Table<'_, T, F>,
    segment: &Segment<F>,
    service: Service,
    chosen: &Chosen<'_>,
) {
    let to = chosen.one_way(service, &segment.key);
    let counters = match table.insert_one_way(&segment.key, &to) {
        Ok(()) => OPENED,
        Err(flow::Full) => ServiceCounters { flows: 0, ..OPENED },
    };
    table.sets.count(to.service, counters);
    table.sets.note_rewrite(&to.rewrite);
}

/// Whether a segment in mid-connection, of a flow that is not here, may be given to the server that its tuple leads to.
/// So it can where the tuple alone says what to write. A RST may not: it would open what it wants to end.
#[inline(always)]
pub(super) fn may_adopt(service: Service, flags: Flags) -> bool {
    let follows_from_tuple = !Mode::of_bits(service.forward).is_two_way()
        || service.flags & SERVICE_FLAG_KEEP_SOURCE != 0;
    follows_from_tuple && !flags.has(Flags::RST)
}

/// As [`open`], of a segment in mid-connection, whose flow was displaced here or opened on another host with the same
/// configuration. It is older than any ring that came while it lived, so the ring before the live one is asked first.
#[inline(always)]
pub(super) fn adopt<F, P, T>(
    packet: &P,
    table: &Table<'_, T, F>,
    segment: &Segment<F>,
    service: Service,
    arrival: Arrival,
) -> Result<(), Verdict>
where
    F: Family,
    P: Packet + ?Sized,
    T: Tables<F>,
{
    open(packet, table, segment, before_change(service), arrival)
}

/// The service with the ring that flows older than the live one were opened by.
#[inline(always)]
pub(super) fn before_change(service: Service) -> Service {
    let ring = match service.previous_ring {
        RING_EMPTY => service.ring,
        previous => previous,
    };
    Service { ring, ..service }
}

/// What the entry of `client`'s flow would hold, of a service whose flows may be adopted; `None` if it leads nowhere.
/// Nothing is inserted.
#[inline(always)]
pub(super) fn would_hold<F: Family, T: Tables<F>>(
    table: &Table<'_, T, F>,
    client: &Key<F>,
    service: Service,
) -> Option<Value<F>> {
    let chosen = choose(table, client, service).ok()?;
    if !Mode::of_bits(service.forward).is_two_way() {
        return Some(chosen.one_way(service, client));
    }
    let tuple = nat::keep_source(table, client, chosen.backend)?;
    Some(chosen.value(service, Mode::Nat, tuple.addresses, tuple.ports))
}

/// Any port that tells the flows of a client apart, so that the server's card deals them out to its queues. Not a keyed
/// hash: those must not be shown to anyone.
#[expect(clippy::cast_possible_truncation, reason = "sixteen bits are meant")]
#[inline(always)]
fn tunnel_source_port<F: Family>(key: &Key<F>) -> u16 {
    let folded = F::fold(key.addresses) ^ key.ports;
    EPHEMERAL | (folded ^ folded >> 16) as u16
}

/// The dynamic ports (RFC 6335 §6) are those from here on.
const EPHEMERAL: u16 = 0xc000;

pub(super) const OPENED: ServiceCounters = ServiceCounters {
    packets: 0,
    bytes: 0,
    flows: 1,
    forwarded: 1,
};

/// The server of a new flow.
pub(super) struct Chosen<'a> {
    index: u16,
    pub(super) backend: &'a Backend,
}

impl Chosen<'_> {
    /// As [`value`](Self::value), in the modes in which the server answers its client itself.
    #[inline(always)]
    fn one_way<F: Family>(&self, service: Service, client: &Key<F>) -> Value<F> {
        let backend = self.backend;
        let mode = Mode::of_bits(service.forward);
        let (addresses, ports) = match mode {
            Mode::Ipip | Mode::Gue => (
                F::join(
                    F::unmapped(backend.tunnel_source),
                    F::unmapped(backend.address),
                ),
                tunnel_ports(tunnel_source_port(client), backend.mtu),
            ),
            Mode::Nat | Mode::Dsr => (client.addresses, client.ports),
        };
        self.value(service, mode, addresses, ports)
    }

    /// What the entry of the client's packets holds.
    #[inline(always)]
    pub(super) fn value<F: Family>(
        &self,
        service: Service,
        mode: Mode,
        addresses: F::Addresses,
        ports: u32,
    ) -> Value<F> {
        let backend = self.backend;
        Value {
            rewrite: Rewrite {
                mode,
                addresses,
                ports,
                macs: Macs::new(backend.destination_mac, backend.source_mac),
                link: backend.link,
            },
            direction: Direction::Forward,
            seen: Flags::SYN,
            service: counters_of(service),
            backend: self.index,
        }
    }
}

/// The server of a new connection. A drop, not a reset by the stack, if there is none: on a host with a
/// listener on the same port the stack would *accept* the connection.
#[inline(always)]
pub(super) fn choose<'a, F: Family, T: Tables<F>>(
    table: &Table<'a, T, F>,
    client: &Key<F>,
    service: Service,
) -> Result<Chosen<'a>, Reason> {
    if service.ring == RING_EMPTY {
        return Err(NoServer);
    }
    let affine = service.flags & SERVICE_FLAG_AFFINITY != 0;
    let client = Key {
        ports: if affine { 0 } else { client.ports },
        ..*client
    };
    let slot = service.ring.wrapping_add(table.slot(&client));
    let index = table.sets.ring_slot(slot).ok_or(NoServer)?;
    let backend = table.sets.backend(index).ok_or(NoServer)?;
    if backend.flags & BACKEND_FLAG_REACHABLE == 0 {
        return Err(ServerUnreachable);
    }
    // The map has no more elements than fit (asserted in `flow`).
    u16::try_from(index)
        .map(|index| Chosen { index, backend })
        .map_err(|_| NoServer)
}
