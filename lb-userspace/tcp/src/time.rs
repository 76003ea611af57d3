//! Time as an argument.

use core::ops::{Add, AddAssign};
use core::time::Duration;

/// Microseconds since an origin that the caller chose. The caller's clock must be monotonic.
///
/// 64 bits, so that a timer in a connection takes 8 bytes and not 16; they last 584,000 years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The origin.
    pub const ZERO: Self = Self(0);

    /// `micros` after the origin.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since the origin.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Whole milliseconds since the origin, modulo 2³²: the clock of RFC 7323 timestamps.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "modulo 2³² is what is wanted"
    )]
    pub const fn millis(self) -> u32 {
        (self.0 / 1000) as u32
    }

    /// Time since `earlier`; nothing if that is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(micros))
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}
