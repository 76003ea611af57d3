//! Giving up flows that nobody uses any more, by userspace, set by set, while packets go on.
//!
//! The two directions of a flow age together: a download keeps the entry of its acknowledgements
//! alive, and the other way round. An entry whose other direction is missing ages alone.

use super::{FlowEntry, FlowSet, FlowSnapshot, Sets, Table};
use crate::family::Family;
use crate::tcp::State;
use crate::wire::PROTOCOL_UDP;

/// Ticks without a packet, in either direction, after which a flow is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// The client has acknowledged nothing.
    pub half_open: u32,
    /// Both sides are there.
    pub established: u32,
    /// One side has said goodbye.
    pub closing: u32,
    /// Both have, or one has reset the connection: twice the time a segment may live.
    pub closed: u32,
    /// UDP, which says neither hello nor goodbye.
    pub datagrams: u32,
}

impl Default for Timeouts {
    /// The least that RFC 5382 (REQ-5) allows a NAT for TCP: 124 minutes established, four minutes in
    /// between. For UDP the five minutes that RFC 4787 (REQ-5) recommends. For ticks of a second.
    fn default() -> Self {
        Self {
            half_open: 240,
            established: 7440,
            closing: 240,
            closed: 240,
            datagrams: 300,
        }
    }
}

impl Timeouts {
    const fn of<F: Family>(&self, flow: &FlowSnapshot<F>) -> u32 {
        match flow.state {
            _ if flow.key.protocol == PROTOCOL_UDP => self.datagrams,
            State::HalfOpen => self.half_open,
            State::Established => self.established,
            State::Closing => self.closing,
            State::Closed => self.closed,
        }
    }
}

/// What is to become of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate<'a> {
    /// It ends at once.
    End,
    /// It ends when it has been idle for too long.
    Age(&'a Timeouts),
}

impl<F: Family, S: Sets<F>> Table<'_, S, F> {
    /// Gives up the flows of `set` that are due, in both directions; returns the number of entries that are free now,
    /// which may lie in other sets as well.
    pub fn sweep<'f>(&self, set: &FlowSet<F>, fate: impl Fn(&FlowSnapshot<F>) -> Fate<'f>) -> u32 {
        let entries = set.entries().iter();
        entries.map(|entry| self.sweep_entry(entry, &fate)).sum()
    }

    fn sweep_entry<'f>(
        &self,
        entry: &FlowEntry<F>,
        fate: impl Fn(&FlowSnapshot<F>) -> Fate<'f>,
    ) -> u32 {
        let Some(flow) = entry.snapshot() else {
            return 0;
        };
        let peer = flow
            .peer()
            .and_then(|peer| self.find(&peer))
            .and_then(|found| Some((found.entry, found.entry.snapshot()?)));
        let idle = |flow: &FlowSnapshot<F>| self.settings.tick.saturating_sub(flow.last_tick);
        let youngest = peer.map_or(idle(&flow), |(_, peer)| idle(&flow).min(idle(&peer)));
        if let Fate::Age(timeouts) = fate(&flow)
            && youngest <= timeouts.of(&flow)
        {
            return 0;
        }
        let peer_released = peer.is_some_and(|(entry, peer)| entry.release(peer.version));
        u32::from(entry.release(flow.version)) + u32::from(peer_released)
    }
}
