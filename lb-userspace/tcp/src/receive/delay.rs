//! When an acknowledgement leaves (RFC 9293 §3.8.6.3, RFC 5681 §4.2).
//!
//! Every second full segment is acknowledged at once, and a lesser amount after `delayed_ack`, in the hope of data to go with. As
//! on Linux the first segments of a connection are acknowledged one by one: its sender has a window of few segments, which
//! grows by acknowledgements. And as there, a delay that was for nothing is not repeated: once no data went with an acknowledgement, those of small
//! segments don't wait, until data goes again. A sender that waits for it with its next small segment (Nagle, RFC 1122 §4.2.3.4) would else get one of them
//! through in 40 ms: `RPC_IN_DATA` of Outlook is such a stream.
//!
//! Unlike on Linux the very first segment waits a moment if it is not a full one: it is mostly a request, whose response acknowledges
//! it for nothing, while an acknowledgement of its own is one of the four packets that a connection for one request costs us. `HAProxy` has
//! its kernel do the same (`tcp-smart-accept`). The moment is short, for a client may hold back the rest of a request until then (Nagle).
//!
//! Deliberately not here: what an acknowledgement says.

use core::mem;
use core::time::Duration;

use crate::{Env, Instant};

/// Acknowledgements at the start of a connection that don't wait: `TCP_MAX_QUICKACKS` of Linux.
const QUICK_ACKS: u8 = 16;

/// How long the acknowledgement of a first, short segment waits for the response: less than anybody notices.
const FIRST_DELAY: Duration = Duration::from_millis(5);

/// A full segment of the peer before one was seen: what every host takes (RFC 9293 §3.7.1).
const FIRST_MSS: u16 = 536;

/// The acknowledgement that is owed, if one is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Delay {
    deadline: Option<Instant>,
    is_due: bool,
    quick: u8,
    /// There was text.
    has_begun: bool,
    /// The last acknowledgement waited for data that didn't come.
    is_one_way: bool,
    /// Largest payload that came. The MSS that we told says little: the peer's way may be narrower.
    mss: u16,
}

impl Delay {
    pub(super) const fn new() -> Self {
        Self {
            deadline: None,
            is_due: false,
            quick: QUICK_ACKS,
            has_begun: false,
            is_one_way: false,
            mss: FIRST_MSS,
        }
    }

    /// A full segment of the peer, as far as seen.
    pub(super) fn mss(&self) -> u32 {
        self.mss.into()
    }

    /// A segment came, its size known before it is taken or not.
    pub(super) fn saw(&mut self, payload: usize) {
        let payload = u16::try_from(payload).unwrap_or(u16::MAX);
        self.mss = self.mss.max(payload);
    }

    /// Text came in order; `unacked` bytes are not acknowledged with it.
    pub(super) fn on_text(&mut self, unacked: u32, env: &Env<'_>) {
        // A full segment isn't held back by Nagle, and two of them are worth one acknowledgement.
        let is_short = unacked < self.mss();
        let is_first = !mem::replace(&mut self.has_begun, true);
        let delay = match self.quick {
            0 if is_short && self.is_one_way => Duration::ZERO,
            0 => env.config.delayed_ack,
            _ if is_short && is_first => env.config.delayed_ack.min(FIRST_DELAY),
            _ => Duration::ZERO,
        };
        if delay.is_zero() || unacked > self.mss() {
            self.is_due = true;
        } else if self.deadline.is_none() {
            self.deadline = Some(env.now + delay);
        }
    }

    pub(super) fn acknowledge_now(&mut self) {
        self.is_due = true;
    }

    pub(super) fn is_due(&self) -> bool {
        self.is_due
    }

    pub(super) fn on_timer(&mut self, env: &mut Env<'_>) {
        if !self.is_due && self.deadline.is_some_and(|at| at <= env.now) {
            env.counters.delayed_acks += 1;
            self.is_due = true;
            // A server that thinks for longer than the first delay is no one-way stream.
            self.is_one_way |= self.quick == 0;
        }
    }

    pub(super) fn next_timer(&self) -> Option<Instant> {
        self.deadline.filter(|_| !self.is_due)
    }

    /// Data left, and an acknowledgement with it.
    pub(super) fn on_data_sent(&mut self) {
        self.is_one_way = false;
    }

    /// An acknowledgement left, with data or without.
    pub(super) fn on_sent(&mut self) {
        self.deadline = None;
        self.is_due = false;
        self.quick = self.quick.saturating_sub(1);
    }
}
