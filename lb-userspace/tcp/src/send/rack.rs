//! RACK: losses by time (RFC 8985 §6). A segment is lost when one that left later has arrived, and the time in which
//! the network may have changed their order is over.
//!
//! Deliberately not here: the walk over the records (`Records::expire`), what a loss means (`recovery`).

use core::time::Duration;

use super::records::Record;
use super::rtt::Rtt;
use crate::{Instant, Seq};

/// Sacked segments above which the order of arrival proves losses (RFC 8985 §6.2 step 4, `DupThresh` of RFC 5681).
const DUP_THRESH: u32 = 3;

/// Recoveries without a duplicate after which the window for reordering is narrow again (RFC 8985 §6.2 step 4).
const PERSIST: u8 = 16;

#[derive(Clone, Copy, Debug)]
pub(super) struct Rack {
    /// `RACK.xmit_ts` and `RACK.end_seq`: of the segment that left last, among those that have arrived.
    xmit_ts: Instant,
    end_seq: Seq,
    /// `RACK.rtt` in microseconds; 0 before the first sample.
    rtt: u32,
    /// `RACK.fack`: behind the highest number that has arrived.
    fack: Seq,
    /// `RACK.dsack_round`: duplicates told before this is acknowledged are of the same round.
    dsack_round: Option<Seq>,
    reo_wnd_mult: u8,
    reo_wnd_persist: u8,
    reordering_seen: bool,
}

impl Rack {
    pub(super) const fn new(iss: Seq) -> Self {
        Self {
            xmit_ts: Instant::ZERO,
            end_seq: iss,
            rtt: 0,
            fack: iss,
            dsack_round: None,
            reo_wnd_mult: 1,
            reo_wnd_persist: PERSIST,
            reordering_seen: false,
        }
    }

    /// `record` has arrived (RFC 8985 §6.2 steps 2 and 3). `echo` is the time that its acknowledgement
    /// echoes (`TSecr`), in milliseconds.
    pub(super) fn on_delivered(
        &mut self,
        record: &Record,
        echo: Option<u32>,
        rtt: &Rtt,
        now: Instant,
    ) {
        self.look_for_reordering(record);
        let sample = now.since(record.sent_at);
        if record.retransmitted {
            let is_of_the_original =
                echo.is_some_and(|echo| Seq(echo).precedes(Seq(record.sent_at.millis())));
            if is_of_the_original || sample < rtt.min() {
                return;
            }
        }
        self.rtt = u32::try_from(sample.as_micros()).unwrap_or(u32::MAX).max(1);
        if is_sent_after(record.sent_at, record.end(), self.xmit_ts, self.end_seq) {
            self.xmit_ts = record.sent_at;
            self.end_seq = record.end();
        }
    }

    fn look_for_reordering(&mut self, record: &Record) {
        if record.end().follows(self.fack) {
            self.fack = record.end();
        } else if record.end().precedes(self.fack) && !record.retransmitted {
            self.reordering_seen = true;
        }
    }

    /// A duplicate was told (RFC 8985 §6.2 step 4): something was retransmitted in vain, so the window widens, once
    /// in a round trip.
    pub(super) fn on_duplicate(&mut self, una: Seq, nxt: Seq) {
        if self.dsack_round.is_some_and(|round| una.precedes(round)) {
            return;
        }
        self.dsack_round = Some(nxt);
        self.reo_wnd_mult = self.reo_wnd_mult.saturating_add(1);
        self.reo_wnd_persist = PERSIST;
    }

    /// A recovery is over.
    pub(super) fn on_recovered(&mut self) {
        self.reo_wnd_persist = self.reo_wnd_persist.saturating_sub(1);
        if self.reo_wnd_persist == 0 {
            self.reo_wnd_mult = 1;
        }
    }

    /// `RACK.reo_wnd` (RFC 8985 §6.2 step 4).
    pub(super) fn reo_wnd(&self, rtt: &Rtt, sacked: u32, in_recovery: bool) -> Duration {
        if !self.reordering_seen && (in_recovery || sacked >= DUP_THRESH) {
            return Duration::ZERO;
        }
        let window = rtt.min() * u32::from(self.reo_wnd_mult) / 4;
        window.min(rtt.srtt().unwrap_or_default())
    }

    /// When `record` counts as lost; `None` if it left after all that has arrived (RFC 8985 §6.2 step 5).
    pub(super) fn deadline(&self, record: &Record, reo_wnd: Duration) -> Option<Instant> {
        (self.rtt != 0 && is_sent_after(self.xmit_ts, self.end_seq, record.sent_at, record.end()))
            .then(|| self.deadline_after_timeout(record, reo_wnd))
    }

    /// When `record` counts as lost once the retransmission timer has fired (RFC 8985 §6.3).
    pub(super) fn deadline_after_timeout(&self, record: &Record, reo_wnd: Duration) -> Instant {
        record.sent_at + Duration::from_micros(u64::from(self.rtt)) + reo_wnd
    }

    pub(super) fn reordering_seen(&self) -> bool {
        self.reordering_seen
    }
}

/// `RACK_sent_after`: segments that left at the same time left in the order of their numbers.
fn is_sent_after(sent_at: Instant, end: Seq, other_sent_at: Instant, other_end: Seq) -> bool {
    sent_at > other_sent_at || (sent_at == other_sent_at && end.follows(other_end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wide_window_lasts_sixteen_recoveries() {
        let mut rtt = Rtt::new();
        rtt.sample(Duration::from_millis(40), Instant::ZERO);
        let mut rack = Rack::new(Seq(0));
        rack.on_duplicate(Seq(0), Seq(10));
        for _ in 0..15 {
            rack.on_recovered();
            assert_eq!(rack.reo_wnd(&rtt, 0, false), Duration::from_millis(20));
        }
        rack.on_recovered();
        assert_eq!(rack.reo_wnd(&rtt, 0, false), Duration::from_millis(10));
    }

    #[test]
    fn the_window_is_never_wider_than_a_round_trip() {
        let mut rtt = Rtt::new();
        rtt.sample(Duration::from_millis(40), Instant::ZERO);
        let mut rack = Rack::new(Seq(0));
        for round in 1..100 {
            rack.on_duplicate(Seq(round * 10), Seq(round * 10 + 10));
        }
        assert_eq!(rack.reo_wnd(&rtt, 0, false), Duration::from_millis(40));
    }
}
