//! Timers: when they are set and what they do when they fire.

use core::time::Duration;

use super::recovery::Phase;
use super::timers::{Early, Late, earlier};
use super::{Expiry, Pending, Sender};
use crate::{Env, Instant};

/// What a peer waits before it acknowledges a lone segment (`TLP.max_ack_delay` of RFC 8985 §7.2, which leaves the value open).
/// Linux waits 40 ms or a round trip, whichever is longer, and Windows 40 or 50 ms by a clock of 16; of the two round trips in
/// the probe's time one is for that. Whatever a flight was, what is left of it in the end is one segment, so each lost tail costs this.
const USUAL_ACK_DELAY: Duration = Duration::from_millis(80);

/// The same of a peer that was probed in vain: older systems wait as long as this.
const MAX_ACK_DELAY: Duration = Duration::from_millis(200);

/// A tail loss probe waits two round trips and this, for the clocks of both ends (Linux: two ticks).
const PTO_MARGIN: Duration = Duration::from_millis(2);

/// A tail loss probe waits so long before a round trip was measured (RFC 8985 §7.2).
const PTO_WITHOUT_SRTT: Duration = Duration::from_secs(1);

/// The interval of window probes is doubled so often at most; `Config::max_rto` bounds it as well.
const MAX_SHIFT: u8 = 16;

impl Sender {
    /// Lets timers (retransmission, tail loss probe, reordering, persist, pacing) that are due fire.
    pub(crate) fn on_timer(&mut self, env: &mut Env<'_>) -> Expiry {
        // Whoever still waits for the pace says so again.
        self.is_paced &= !self.pacing.is_due(env.now);
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= env.now);
        if is_due(self.early.at()) {
            match core::mem::replace(&mut self.early, Early::Off) {
                // The probe takes the place of a timeout that is due at the same time.
                Early::Probe(_) => {
                    self.pending = Pending::Tail;
                    self.late = Late::Retransmit(env.now + self.rtt.rto(env.config));
                }
                Early::Reorder(_) | Early::Off => self.on_late_arrival(env),
            }
        }
        match self.late {
            Late::Retransmit(at) if at <= env.now => self.on_timeout(env),
            Late::Persist { at, shift } if at <= env.now => self.on_persist(shift, env),
            _ => Expiry::Handled,
        }
    }

    /// RFC 6298 §5.4 to §5.7, with RFC 8985 §6.3.
    fn on_timeout(&mut self, env: &mut Env<'_>) -> Expiry {
        env.counters.timeouts += 1;
        if self.is_silent(env) {
            return Expiry::GiveUp;
        }
        if self.syn_acked {
            self.enter_loss(env);
        }
        self.rtt.back_off();
        self.pending = Pending::Head;
        self.arm_retransmit(env);
        Expiry::Handled
    }

    fn on_persist(&mut self, shift: u8, env: &mut Env<'_>) -> Expiry {
        if self.is_silent(env) {
            return Expiry::GiveUp;
        }
        self.pending = Pending::Window;
        self.arm_persist((shift + 1).min(MAX_SHIFT), env);
        Expiry::Handled
    }

    /// Whether the peer has owed an answer for the user timeout.
    fn is_silent(&self, env: &Env<'_>) -> bool {
        env.now.since(self.silent_since) >= env.config.user_timeout
    }

    /// Waits for the peer's window.
    pub(super) fn begin_persist(&mut self, env: &Env<'_>) {
        self.silent_since = env.now;
        self.arm_persist(0, env);
    }

    /// The first probe after a retransmission timeout, the next ones exponentially later (RFC 9293 §3.8.6.1).
    fn arm_persist(&mut self, shift: u8, env: &Env<'_>) {
        let interval = self.rtt.rto(env.config) * (1 << shift);
        let at = env.now + interval.min(env.config.max_rto);
        self.late = Late::Persist {
            at: self.before_silence(at, env),
            shift,
        };
    }

    /// Starts the retransmission timer anew, or stops it when nothing is in flight (RFC 6298 §5.1 to §5.3).
    pub(super) fn arm_retransmit(&mut self, env: &Env<'_>) {
        self.late = if self.records.is_empty() {
            Late::Off
        } else {
            let at = env.now + self.rtt.rto(env.config);
            Late::Retransmit(self.before_silence(at, env))
        };
        self.arm_early(env);
    }

    /// `at`, or when the user timeout is over if that is earlier.
    fn before_silence(&self, at: Instant, env: &Env<'_>) -> Instant {
        at.min((self.silent_since + env.config.user_timeout).max(env.now))
    }

    /// Sets the tail loss probe, unless something else is being waited for (RFC 8985 §7.2).
    pub(super) fn arm_early(&mut self, env: &Env<'_>) {
        if matches!(self.early, Early::Reorder(_)) && !self.records.is_empty() {
            return;
        }
        let is_eligible = self.sack
            && self.syn_acked
            && !self.records.is_empty()
            && self.tail.is_none()
            && self.pending != Pending::Tail
            && matches!(self.phase, Phase::Open)
            && self.records.sacked().segments == 0
            && self.records.lost().segments == 0;
        self.early = match self.late {
            Late::Retransmit(rto) if is_eligible => Early::Probe((env.now + self.pto()).min(rto)),
            _ => Early::Off,
        };
    }

    /// Sets the reordering timer.
    pub(super) fn arm_reorder(&mut self, at: Option<Instant>, env: &Env<'_>) {
        match (at, self.early) {
            (Some(at), _) => self.early = Early::Reorder(at),
            (None, Early::Reorder(_)) => {
                self.early = Early::Off;
                self.arm_early(env);
            }
            (None, _) => {}
        }
        debug_assert!(
            self.records.is_empty() || earlier(self.late.at(), self.early.at()).is_some(),
            "something is in flight and nothing is waited for"
        );
    }

    /// Whether a single segment is in flight, whose acknowledgement the peer may delay.
    pub(super) fn is_lone(&self) -> bool {
        self.records.in_flight().segments == 1
    }

    fn pto(&self) -> Duration {
        let Some(srtt) = self.rtt.srtt() else {
            return PTO_WITHOUT_SRTT;
        };
        let margin = match (self.is_lone(), self.acks_late) {
            (false, _) => PTO_MARGIN,
            (true, false) => USUAL_ACK_DELAY,
            (true, true) => MAX_ACK_DELAY,
        };
        srtt * 2 + margin
    }
}
