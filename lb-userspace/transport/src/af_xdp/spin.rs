//! Whether an idle engine looks for packets a little longer before it sleeps.
//!
//! A sleep costs two system calls and the scheduler's time to wake up; looking on costs CPU that somebody else may want. So it is off
//! unless asked for, bounded when on, and given up while it does not pay: the time to look on is the limit as long as
//! packets come within it, and half as long after each time that none did.

use std::time::{Duration, Instant};

/// Below that looking on saves nothing.
const LEAST: Duration = Duration::from_micros(1);

#[derive(Debug)]
pub(super) struct Spin {
    limit: Duration,
    budget: Duration,
    /// Since when there was nothing to do.
    idle: Option<Instant>,
}

impl Spin {
    /// Looks on for at most `limit`; zero is never.
    pub(super) fn new(limit: Duration) -> Self {
        Self {
            limit,
            budget: limit,
            idle: None,
        }
    }

    /// There was something to do.
    pub(super) fn on_work(&mut self, now: Instant) {
        let Some(idle) = self.idle.take() else {
            return;
        };
        let waited = now.saturating_duration_since(idle);
        if waited <= self.limit {
            self.budget = self.limit;
        } else if self.budget < LEAST {
            self.budget = Duration::ZERO;
        } else {
            self.budget /= 2;
        }
    }

    /// There is nothing to do: whether to look on rather than sleep.
    pub(super) fn goes_on(&mut self, now: Instant) -> bool {
        if self.limit.is_zero() {
            return false;
        }
        let idle = *self.idle.get_or_insert(now);
        now.saturating_duration_since(idle) < self.budget
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_micros(40);

    #[test]
    fn is_off_without_a_limit() {
        let now = Instant::now();
        let mut spin = Spin::new(Duration::ZERO);
        assert!(!spin.goes_on(now));
        spin.on_work(now);
        assert!(!spin.goes_on(now));
    }

    #[test]
    fn ends_at_the_limit_halves_in_vain_and_recovers_when_packets_come_soon() {
        let mut now = Instant::now();
        let mut spin = Spin::new(LIMIT);
        for part in [1, 2, 4, 8, 16, 32] {
            assert!(spin.goes_on(now));
            let budget = LIMIT / part;
            assert!(spin.goes_on(now + budget / 2));
            assert!(!spin.goes_on(now + budget), "{part}");
            now += Duration::from_secs(1);
            spin.on_work(now);
        }
        for _ in 0..2 {
            assert_eq!(spin.goes_on(now), spin.budget > Duration::ZERO);
            now += Duration::from_secs(1);
            spin.on_work(now);
        }
        assert!(!spin.goes_on(now), "given up");
        spin.on_work(now + LIMIT / 2);
        assert!(spin.goes_on(now + LIMIT / 2), "packets come soon again");
    }
}
