//! The records in the order of time: which are late (RFC 8985 §6.2 step 5).
//!
//! Amortised, each transmission is looked at once: those that left once by the cursor, those that left again in
//! the queue of retransmissions.

use super::{Expired, Record, Records, State};
use crate::Instant;

impl Records {
    /// Marks as lost what `deadline` puts at or before `now`, going through the records by the time they were sent until
    /// `deadline` gives none: a record which left after the latest that the peer has.
    pub(in crate::send) fn expire(
        &mut self,
        now: Instant,
        deadline: impl Fn(&Record) -> Option<Instant>,
    ) -> Expired {
        let mut expired = Expired::default();
        let before = self.lost.segments;
        self.expire_fresh(now, &deadline, &mut expired);
        self.expire_resent(now, &deadline, &mut expired);
        expired.lost = self.lost.segments - before;
        expired
    }

    fn expire_fresh(
        &mut self,
        now: Instant,
        deadline: &impl Fn(&Record) -> Option<Instant>,
        expired: &mut Expired,
    ) {
        let mut index = self.index_of(self.fresh_from);
        while let Some(&record) = self.queue.get(index) {
            if record.state == State::InFlight && !record.retransmitted {
                match deadline(&record) {
                    Some(at) if at <= now => self.mark_lost(index),
                    at => {
                        expired.next = at;
                        break;
                    }
                }
            }
            self.fresh_from = record.end();
            index += 1;
        }
    }

    fn expire_resent(
        &mut self,
        now: Instant,
        deadline: &impl Fn(&Record) -> Option<Instant>,
        expired: &mut Expired,
    ) {
        while let Some(resent) = self.first_resent() {
            let mut index = self.index_of(resent.range.start);
            while let Some(&record) = self.queue.get(index) {
                if !record.start.precedes(resent.range.end) {
                    break;
                }
                if record.state == State::InFlight && record.sent_at == resent.sent_at {
                    match deadline(&record) {
                        Some(at) if at <= now => self.mark_lost(index),
                        Some(at) => {
                            expired.next = Some(expired.next.map_or(at, |next| next.min(at)));
                            return;
                        }
                        None => return,
                    }
                }
                index += 1;
            }
            self.disorder().resent.pop_front();
        }
    }
}
