//! TCP in this process, over `AF_XDP` frames: one [`Engine`] per worker and rx queue.
//!
//! ```text
//!  Frames ─▶ packet ─▶ core ──▶ lb_tcp::Endpoint ──▶ Stream ─▶ TLS, HTTP
//!    ▲                           │  by 4-tuple          │ wakes
//!    └──── engine ◀─── packet ◀──┴── flows in line ◀────┘
//!             │ moving: Stream ─▶ a kernel socket, and packets back into the stack
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
//! * All that is TCP is in `lb-tcp`, which does no I/O. Here are frames, wakers and the driver.
//! * A connection may move to the kernel ([`Mover`](crate::Mover)): then its stream is a socket's, and nothing here is in its way.
//!
//! Deliberately not here: XDP programs and maps, ARP and ICMP echo (the host answers both), routes, VLAN tags,
//! IP fragments and IPv6 extension headers (dropped and counted; the XDP program sends none here).

mod bucket;
mod core;
mod engine;
mod frames;
mod landed;
pub(crate) mod moves;
mod moving;
mod output;
mod packet;
pub(crate) mod residence;
mod spin;
mod stream;
mod train;

#[cfg(test)]
mod tests;

use std::time::Duration;

pub use engine::{BURST, Engine, Handle};
pub use frames::{Frames, Receive, Slot, Transmit, XskFrames};
pub use moves::{MoveCounters, MoveLimits};
pub use packet::RxChecksums;
pub use packet::icmp::IcmpError;
pub use stream::{Listener, Stream};

/// Rules of one engine.
#[derive(Clone, Copy, Debug)]
pub struct EngineConfig {
    /// Rules of TCP, limits of connections and memory among them. By default those of `lb-tcp`, but idle peers are probed as on the
    /// other transport: after a minute, then every 10 s, and given up after two minutes in all.
    pub tcp: lb_tcp::Config,
    /// How long an idle engine looks for packets before it sleeps. Zero by default: it takes CPU time that the kernel's network
    /// stack, or another worker, may have better use for. 20 to 50 µs are worth it on a CPU of the worker's own.
    pub spin: Duration,
    /// Bounds of what moves to the kernel may cost; none, the default: nothing moves. Needs [`Engine::steer`] besides.
    pub moves: Option<MoveLimits>,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            tcp: lb_tcp::Config {
                keepalive: Duration::from_mins(1),
                keepalive_interval: Duration::from_secs(10),
                keepalive_probes: 6,
                ..lb_tcp::Config::default()
            },
            spin: Duration::ZERO,
            moves: None,
        }
    }
}

/// What an engine must know of an interface.
#[derive(Clone, Copy, Debug)]
pub struct PortConfig {
    /// Bytes of an IP packet at most. Below 576 (RFC 791) and above what fits a frame, the bound counts.
    /// Where clients sit behind narrower links than their MSS option says, a smaller value here helps.
    pub mtu: usize,
    /// Whether received checksums are verified.
    pub rx_checksums: RxChecksums,
}

/// What an engine has done since it began, and what it holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// What TCP counts.
    pub tcp: lb_tcp::Counters,
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
    /// ICMP errors about no connection of this engine, passed on to the others.
    pub icmp_passed_on: u64,
    /// Super-segments: several full segments of a flow in a row, given to the kernel in one piece to cut.
    pub super_segments: u64,
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
    /// Bytes of buffers in use.
    pub memory: usize,
    /// What moves to the kernel have come to.
    pub moves: MoveCounters,
}

impl Counters {
    /// Everything by its name: TCP's as on Linux, ours with `Lb` in front.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let held = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let own = [
            ("LbDroppedNotIp", self.dropped_not_ip),
            ("LbDroppedNotTcp", self.dropped_not_tcp),
            ("LbDroppedFragment", self.dropped_fragment),
            ("LbDroppedMalformed", self.dropped_malformed),
            ("LbDroppedChecksum", self.dropped_checksum),
            ("LbIcmpPassedOn", self.icmp_passed_on),
            ("LbSuperSegments", self.super_segments),
            ("LbLostOutput", self.lost_output),
            ("LbWaitsForFrames", self.waits_for_frames),
            ("LbFlushErrors", self.flush_errors),
            ("LbFlows", held(self.flows)),
            ("LbTimeWait", held(self.time_wait)),
            ("LbMemoryBytes", held(self.memory)),
        ];
        self.tcp.named().chain(own).chain(self.moves.named())
    }
}
