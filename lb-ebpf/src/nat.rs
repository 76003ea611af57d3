//! Which tuple a new connection gets towards its server.
//!
//! The invariant: a tuple on the server's side belongs to one client. The answers could not be told
//! apart otherwise, and someone would read another's mail. So a tuple with any entry, even of a closed
//! connection, is not given out again before that entry is gone; and the port space is dealt out to
//! the CPUs, so that no two can look, find the same port free, and both take it. Called by
//! [`crate::decide`].

use crate::abi::{Backend, Settings};
use crate::family::{Family, V4};
use crate::flow::{Key, Sets, Table};

/// Ports tried for one connection. With half of the ports to a server in use, one connection in 256
/// finds none and is refused; below a quarter, one in 65,536.
const PROBES: u32 = 8;

/// Where source addresses come from: map `SNAT_ADDRESSES` or `SNAT_ADDRESSES6`, or a vector.
pub trait SourceAddresses<F: Family = V4> {
    /// The address at `index`; `None` past the end.
    fn snat_address(&self, index: u32) -> Option<F::Address>;
}

/// The tuple as the server will see it if it may know the client: only the destination changes.
#[inline(always)]
pub(crate) fn same_source<F: Family>(client: &Key<F>, backend: &Backend) -> Key<F> {
    Key::new(client.source(), server::<F>(backend), client.protocol)
}

/// [`same_source`], unless another flow has it.
#[inline(always)]
pub(crate) fn keep_source<F: Family, S: Sets<F>>(
    table: &Table<'_, S, F>,
    client: &Key<F>,
    backend: &Backend,
) -> Option<Key<F>> {
    let tuple = same_source(client, backend);
    table
        .find_cold(&tuple.reversed())
        .is_none()
        .then_some(tuple)
}

/// The tuple as the server will see it with one of our source addresses.
#[inline(always)]
pub(crate) fn map_source<F: Family, S: Sets<F> + SourceAddresses<F>>(
    table: &Table<'_, S, F>,
    client: &Key<F>,
    backend: &Backend,
    cpu: u32,
) -> Option<Key<F>> {
    let mut choices = Choices::of(table, client, backend, cpu)?;
    for _ in 0..PROBES {
        let tuple = choices.next()?;
        if table.find_cold(&tuple.reversed()).is_none() {
            return Some(tuple);
        }
    }
    None
}

/// What [`map_source`] comes to, unless another flow has it.
#[inline(always)]
pub(crate) fn first_choice<F: Family, S: Sets<F> + SourceAddresses<F>>(
    table: &Table<'_, S, F>,
    client: &Key<F>,
    backend: &Backend,
    cpu: u32,
) -> Option<Key<F>> {
    Choices::of(table, client, backend, cpu)?.next()
}

/// The tuples that a client's connection may get towards a server, in the order in which they are tried.
struct Choices<F: Family> {
    address: F::Address,
    server: (F::Address, u16),
    protocol: u8,
    range: Range,
    /// Where in the range the next port is, as a fraction of 2³².
    point: u32,
}

impl<F: Family> Choices<F> {
    #[inline(always)]
    fn of<S: Sets<F> + SourceAddresses<F>>(
        table: &Table<'_, S, F>,
        client: &Key<F>,
        backend: &Backend,
        cpu: u32,
    ) -> Option<Self> {
        let settings = table.settings;
        // Not the one that the ring slot was taken from.
        let (_, hash) = client.hashes(&settings.hash_key);
        let addresses = F::snat_address_count(settings);
        let index = scale(hash, addresses);
        // Without any, the first one is still there in an array map: 0.0.0.0.
        if index >= addresses {
            return None;
        }
        Some(Self {
            address: table.sets.snat_address(index)?,
            server: server::<F>(backend),
            protocol: client.protocol,
            range: Range::of(settings, cpu),
            // The low half picks the port, because the high one has picked the address.
            point: hash << 16,
        })
    }

    #[inline(always)]
    fn next(&mut self) -> Option<Key<F>> {
        let port = self.range.port(scale(self.point, self.range.slots))?;
        self.point = self.point.wrapping_add(GOLDEN);
        Some(Key::new((self.address, port), self.server, self.protocol))
    }
}

#[inline(always)]
fn server<F: Family>(backend: &Backend) -> (F::Address, u16) {
    (
        F::unmapped(backend.address),
        u16::from_be_bytes(backend.port),
    )
}

/// Steps of the golden ratio spread any number of points evenly over the range (Knuth, TAOCP 3, §6.4).
const GOLDEN: u32 = 0x9e37_79b9;

/// The ports of one CPU: every `1 << bits`th of the configured range.
struct Range {
    first: u32,
    slots: u32,
    bits: u32,
}

impl Range {
    #[inline(always)]
    fn of(settings: &Settings, cpu: u32) -> Self {
        // Sixteen bits would leave one port; the mask is for the verifier and for nonsense alike.
        let bits = settings.snat_partition_bits & 15;
        Self {
            first: u32::from(settings.snat_port_first) + (cpu & ((1 << bits) - 1)),
            slots: u32::from(settings.snat_port_count) >> bits,
            bits,
        }
    }

    /// The port of a slot; `None` if this CPU has none.
    #[inline(always)]
    fn port(&self, slot: u32) -> Option<u16> {
        if slot >= self.slots {
            return None;
        }
        u16::try_from(self.first + (slot << self.bits)).ok()
    }
}

/// `hash` scaled to `0..below`, without the division that a zero could break.
#[inline(always)]
fn scale(hash: u32, below: u32) -> u32 {
    ((u64::from(hash) * u64::from(below)) >> 32) as u32
}
