//! Ends flows that nobody will miss: closed ones, handshakes that came to nothing, and the idle.
//!
//! The program itself only displaces a flow when it needs the room. Without a sweep a closed flow
//! would keep its SNAT port for ever, and a busy host would run out of ports, not of memory.
//! A pair (forward and reverse) is ended together, and only if neither direction has moved: one of
//! the two alone would leave a server talking to nobody.
//!
//! A race with a packet is harmless: `release` gives up exactly the version that was judged, and a
//! packet that comes at this very moment for a flow idle for so long meets "no flow".

use lb_ebpf::abi::Settings;
use lb_ebpf::flow::{FlowSet, FlowSnapshot, Sets, Table};
use lb_ebpf::tcp::State;

/// A closed flow keeps its ports for this many seconds, Linux' own `TIME_WAIT`: a late segment of
/// the old connection must not reach the new one of another client.
const CLOSED: u32 = 60;
/// A handshake that isn't done by then won't be: five retransmissions of a SYN take 63 s.
const HALF_OPEN: u32 = 64;
/// After one side's FIN. As netfilter's `nf_conntrack_tcp_timeout_fin_wait`, doubled for mail
/// servers that end an `IMAP` session slowly.
const CLOSING: u32 = 240;
/// Exchange's order of timeouts: server's keep-alive (15–30 min) < ours < firewall (1 h).
const ESTABLISHED: u32 = 2400;

/// The table is walked once in so many calls, so that one call stays below a few milliseconds for a
/// million flows.
const PARTS: usize = 16;

struct View<'a>(&'a [FlowSet]);

impl Sets for View<'_> {
    fn flow_set(&self, index: u32) -> Option<&FlowSet> {
        self.0.get(index as usize)
    }
}

/// Seconds without a packet after which a flow in `state` ends.
fn limit(state: State) -> u32 {
    match state {
        State::Closed => CLOSED,
        State::HalfOpen => HALF_OPEN,
        State::Closing => CLOSING,
        State::Established => ESTABLISHED,
    }
}

/// Sweeps part `round % PARTS` of the table at `settings.tick`; returns how many flows it ended.
pub(super) fn sweep(sets: &[FlowSet], settings: &Settings, round: usize) -> usize {
    let part = sets.len().div_ceil(PARTS).max(1);
    let Some(due) = sets.chunks(part).nth(round % PARTS) else {
        return 0;
    };
    let view = View(sets);
    let table = Table {
        sets: &view,
        settings,
    };
    let mut ended = 0;
    for entry in due.iter().flat_map(FlowSet::entries) {
        let Some(flow) = entry.snapshot() else {
            continue;
        };
        let peer = table.find_cold(&flow.rewritten.reversed());
        let peer_flow = peer.and_then(lb_ebpf::flow::FlowEntry::snapshot);
        if !expired(&flow, peer_flow.as_ref(), settings.tick) {
            continue;
        }
        if entry.release(flow.version) {
            ended += 1;
        }
        if let (Some(peer), Some(peer_flow)) = (peer, peer_flow) {
            peer.release(peer_flow.version);
        }
    }
    ended
}

fn expired(flow: &FlowSnapshot, peer: Option<&FlowSnapshot>, tick: u32) -> bool {
    let idle = |flow: &FlowSnapshot| tick.wrapping_sub(flow.last_tick);
    let idle = peer.map_or(idle(flow), |peer| idle(peer).min(idle(flow)));
    idle > limit(flow.state)
}

#[cfg(test)]
mod tests;
