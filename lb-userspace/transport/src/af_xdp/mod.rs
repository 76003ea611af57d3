//! TCP in this process, over `AF_XDP` frames: one [`Engine`] per worker and rx queue.
//!
//! ```text
//!  Frames ─▶ packet ─▶ core ──▶ tcp (smoltcp) ──▶ Stream ─▶ TLS, HTTP
//!    ▲                  │  by 4-tuple   │ buffers     │ wakes
//!    └──── engine ◀─────┴── output of flows that want to send ◀──┘
//! ```
//!
//! Rules that keep it fast and honest:
//! * A packet is found by its full 4-tuple under a keyed hash, and touches its own flow only. No scan over
//!   flows exists, on no path.
//! * Work per turn is bounded ([`BURST`] packets per interface, a quota of segments per flow), then other
//!   tasks of the worker run.
//! * Nothing is dropped for want of a frame: a flow stays in line until it could send, and packets stay in the
//!   rx ring until there is room for their answers.
//! * Answers leave by the interface and to the hardware address that the question came from.
//! * smoltcp is named in `tcp` and `device` alone. It brings the engine up and will be the partner of differential tests
//!   when our own TCP replaces it. What it lacks is known: no SACK processing, a retransmission timeout of at
//!   least 1 s, fixed buffers. So `AF_XDP` is not yet for lossy paths.
//!
//! Deliberately not here: XDP programs and maps, ARP and ICMP (the host answers both), routes, VLAN tags,
//! IP fragments and IPv6 extension headers (dropped and counted; the XDP program passes them to the host).

mod core;
mod device;
mod engine;
mod flow;
mod frames;
mod packet;
mod stream;
mod tcp;
mod time_wait;
mod timers;

#[cfg(test)]
mod tests;

use std::time::Duration;

pub use engine::{BURST, Engine, Handle};
pub use frames::{Frames, Receive, Slot, Transmit, XskFrames};
pub use packet::RxChecksums;
pub use stream::{Listener, Stream};

/// Limits of one engine.
#[derive(Clone, Copy, Debug)]
pub struct EngineConfig {
    /// Connections at most; a SYN above that is ignored. Each holds both buffers below, so the default
    /// of 16,384 can take 1.3 GB.
    pub max_flows: usize,
    /// Connections of one listener that are not accepted yet, half-open ones included. A SYN above
    /// that is ignored, so the client tries again, as with a kernel socket. 1024 by default.
    pub backlog: usize,
    /// Bytes received and not yet read, per connection: the window. 16 KiB by default: requests are small;
    /// an upload gets at most one window per round trip.
    pub receive_buffer: usize,
    /// Bytes written and not yet acknowledged, per connection. 64 KiB by default: what one turn of the
    /// proxy writes should fit.
    pub send_buffer: usize,
    /// A half-open connection is forgotten after this time. 10 s by default: three retransmissions.
    pub handshake_timeout: Duration,
    /// A connection whose stream is dropped is reset if its peer has not finished it after this time.
    /// 60 s by default, as Linux' `tcp_fin_timeout`.
    pub orphan_timeout: Duration,
    /// An idle peer is probed at this interval. 60 s by default.
    pub keepalive: Duration,
    /// A peer is given up when it is silent for so long although it owes an answer. 5 min by default
    /// (RFC 9293 §3.9.1.1).
    pub user_timeout: Duration,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            max_flows: 16_384,
            backlog: 1024,
            receive_buffer: 16 * 1024,
            send_buffer: 64 * 1024,
            handshake_timeout: Duration::from_secs(10),
            orphan_timeout: Duration::from_mins(1),
            keepalive: Duration::from_mins(1),
            user_timeout: Duration::from_mins(5),
        }
    }
}

/// What an engine must know of an interface.
#[derive(Clone, Copy, Debug)]
pub struct PortConfig {
    /// Bytes of an IP packet at most. Below 576 (RFC 791) and above what fits a frame, the bound counts.
    /// There is no path MTU discovery: ICMP errors reach the host, which knows nothing of our connections.
    /// Where clients sit behind narrower links than their MSS option says, a smaller value here helps.
    pub mtu: usize,
    /// Whether received checksums are verified.
    pub rx_checksums: RxChecksums,
}

/// What an engine has done since it began, and what it holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// TCP segments received.
    pub rx_segments: u64,
    /// TCP segments sent.
    pub tx_segments: u64,
    /// Connections whose handshake was completed.
    pub established: u64,
    /// RST segments sent, for whatever reason.
    pub resets_sent: u64,
    /// Connections that the peer reset.
    pub resets_received: u64,
    /// SYNs ignored because the listener's backlog was full.
    pub syns_ignored_backlog: u64,
    /// SYNs ignored because of [`EngineConfig::max_flows`].
    pub syns_ignored_flows: u64,
    /// Half-open connections forgotten.
    pub handshake_timeouts: u64,
    /// Connections reset because the peer did not finish after we had.
    pub orphan_timeouts: u64,
    /// Dropped: neither IPv4 nor IPv6.
    pub dropped_not_ip: u64,
    /// Dropped: not TCP.
    pub dropped_not_tcp: u64,
    /// Dropped: IP fragments.
    pub dropped_fragment: u64,
    /// Dropped: lengths that contradict each other.
    pub dropped_malformed: u64,
    /// Dropped: wrong checksum. Climbing on a virtual Ethernet pair, it says that
    /// [`RxChecksums::Trust`] is missing.
    pub dropped_checksum: u64,
    /// Dropped: nobody listens at the destination and no connection is known.
    pub dropped_unknown_address: u64,
    /// Segments that found no frame although there had been room. Always 0, or a bug.
    pub lost_output: u64,
    /// Times that the engine had to wait for frames to be sent.
    pub waits_for_frames: u64,
    /// Errors of the device while sending; the packets stay queued.
    pub flush_errors: u64,
    /// Connections now.
    pub flows: usize,
    /// Closed connections that are remembered for late segments.
    pub time_wait: usize,
}
