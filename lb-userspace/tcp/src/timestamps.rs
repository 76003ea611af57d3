//! Timestamps of one connection (RFC 7323 §3 to §5): our clock, the peer's last value, and what of the past they keep out.
//!
//! Our clock counts milliseconds from an offset of the
//! connection's own (§5.4), since a hand-over to a Linux socket can set an offset, but not another rate.
//!
//! Deliberately not here: whether timestamps were negotiated, that a RST is exempt from PAWS (§5.2: its sender may have forgotten
//! its clock), that other segments must not lack them (§3.2), and what becomes of a segment that is stale.

use core::time::Duration;

use crate::{Instant, Seq, Timestamps};

/// Our clock ticks so often.
pub(crate) const TICK: Duration = Duration::from_millis(1);

/// A value so old no longer says what is older than it: the peer's clock may have wrapped (RFC 7323 §5.5).
const OUTDATED: Duration = Duration::from_hours(24 * 24);

/// A round trip at most. An echo older than that is none: the peer copies what we never sent.
const LONGEST_ROUND_TRIP: u32 = 600_000;

/// Both clocks of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Clock {
    offset: u32,
    /// TS.Recent; zero before the peer's SYN, as a SYN has to echo (RFC 7323 §3.2).
    recent: u32,
    /// When TS.Recent was taken.
    recent_at: Instant,
}

impl Clock {
    /// A clock of ours before anything was heard of the peer's.
    pub(crate) const fn new(offset: u32) -> Self {
        Self {
            offset,
            recent: 0,
            recent_at: Instant::ZERO,
        }
    }

    /// Takes the value of the peer's SYN, or, of a connection that is imported, what was TS.Recent at `now`.
    pub(crate) const fn start(&mut self, value: u32, now: Instant) {
        self.recent = value;
        self.recent_at = now;
    }

    /// What a segment that leaves carries.
    pub(crate) const fn option(&self, now: Instant) -> Timestamps {
        Timestamps {
            value: self.value(now),
            echo: self.recent,
        }
    }

    /// Whether a segment with this value left before one that was received: protection against wrapped sequence numbers (RFC
    /// 7323 §5.3, R1). It is to be acknowledged and dropped.
    pub(crate) fn is_stale(&self, value: u32, now: Instant) -> bool {
        self.is_older(value) && now.since(self.recent_at) <= OUTDATED
    }

    /// Takes the value of an acceptable segment that is not stale, if it is one to echo: that of the earliest segment that is not
    /// acknowledged yet, so that the peer's round trips include our delay (RFC 7323 §4.3).
    pub(crate) fn update(&mut self, value: u32, seq: Seq, last_ack_sent: Seq, now: Instant) {
        if !seq.follows(last_ack_sent) && !self.is_stale(value, now) {
            self.start(value, now);
        }
    }

    /// Round trip of the segment that the peer echoes (RFC 7323 §4.1), which is for the caller to take from segments that
    /// acknowledge something new only. It is of a clock of milliseconds: zero if that hasn't ticked, so that now less
    /// it is always the echo.
    ///
    /// None if the echo is zero, as that of a peer that had nothing to echo, or no time of ours.
    pub(crate) fn round_trip(&self, echo: u32, now: Instant) -> Option<Duration> {
        let millis = self.value(now).wrapping_sub(echo);
        let usable = echo != 0 && millis <= LONGEST_ROUND_TRIP;
        usable.then(|| Duration::from_millis(u64::from(millis)))
    }

    /// The offset of our clock.
    pub(crate) const fn offset(&self) -> u32 {
        self.offset
    }

    /// TS.Recent.
    pub(crate) const fn recent(&self) -> u32 {
        self.recent
    }

    const fn value(&self, now: Instant) -> u32 {
        self.offset.wrapping_add(now.millis())
    }

    /// Whether `value` is before TS.Recent on the peer's clock, which wraps like sequence numbers.
    const fn is_older(&self, value: u32) -> bool {
        Seq(value).precedes(Seq(self.recent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Instant = Instant::from_micros(5_000_000);

    fn after(duration: Duration) -> Instant {
        START + duration
    }

    fn clock(offset: u32, recent: u32) -> Clock {
        let mut clock = Clock::new(offset);
        clock.start(recent, START);
        clock
    }

    #[test]
    fn our_clock_counts_milliseconds_from_its_offset_and_wraps() {
        let clock = clock(u32::MAX - 5000, 77);
        assert_eq!(clock.option(START).value, u32::MAX);
        let later = clock.option(after(Duration::from_micros(2500)));
        assert_eq!((later.value, later.echo), (1, 77));
        assert_eq!(Clock::new(5).option(START).echo, 0, "of a SYN");
    }

    #[test]
    fn what_left_before_is_stale_until_the_clock_may_have_wrapped() {
        let recent = 10;
        let clock = clock(0, recent);
        for (told, stale) in [
            (recent, false),
            (recent + 1, false),
            (recent - 1, true),
            (u32::MAX, true),
            (recent + (1 << 31) - 1, false),
            (recent + (1 << 31) + 1, true),
        ] {
            assert_eq!(clock.is_stale(told, START), stale, "{told}");
        }
        let last = after(Duration::from_hours(24 * 24));
        assert!(clock.is_stale(recent - 1, last));
        let outdated = last + Duration::from_micros(1);
        assert!(!clock.is_stale(recent - 1, outdated));
        let mut updated = clock;
        updated.update(recent - 1, Seq(0), Seq(0), outdated);
        assert_eq!(updated.recent(), recent - 1);
        assert!(updated.is_stale(recent - 2, outdated), "a new age begins");
    }

    /// RFC 7323 §4.3: (A) delayed acknowledgements, (B) a hole, (C) the hole filled.
    #[test]
    fn the_earliest_unacknowledged_segment_is_echoed() {
        let mut clock = clock(0, 1);
        let echo_after = |clock: &mut Clock, seq, told, last_ack_sent| {
            clock.update(told, Seq(seq), Seq(last_ack_sent), START);
            clock.option(START).echo
        };
        assert_eq!(echo_after(&mut clock, 100, 2, 100), 2);
        assert_eq!(echo_after(&mut clock, 200, 3, 100), 2, "not acknowledged");
        assert_eq!(echo_after(&mut clock, 300, 4, 300), 4);
        assert_eq!(echo_after(&mut clock, 500, 5, 400), 4, "behind a hole");
        assert_eq!(echo_after(&mut clock, 400, 6, 400), 6, "the hole");
        assert_eq!(echo_after(&mut clock, 400, 5, 400), 6, "never back");
    }

    #[test]
    fn a_round_trip_is_from_our_own_clock_or_none() {
        let clock = clock(u32::MAX - 4990, 0);
        let sent = clock.option(START).value;
        assert_eq!(sent, 9);
        let later = after(Duration::from_micros(30_500));
        let trip = |echo, now| clock.round_trip(echo, now);
        assert_eq!(trip(sent, later), Some(Duration::from_millis(30)));
        assert_eq!(trip(sent, START), Some(Duration::ZERO));
        assert_eq!(trip(u32::MAX, later), Some(Duration::from_millis(40)));
        assert_eq!(trip(0, later), None, "nothing to echo");
        assert_eq!(trip(sent + 31, later), None, "in the future");
        assert_eq!(trip(sent.wrapping_sub(600_000), later), None, "too old");
    }
}
