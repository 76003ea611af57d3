//! TCP without I/O: segments and times go in, segments and bytes come out.
//!
//! ```text
//!             ┌─ Endpoint ────────────────────────────────────────────────────────────────┐
//!  segment ──▶│ by 4-tuple ─▶ Connection ─┬─ Sender    what was written, what is in flight,  │──▶ segment
//!  ICMP    ──▶│ listener, cookie          │            loss, congestion                     │
//!  time    ──▶│ timer wheel, line         └─ Receiver  what arrived, reassembly, window,     │──▶ bytes
//!             │ TIME-WAIT records                      acknowledgements                      │
//!             └───────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! * `wire` reads and writes segments; everything else speaks of [`Segment`]s and [`Header`]s, which are values.
//! * [`Connection`] is one connection: the states of RFC 9293 and the order in which a segment is looked at
//!   (§3.10.7). `Sender` and `Receiver` are its two directions, and know nothing of states.
//! * [`Endpoint`] is all connections of one worker: whose a segment is, who may connect, who sends next, what
//!   memory is left.
//!
//! **Pure, and the compiler proves it.** The crate is `no_std` and forbids unsafe code: there is no clock,
//! socket, thread or file that it could reach. Time is an argument ([`Instant`]), so is randomness ([`Secret`]),
//! so is memory for bytes ([`Pool`]). The same calls in the same order give the same segments, which is what makes
//! a failure in the simulator (`tests/`) replayable by its seed.
//!
//! Where it does something else than its RFCs say is listed, with the reasons, in `DEVIATIONS.md`.
//!
//! Deliberately not here: IP (but for the header that goes before a segment: `wire::ip`) and Ethernet, tasks and wakers (`lb-transport` has them), MPTCP, ECN (a hand-over to a kernel
//! socket could not keep it), TCP Fast Open, MD5 and AO.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod buffer;
mod config;
mod connection;
mod cookie;
mod counters;
mod endpoint;
mod pool;
mod receive;
mod secret;
mod segment;
mod send;
mod seq;
mod time;
mod timestamps;
pub mod wire;

pub use config::Config;
pub use connection::{Connection, Failure, Info, Open, Outgoing, Snapshot, State};
pub use counters::Counters;
pub use endpoint::{
    Attachment, Disposition, Endpoint, Exported, FlowId, FlowKey, Icmp, ListenError, Output,
};
pub use pool::{Payload, Pool, Pressure};
pub use secret::Secret;
pub use segment::{Flags, Header, Options, SackBlocks, Segment, SeqRange, Timestamps};
pub use seq::Seq;
pub use time::Instant;

/// What a connection needs and does not own: the time, the rules, and what it shares with the others.
///
/// Passed to every call that may need one of them, so that nothing in this crate holds a reference to anything
/// outside of itself.
#[derive(Debug)]
pub struct Env<'a> {
    /// Time of this call. Never before that of an earlier call.
    pub now: Instant,
    /// The rules.
    pub config: &'a Config,
    /// Memory for bytes.
    pub pool: &'a mut Pool,
    /// What is counted.
    pub counters: &'a mut Counters,
}

/// Rounds of a test that shows a figure: enough to see it work, or as many as asked for.
#[cfg(test)]
fn rounds() -> u32 {
    let asked = std::env::var("LB_ROUNDS").ok();
    asked.and_then(|it| it.parse().ok()).unwrap_or(1000)
}
