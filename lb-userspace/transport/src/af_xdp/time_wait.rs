//! Connections that both sides have closed: enough to answer late segments, and no more.
//!
//! A full flow would hold its buffers for a minute, at 30,000 connections a second tens of gigabytes. A
//! record is about 150 bytes. All live equally long, so they expire in the order in which they came.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::packet::{FlowKey, RST, Segment};

/// Twice the maximum segment lifetime; 60 s as on Linux (`TCP_TIMEWAIT_LEN`).
const LIFETIME: Duration = Duration::from_mins(1);

/// Above that the oldest go early, as with Linux' `tcp_max_tw_buckets`.
const MAX_RECORDS: usize = 65_536;

/// What is left of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    /// Our next sequence number, behind our FIN.
    pub(super) next: u32,
    /// The peer's next sequence number, behind its FIN.
    pub(super) ack: u32,
    expires: Instant,
}

/// What to do with a segment of a closed connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// A new connection between the same ends: RFC 9293 §3.10.7.4 lets it in above the old sequence space.
    Reopen,
    /// A retransmission: our last acknowledgement was lost.
    Acknowledge,
    /// RST (RFC 1337: it must not end the wait) or a plain acknowledgement.
    Ignore,
}

impl Record {
    pub(super) fn answer(&self, segment: &Segment<'_>) -> Answer {
        if segment.opens() {
            let ahead = segment.seq.wrapping_sub(self.ack).cast_signed() > 0;
            return if ahead {
                Answer::Reopen
            } else {
                Answer::Acknowledge
            };
        }
        let retransmitted = segment.seq_len > 0 && !segment.has(RST);
        if retransmitted {
            Answer::Acknowledge
        } else {
            Answer::Ignore
        }
    }
}

/// All records of an engine.
#[derive(Debug, Default)]
pub(super) struct TimeWait {
    records: HashMap<FlowKey, Record>,
    order: VecDeque<(Instant, FlowKey)>,
}

impl TimeWait {
    pub(super) fn insert(&mut self, key: FlowKey, next: u32, ack: u32, now: Instant) {
        let expires = now + LIFETIME;
        self.records.insert(key, Record { next, ack, expires });
        self.order.push_back((expires, key));
        while self.order.len() > MAX_RECORDS {
            self.drop_oldest();
        }
    }

    pub(super) fn get(&self, key: &FlowKey) -> Option<Record> {
        self.records.get(key).copied()
    }

    pub(super) fn remove(&mut self, key: &FlowKey) {
        self.records.remove(key);
    }

    pub(super) fn expire(&mut self, now: Instant) {
        while self
            .order
            .front()
            .is_some_and(|&(expires, _)| expires <= now)
        {
            self.drop_oldest();
        }
    }

    /// When [`expire`](Self::expire) has work.
    pub(super) fn next(&self) -> Option<Instant> {
        self.order.front().map(|&(expires, _)| expires)
    }

    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    fn drop_oldest(&mut self) {
        let Some((expires, key)) = self.order.pop_front() else {
            return;
        };
        // The ends may have met and parted again since: then the record is a younger one.
        if self
            .records
            .get(&key)
            .is_some_and(|record| record.expires == expires)
        {
            self.records.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(port: u16) -> FlowKey {
        FlowKey {
            local: "10.203.1.100:443".parse().unwrap(),
            remote: ([10, 203, 1, 10], port).into(),
        }
    }

    #[test]
    fn a_record_lives_its_own_life_not_that_of_its_predecessor() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut time_wait = TimeWait::default();
        time_wait.insert(key(1), 10, 20, at(0));
        time_wait.remove(&key(1));
        time_wait.insert(key(1), 30, 40, at(30));
        time_wait.expire(at(61));
        assert_eq!(
            time_wait
                .get(&key(1))
                .map(|record| (record.next, record.ack)),
            Some((30, 40))
        );
        assert_eq!(time_wait.next(), Some(at(90)));
        time_wait.expire(at(90));
        assert_eq!((time_wait.len(), time_wait.next()), (0, None));
    }

    #[test]
    fn the_oldest_give_way_when_there_are_too_many() {
        let now = Instant::now();
        let mut time_wait = TimeWait::default();
        for port in 0..=u16::MAX {
            time_wait.insert(key(port), 0, 0, now);
        }
        assert_eq!(time_wait.len(), MAX_RECORDS);
        let other = FlowKey {
            local: "10.203.1.101:443".parse().unwrap(),
            ..key(0)
        };
        time_wait.insert(other, 0, 0, now);
        assert_eq!(time_wait.len(), MAX_RECORDS);
        assert!(time_wait.get(&key(0)).is_none() && time_wait.get(&other).is_some());
    }
}
