//! The invariants of the scoreboard, for tests.

use super::{Records, State, Tally};

impl Records {
    /// Holds the sums and cursors against the records.
    pub(in crate::send) fn check(&self) {
        let mut tallies = [Tally::default(); 3];
        let mut resent = 0;
        let mut at = self.una;
        for record in &self.queue {
            assert_eq!(record.start, at, "a gap in the records");
            assert!(record.len > 0);
            at = record.end();
            let tally = &mut tallies[record.state as usize];
            tally.segments += 1;
            tally.bytes += record.len;
            resent += u32::from(record.state == State::InFlight && record.retransmitted);
            let is_lost = record.state == State::Lost;
            assert!(!(is_lost && record.start.precedes(self.lost_from)));
            let is_fresh = record.state == State::InFlight && !record.retransmitted;
            assert!(!(is_fresh && record.start.precedes(self.fresh_from)));
        }
        assert!(self.queue.is_empty() || at == self.nxt, "records end early");
        assert_eq!(tallies, [self.in_flight, self.sacked, self.lost]);
        assert_eq!(resent, self.resent_in_flight);
    }
}
