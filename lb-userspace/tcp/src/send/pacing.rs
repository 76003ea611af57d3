//! The pacing hook: spreads a window over a round trip. Off by default (`Config::pacing`).
//!
//! Deliberately not here: a pacer of the network interface; the owner's timer decides how fine the pace is, so a
//! [`BURST`] leaves at once.

use core::time::Duration;

use crate::Instant;

/// What may leave ahead of the pace: a timer is never exact.
const BURST: Duration = Duration::from_millis(1);

/// Percent of cwnd per SRTT, in slow start and later, so that the pace is not the limit (Linux' values).
const SLOW_START: u64 = 200;
const AVOIDANCE: u64 = 120;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pacing {
    /// When the next segment would leave at the exact pace.
    next: Instant,
}

impl Pacing {
    pub(super) fn is_due(self, now: Instant) -> bool {
        self.next <= now + BURST
    }

    /// When the next segment may leave.
    pub(super) fn due_at(self) -> Instant {
        let before = self
            .next
            .as_micros()
            .saturating_sub(u64::try_from(BURST.as_micros()).unwrap_or(0));
        Instant::from_micros(before)
    }

    /// `bytes` have left.
    pub(super) fn on_sent(
        &mut self,
        bytes: u32,
        cwnd: u32,
        srtt: Duration,
        is_slow_start: bool,
        now: Instant,
    ) {
        let percent = if is_slow_start { SLOW_START } else { AVOIDANCE };
        let srtt = u64::try_from(srtt.as_micros()).unwrap_or(u64::MAX);
        let time = u64::from(bytes).saturating_mul(srtt).saturating_mul(100)
            / (u64::from(cwnd.max(1)) * percent);
        self.next = self.next.max(now) + Duration::from_micros(time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_takes_its_share_of_a_round_trip() {
        let mut pacing = Pacing::default();
        let now = Instant::from_micros(1_000_000);
        for _ in 0..10 {
            pacing.on_sent(1000, 10_000, Duration::from_millis(120), false, now);
        }
        // 120 ms at 120 % are 100 ms, a burst of which may leave ahead.
        assert!(!pacing.is_due(now));
        assert!(!pacing.is_due(now + Duration::from_millis(98)));
        assert!(pacing.is_due(now + Duration::from_millis(99)));
        assert_eq!(pacing.due_at(), now + Duration::from_millis(99));
    }

    #[test]
    fn time_that_was_not_used_is_gone() {
        let mut pacing = Pacing::default();
        let now = Instant::from_micros(1_000_000);
        pacing.on_sent(5000, 10_000, Duration::from_millis(100), true, now);
        assert!(!pacing.is_due(now));
    }
}
