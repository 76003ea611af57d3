//! How long a reader heard nothing although bytes were due.

use std::time::{Duration, Instant};

/// The longest silence so far.
#[derive(Debug)]
pub(super) struct Silence {
    since: Instant,
    longest: Duration,
}

impl Silence {
    /// From now on, bytes are due.
    pub(super) fn begin() -> Self {
        Self {
            since: Instant::now(),
            longest: Duration::ZERO,
        }
    }

    /// Bytes came.
    pub(super) fn heard(&mut self) {
        let now = Instant::now();
        self.longest = self.longest.max(now - self.since);
        self.since = now;
    }

    /// The longest.
    pub(super) fn longest(&self) -> Duration {
        self.longest
    }
}
