//! The first packet of a flow: its server, its tuple there, and the entries that make the rest of it fast.

use super::parse::Segment;
use super::{Ingress, Tables, counters_of};
use crate::abi::{
    BACKEND_FLAG_REACHABLE, Backend, RING_EMPTY, SERVICE_FLAG_KEEP_SOURCE, Service, ServiceCounters,
};
use crate::family::Family;
use crate::flow::{self, Key, Table, Value};
use crate::nat;
use crate::rewrite::{Macs, Rewrite};
use crate::tcp::{Direction, Flags};
use crate::verdict::Reason::{
    self, Malformed, NoServer, ServerUnreachable, SnatExhausted, TableFull, TtlExpired, TupleInUse,
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
    ingress: Ingress,
) -> Result<Rewrite<F>, Verdict>
where
    F: Family,
    P: Packet + ?Sized,
    T: Tables<F>,
{
    if segment.ttl <= 1 {
        return Err(Pass(TtlExpired));
    }
    let (id, backend) = choose(table, &segment.key, service).map_err(Drop)?;
    let tuple = if service.flags & SERVICE_FLAG_KEEP_SOURCE == 0 {
        nat::map_source(table, &segment.key, backend, ingress.cpu).ok_or(Drop(SnatExhausted))?
    } else {
        nat::keep_source(table, &segment.key, backend).ok_or(Drop(TupleInUse))?
    };
    let eth = packet.header::<Eth>(0).ok_or(Pass(Malformed))?;
    let answer = segment.key.reversed();
    let to = Value {
        rewrite: Rewrite {
            addresses: tuple.addresses,
            ports: tuple.ports,
            macs: Macs::new(backend.destination_mac, backend.source_mac),
            ifindex: backend.ifindex,
        },
        direction: Direction::Forward,
        seen: Flags::SYN,
        service: counters_of(service),
        backend: id,
    };
    let back = Value {
        rewrite: Rewrite {
            addresses: answer.addresses,
            ports: answer.ports,
            macs: Macs::of(eth).swapped(),
            ifindex: ingress.ifindex,
        },
        direction: Direction::Reverse,
        seen: Flags::default(),
        ..to
    };
    table
        .insert(&segment.key, &to, &tuple.reversed(), &back)
        .map_err(|flow::Full| Drop(TableFull))?;
    let counters = ServiceCounters {
        flows: 1,
        forwarded: 1,
        ..ServiceCounters::default()
    };
    table.sets.count(to.service, counters);
    Ok(to.rewrite)
}

/// The server of a new connection. A drop, not a reset by the stack, if there is none: on a host with a
/// listener on the same port the stack would *accept* the connection.
#[inline(always)]
fn choose<'a, F: Family, T: Tables<F>>(
    table: &Table<'a, T, F>,
    client: &Key<F>,
    service: Service,
) -> Result<(u16, &'a Backend), Reason> {
    if service.ring == RING_EMPTY {
        return Err(NoServer);
    }
    let slot = service.ring.wrapping_add(table.slot(client));
    let index = table.sets.ring_slot(slot).ok_or(NoServer)?;
    let backend = table.sets.backend(index).ok_or(NoServer)?;
    if backend.flags & BACKEND_FLAG_REACHABLE == 0 {
        return Err(ServerUnreachable);
    }
    // The map has no more elements than fit (asserted in `flow`).
    u16::try_from(index)
        .map(|index| (index, backend))
        .map_err(|_| NoServer)
}
