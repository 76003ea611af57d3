//! Timestamps of one connection (RFC 7323 §3 to §5): our clock, the peer's last value, and what of the past they keep out.
//!
//! A connection has this state only if both SYNs carried the option. Our clock counts milliseconds from an offset of the
//! connection's own (§5.4), since a hand-over to a Linux socket can set an offset, but not another rate.
//!
//! Deliberately not here: whether a segment is acceptable otherwise, and what becomes of one that is not.

use core::time::Duration;

use crate::{Flags, Header, Instant, Seq, Timestamps};

/// A value so old no longer says what is older than it: the peer's clock may have wrapped (RFC 7323 §5.5).
const OUTDATED: Duration = Duration::from_hours(24 * 24);

/// A round trip at most. An echo older than that is none: the peer copies what we never sent.
const LONGEST_ROUND_TRIP: u32 = 600_000;

/// Our clock, which goes on from `offset`. For a SYN, which is sent before there is a [`TimestampState`].
pub(crate) const fn value(offset: u32, now: Instant) -> u32 {
    offset.wrapping_add(now.millis())
}

/// What the timestamps of a segment say of its age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Paws {
    /// Nothing against it.
    Current,
    /// It left before one that was received: to be acknowledged and dropped (RFC 7323 §5.3, R1).
    Old,
    /// It has none although they were negotiated: to be dropped in silence (RFC 7323 §3.2).
    Missing,
}

/// Timestamps of a connection that negotiated them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimestampState {
    offset: u32,
    /// TS.Recent.
    recent: u32,
    /// When TS.Recent was taken.
    recent_at: Instant,
}

impl TimestampState {
    /// With our clock's offset and the `TSval` of the peer's SYN. For one that is imported `now` is when TS.Recent was taken.
    pub(crate) const fn new(offset: u32, recent: u32, now: Instant) -> Self {
        Self {
            offset,
            recent,
            recent_at: now,
        }
    }

    /// What a segment that leaves carries.
    pub(crate) const fn option(&self, now: Instant) -> Timestamps {
        Timestamps {
            value: value(self.offset, now),
            echo: self.recent,
        }
    }

    /// Protection against wrapped sequence numbers (RFC 7323 §5.3). A RST is exempt (§5.2): its sender may have forgotten the
    /// connection, and its clock with it.
    pub(crate) fn paws(&self, header: &Header, now: Instant) -> Paws {
        if header.flags.has(Flags::RST) {
            return Paws::Current;
        }
        match header.options.timestamps {
            None => Paws::Missing,
            Some(told) if self.is_older(told.value) && !self.is_outdated(now) => Paws::Old,
            Some(_) => Paws::Current,
        }
    }

    /// Takes the `TSval` of an acceptable segment that passed [`paws`](Self::paws), if it is one to echo: that of the earliest
    /// segment that is not acknowledged yet, so that round trips include our delay (RFC 7323 §4.3).
    pub(crate) fn update(&mut self, header: &Header, last_ack_sent: Seq, now: Instant) {
        let Some(told) = header.options.timestamps else {
            return;
        };
        let in_order = !header.seq.follows(last_ack_sent);
        if in_order && (!self.is_older(told.value) || self.is_outdated(now)) {
            self.recent = told.value;
            self.recent_at = now;
        }
    }

    /// Round trip of the segment that the peer echoes (RFC 7323 §4.1), which is for the caller to take from segments that
    /// acknowledge something new only. It is of a clock of milliseconds, and never below one.
    ///
    /// None if the echo is zero, as that of a peer that had nothing to echo, or no time of ours.
    pub(crate) fn round_trip(&self, header: &Header, now: Instant) -> Option<Duration> {
        let echo = header.options.timestamps?.echo;
        let millis = value(self.offset, now).wrapping_sub(echo);
        let usable = echo != 0 && millis <= LONGEST_ROUND_TRIP;
        usable.then(|| Duration::from_millis(u64::from(millis.max(1))))
    }

    /// The offset of our clock.
    pub(crate) const fn offset(&self) -> u32 {
        self.offset
    }

    /// TS.Recent and when it was taken.
    pub(crate) const fn recent(&self) -> (u32, Instant) {
        (self.recent, self.recent_at)
    }

    /// Whether `value` is before TS.Recent on the peer's clock, which wraps like sequence numbers.
    const fn is_older(&self, value: u32) -> bool {
        Seq(value).precedes(Seq(self.recent))
    }

    fn is_outdated(&self, now: Instant) -> bool {
        now.since(self.recent_at) > OUTDATED
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Options;

    const START: Instant = Instant::from_micros(5_000_000);

    fn after(duration: Duration) -> Instant {
        START + duration
    }

    fn header(seq: u32, value: u32, echo: u32) -> Header {
        Header {
            seq: Seq(seq),
            flags: Flags::ACK,
            options: Options {
                timestamps: Some(Timestamps { value, echo }),
                ..Options::default()
            },
            ..Header::default()
        }
    }

    #[test]
    fn our_clock_counts_milliseconds_from_its_offset_and_wraps() {
        let state = TimestampState::new(u32::MAX - 5000, 77, START);
        assert_eq!(state.option(START).value, u32::MAX);
        let later = state.option(after(Duration::from_micros(2500)));
        assert_eq!((later.value, later.echo), (1, 77));
        assert_eq!(value(u32::MAX - 5000, START), u32::MAX);
    }

    #[test]
    fn what_left_before_is_old_until_the_clock_may_have_wrapped() {
        let recent = 10;
        let state = TimestampState::new(0, recent, START);
        for (told, paws) in [
            (recent, Paws::Current),
            (recent + 1, Paws::Current),
            (recent - 1, Paws::Old),
            (u32::MAX, Paws::Old),
            (recent + (1 << 31) - 1, Paws::Current),
            (recent + (1 << 31) + 1, Paws::Old),
        ] {
            assert_eq!(state.paws(&header(0, told, 0), START), paws, "{told}");
        }
        let old = header(0, recent - 1, 0);
        let days = |days| after(Duration::from_hours(days * 24));
        assert_eq!(state.paws(&old, days(24)), Paws::Old);
        let outdated = days(24) + Duration::from_micros(1);
        assert_eq!(state.paws(&old, outdated), Paws::Current);
        let mut updated = state;
        updated.update(&old, Seq(0), outdated);
        assert_eq!(updated.recent(), (recent - 1, outdated));
    }

    #[test]
    fn a_reset_needs_no_timestamps_and_anything_else_does() {
        let state = TimestampState::new(0, 10, START);
        let mut bare = Header {
            flags: Flags::ACK,
            ..Header::default()
        };
        assert_eq!(state.paws(&bare, START), Paws::Missing);
        bare.flags = Flags::RST;
        assert_eq!(state.paws(&bare, START), Paws::Current);
        let mut old = header(0, 9, 0);
        old.flags = Flags::RST | Flags::ACK;
        assert_eq!(state.paws(&old, START), Paws::Current);
    }

    /// RFC 7323 §4.3: (A) delayed acknowledgements, (B) a hole, (C) the hole filled.
    #[test]
    fn the_earliest_unacknowledged_segment_is_echoed() {
        let mut state = TimestampState::new(0, 1, START);
        let echo_after = |state: &mut TimestampState, seq, told, last_ack_sent| {
            state.update(&header(seq, told, 0), Seq(last_ack_sent), START);
            state.option(START).echo
        };
        assert_eq!(echo_after(&mut state, 100, 2, 100), 2);
        assert_eq!(echo_after(&mut state, 200, 3, 100), 2, "not acknowledged");
        assert_eq!(echo_after(&mut state, 300, 4, 300), 4);
        assert_eq!(echo_after(&mut state, 500, 5, 400), 4, "behind a hole");
        assert_eq!(echo_after(&mut state, 400, 6, 400), 6, "the hole");
        assert_eq!(echo_after(&mut state, 400, 5, 400), 6, "never back");
    }

    #[test]
    fn a_round_trip_is_from_our_own_clock_or_none() {
        let state = TimestampState::new(u32::MAX - 4990, 0, START);
        let trip = |echo, now| state.round_trip(&header(0, 0, echo), now);
        let sent = state.option(START).value;
        assert_eq!(sent, 9);
        let later = after(Duration::from_micros(30_500));
        assert_eq!(trip(sent, later), Some(Duration::from_millis(30)));
        assert_eq!(trip(sent, START), Some(Duration::from_millis(1)));
        assert_eq!(trip(u32::MAX, later), Some(Duration::from_millis(40)));
        assert_eq!(trip(0, later), None, "nothing to echo");
        assert_eq!(trip(sent + 31, later), None, "in the future");
        assert_eq!(trip(sent.wrapping_sub(600_000), later), None, "too old");
        assert_eq!(state.round_trip(&Header::default(), later), None);
    }
}
