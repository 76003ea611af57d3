//! So many in a second, and so many at once.

use std::time::{Duration, Instant};

/// Tokens for a second, which come at an even pace.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    /// What has been saved up: time, a second at most.
    saved: Duration,
    since: Instant,
}

impl Bucket {
    /// What can be saved up.
    const DEPTH: Duration = Duration::from_secs(1);

    pub(super) fn full(now: Instant) -> Self {
        Self {
            saved: Self::DEPTH,
            since: now,
        }
    }

    /// Whether there was a token.
    pub(super) fn take(&mut self, per_second: u32, now: Instant) -> bool {
        let more = now.saturating_duration_since(self.since);
        self.saved = self.saved.saturating_add(more).min(Self::DEPTH);
        self.since = now;
        let left = Self::DEPTH
            .checked_div(per_second)
            .and_then(|cost| self.saved.checked_sub(cost));
        self.saved = left.unwrap_or(self.saved);
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_of_moves_is_saved_up_and_no_more() {
        let mut now = Instant::now();
        let mut bucket = Bucket::full(now);
        let taken = |bucket: &mut Bucket, now| (0..100).filter(|_| bucket.take(10, now)).count();
        assert_eq!(taken(&mut bucket, now), 10);
        now += Duration::from_millis(250);
        assert_eq!(taken(&mut bucket, now), 2);
        now += Duration::from_millis(50);
        assert_eq!(taken(&mut bucket, now), 1, "halves are kept");
        now += Duration::from_mins(1);
        assert_eq!(taken(&mut bucket, now), 10);
        assert!(!bucket.take(0, now + Duration::from_mins(1)), "none");
    }
}
