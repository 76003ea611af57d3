//! Congestion window: CUBIC (RFC 9438), in bytes and without floating point.
//!
//! Time is in milliseconds and the curve in 64-bit integers; `tests` holds it against the formulas in floating point. Below one
//! segment nothing is lost either: remainders are carried (`credit`).
//!
//! Deliberately not here: when a loss is a loss (`rack`, `recovery`), what leaves during a recovery (PRR, `recovery`).

use core::time::Duration;

use super::hystart::HyStart;
use crate::{Instant, Seq};

/// Segments of slow start growth per acknowledgement at most (RFC 9406 §4.2 without pacing).
const L: u32 = 8;

/// The window never grows above what a scaled window can say.
const MAX_WINDOW: u32 = 1 << 30;

/// Before the first loss there is no threshold.
const NO_THRESHOLD: u32 = u32::MAX;

/// The curve is not followed further from its middle: 0.4 segments · (500 s)³ is beyond any window.
const MAX_DISTANCE_MS: i64 = 500_000;

/// What an acknowledgement tells the congestion window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Growth {
    /// Bytes newly acknowledged.
    pub(super) acked: u32,
    /// Whether the window has kept bytes back: otherwise it is not known to be good, and doesn't grow (RFC 9438 §5.8).
    pub(super) was_limit: bool,
    pub(super) srtt: Duration,
    pub(super) una: Seq,
    pub(super) nxt: Seq,
    pub(super) now: Instant,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Cubic {
    cwnd: u32,
    ssthresh: u32,
    mss: u32,
    /// `W_max` (RFC 9438 §4.1.2); 0 if the first congestion avoidance shall begin on its plateau.
    w_max: u32,
    /// `cwnd_prior`.
    cwnd_prior: u32,
    /// `W_est`: what Reno would have (§4.3).
    w_est: u32,
    /// `K` in milliseconds.
    k: u32,
    /// Remainders of `cwnd` and `w_est`, less than one byte in units of 1/cwnd.
    credit: u32,
    est_credit: u32,
    /// `t_epoch`: begin of the congestion avoidance stage, while `in_epoch`. (An `Option` would take eight bytes more.)
    epoch: Instant,
    in_epoch: bool,
    /// When the window was last asked to grow: time in which it wasn't the limit does not count (§5.8).
    last: Instant,
    initial_window: u8,
    hystart: HyStart,
}

impl Cubic {
    /// Reads a field: see `Endpoint::touch`.
    pub(super) fn touch(&self) -> u64 {
        self.last.as_micros()
    }

    pub(super) fn new(mss: u32, initial_window: u32) -> Self {
        let mut cubic = Self {
            cwnd: 0,
            ssthresh: NO_THRESHOLD,
            mss,
            w_max: 0,
            cwnd_prior: 0,
            w_est: 0,
            k: 0,
            credit: 0,
            est_credit: 0,
            epoch: Instant::ZERO,
            in_epoch: false,
            last: Instant::ZERO,
            initial_window: u8::try_from(initial_window).unwrap_or(u8::MAX).max(1),
            hystart: HyStart::default(),
        };
        cubic.cwnd = cubic.restart_window();
        cubic
    }

    /// With the window that another engine had come to.
    pub(super) fn resume(&mut self, cwnd: u32, ssthresh: Option<u32>) {
        self.cwnd = cwnd.clamp(self.mss, MAX_WINDOW);
        self.ssthresh = ssthresh.unwrap_or(NO_THRESHOLD).max(2 * self.mss);
    }

    pub(super) fn cwnd(&self) -> u32 {
        self.cwnd
    }

    /// None before the first loss.
    pub(super) fn ssthresh(&self) -> Option<u32> {
        (self.ssthresh != NO_THRESHOLD).then_some(self.ssthresh)
    }

    pub(super) fn is_slow_start(&self) -> bool {
        self.cwnd < self.ssthresh
    }

    /// A handshake that told the peer's MSS; `lost_syns` times a SYN had to be sent again. One repeated SYN is
    /// no sign of congestion yet, two are (RFC 5681 §3.1 says one is; Linux as here).
    pub(super) fn on_handshake(&mut self, mss: u32, lost_syns: u8) {
        self.mss = mss;
        self.cwnd = if lost_syns > 1 {
            mss
        } else {
            self.restart_window()
        };
    }

    /// Segments became smaller; the window is in bytes and stays.
    pub(super) fn set_mss(&mut self, mss: u32) {
        self.mss = mss;
    }

    /// Nothing was in flight until now: that time does not count (§5.8).
    pub(super) fn on_resume(&mut self, now: Instant) {
        self.skip(now);
        self.last = now;
    }

    /// Idle for longer than a timeout: the window is out of date (RFC 5681 §4.1), but how far slow start may go is
    /// remembered (RFC 7661 §4.4.1 and Linux: three quarters).
    pub(super) fn on_idle(&mut self) {
        if self.cwnd > self.restart_window() {
            self.ssthresh = self.ssthresh.max(self.cwnd / 4 * 3);
            self.cwnd = self.restart_window();
            self.in_epoch = false;
        }
    }

    /// A loss was found (RFC 9438 §4.6, §4.7). From cwnd and not from the flight: the window only grows while it
    /// is the limit, which is the condition for that.
    pub(super) fn on_loss(&mut self) {
        let cwnd = self.cwnd;
        // Fast convergence: a window below the last maximum means that others need room.
        self.w_max = if cwnd < self.w_max {
            scale(cwnd, 17, 20)
        } else {
            cwnd
        };
        self.cwnd_prior = cwnd;
        self.ssthresh = scale(cwnd, 7, 10).max(2 * self.mss);
        self.cwnd = self.ssthresh;
        self.in_epoch = false;
        self.hystart = HyStart::default();
    }

    /// The retransmission timer fired (RFC 9438 §4.8): slow start from one segment; with `is_first` the loss
    /// was not known yet.
    pub(super) fn on_timeout(&mut self, is_first: bool) {
        if is_first {
            self.on_loss();
        }
        self.cwnd = self.mss;
        self.w_max = 0;
        self.in_epoch = false;
        self.hystart = HyStart::default();
    }

    /// The response to a loss was in error; `prior` is how things were (RFC 9438 §4.9.2).
    pub(super) fn undo(&mut self, prior: &Self, now: Instant) {
        let grown = self.cwnd;
        *self = Self {
            mss: self.mss,
            ..*prior
        };
        self.cwnd = self.cwnd.max(grown);
        self.on_resume(now);
    }

    /// A round trip was measured.
    pub(super) fn on_round_trip(&mut self, sample: Duration) {
        if self.is_slow_start() {
            self.hystart.sample(sample);
        }
    }

    pub(super) fn on_ack(&mut self, growth: &Growth) {
        if self.is_slow_start() {
            self.slow_start(growth);
        } else {
            self.avoid_congestion(growth);
        }
        self.last = growth.now;
    }

    fn slow_start(&mut self, growth: &Growth) {
        // Only before the first loss: later the threshold is known (RFC 9406 §4.3).
        let divisor = if self.ssthresh == NO_THRESHOLD {
            self.hystart.on_ack(growth.una, growth.nxt)
        } else {
            1
        };
        if !growth.was_limit {
            return;
        }
        let count = growth.acked.min(L * self.mss) / divisor;
        self.cwnd = (self.cwnd + count).min(self.ssthresh).min(MAX_WINDOW);
        if self.hystart.is_over() {
            self.ssthresh = self.cwnd;
        }
    }

    fn avoid_congestion(&mut self, growth: &Growth) {
        if !growth.was_limit {
            return self.skip(growth.now);
        }
        if !self.in_epoch {
            self.begin_epoch(growth.now);
        }
        let t = millis(growth.now.since(self.epoch));
        self.grow_estimate(growth.acked);
        if self.w_cubic(t) < self.w_est {
            self.cwnd = self.cwnd.max(self.w_est).min(MAX_WINDOW);
            return;
        }
        // Target of §4.2: what the curve says one round trip ahead, at most half a window more.
        let ahead = self.w_cubic(t + millis(growth.srtt));
        let target = ahead.clamp(self.cwnd, self.cwnd + self.cwnd / 2);
        let step = u64::from(target - self.cwnd) * u64::from(growth.acked);
        self.cwnd = (self.cwnd + divide(step, self.cwnd, &mut self.credit)).min(MAX_WINDOW);
    }

    /// The time since the last acknowledgement does not count.
    fn skip(&mut self, now: Instant) {
        self.epoch += now.since(self.last);
    }

    fn begin_epoch(&mut self, now: Instant) {
        self.epoch = now;
        self.in_epoch = true;
        self.w_est = self.cwnd;
        self.credit = 0;
        self.est_credit = 0;
        if self.cwnd < self.w_max {
            // K = cbrt((W_max - cwnd_epoch) / C), C = 0.4 segments/s³, here in ms and bytes.
            let cube = u64::from(self.w_max - self.cwnd) * 2_500_000_000 / u64::from(self.mss);
            self.k = cube_root(cube);
        } else {
            self.w_max = self.cwnd;
            self.k = 0;
        }
    }

    /// `W_cubic(t) = C · (t - K)³ + W_max` (§4.2), in bytes.
    fn w_cubic(&self, t: i64) -> u32 {
        let distance = (t - i64::from(self.k)).clamp(-MAX_DISTANCE_MS, MAX_DISTANCE_MS);
        let cube = distance * distance * distance / 2500;
        let bytes = cube * i64::from(self.mss) / 1_000_000 + i64::from(self.w_max);
        u32::try_from(bytes.clamp(0, i64::from(MAX_WINDOW))).unwrap_or(MAX_WINDOW)
    }

    /// `W_est += α · acked / cwnd` segments (§4.3), α = 9/17 until it has reached `cwnd_prior`, then 1.
    fn grow_estimate(&mut self, acked: u32) {
        let step = u64::from(self.mss) * u64::from(acked);
        let step = if self.w_est < self.cwnd_prior {
            step * 9 / 17
        } else {
            step
        };
        let count = divide(step, self.cwnd, &mut self.est_credit);
        self.w_est = self.w_est.saturating_add(count).min(MAX_WINDOW);
    }

    /// The initial window (RFC 6928 §2), also after idleness.
    fn restart_window(&self) -> u32 {
        let segments = u32::from(self.initial_window);
        (segments * self.mss).min((2 * self.mss).max(segments * 1460))
    }
}

/// `value · numerator / denominator`.
fn scale(value: u32, numerator: u64, denominator: u64) -> u32 {
    u32::try_from(u64::from(value) * numerator / denominator).unwrap_or(u32::MAX)
}

/// `numerator / denominator` with the remainder carried over in `credit`.
fn divide(numerator: u64, denominator: u32, credit: &mut u32) -> u32 {
    let denominator = u64::from(denominator.max(1));
    let sum = numerator + u64::from(*credit);
    *credit = u32::try_from(sum % denominator).unwrap_or(0);
    u32::try_from(sum / denominator).unwrap_or(u32::MAX)
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis())
        .unwrap_or(MAX_DISTANCE_MS)
        .min(MAX_DISTANCE_MS)
}

/// The largest number whose cube is at most `value`, bit by bit.
fn cube_root(value: u64) -> u32 {
    let mut root: u64 = 0;
    for bit in (0..22).rev() {
        let trial = root | (1 << bit);
        if trial * trial * trial <= value {
            root = trial;
        }
    }
    u32::try_from(root).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
