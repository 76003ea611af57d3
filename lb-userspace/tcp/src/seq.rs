//! Sequence numbers, which wrap (RFC 9293 §3.4).

use core::ops::{Add, AddAssign, Sub};

/// A sequence number.
///
/// Comparable only within half the number space of each other, so `Ord` would lie (it must be transitive): the
/// comparisons have names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Seq(pub u32);

impl Seq {
    /// Less than.
    pub const fn precedes(self, other: Self) -> bool {
        self.0.wrapping_sub(other.0).cast_signed() < 0
    }

    /// Greater than.
    pub const fn follows(self, other: Self) -> bool {
        other.precedes(self)
    }

    /// The later of two.
    #[must_use]
    pub const fn max(self, other: Self) -> Self {
        if self.precedes(other) { other } else { self }
    }

    /// The earlier of two.
    #[must_use]
    pub const fn min(self, other: Self) -> Self {
        if other.precedes(self) { other } else { self }
    }

    /// Numbers from `earlier`, which must not be later, to this one.
    pub const fn since(self, earlier: Self) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }

    /// Whether this lies in `start..end`.
    pub const fn is_within(self, start: Self, end: Self) -> bool {
        self.since(start) < end.since(start)
    }
}

impl Add<u32> for Seq {
    type Output = Self;

    fn add(self, count: u32) -> Self {
        Self(self.0.wrapping_add(count))
    }
}

impl AddAssign<u32> for Seq {
    fn add_assign(&mut self, count: u32) {
        *self = *self + count;
    }
}

impl Sub<u32> for Seq {
    type Output = Self;

    fn sub(self, count: u32) -> Self {
        Self(self.0.wrapping_sub(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_survives_the_wrap() {
        let (old, new) = (Seq(u32::MAX - 1), Seq(3));
        assert!(old.precedes(new) && new.follows(old) && !old.precedes(old));
        assert_eq!((old.max(new), old.min(new)), (new, old));
        assert_eq!((new.since(old), old + 5, new - 5), (5, new, old));
        assert!(Seq(0).is_within(old, new) && !new.is_within(old, new));
    }
}
