//! Connections that both sides have closed: enough to answer late segments, and no more (RFC 9293 §3.10.7.4).
//!
//! A record is at most 64 bytes, and about 20 in the index. All live equally long, so they expire in the order in which
//! they came: a queue, whose places are what the index holds.
//!
//! Deliberately not here: records of connections that a new one replaced stay in the queue, empty, until their time is over.

use alloc::collections::VecDeque;
use core::time::Duration;

use super::index::{Hash, Index};
use super::tuple::Tuple;
use crate::{Counters, Flags, Instant, Segment, Seq};

/// What is left of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Remains {
    /// Our next number, behind our FIN.
    pub(super) nxt: Seq,
    /// The peer's next number, behind its FIN.
    pub(super) ack: Seq,
    /// Our window, as it stood on the wire.
    pub(super) window: u16,
    /// Whether timestamps were on. Beside the number, since an `Option` would cost four bytes more.
    has_timestamps: bool,
    ts_recent: u32,
}

impl Remains {
    pub(super) fn new(nxt: Seq, ack: Seq, window: u16, ts_recent: Option<u32>) -> Self {
        Self {
            nxt,
            ack,
            window,
            has_timestamps: ts_recent.is_some(),
            ts_recent: ts_recent.unwrap_or(0),
        }
    }

    /// TS.Recent, if timestamps were on.
    pub(super) fn ts_recent(&self) -> Option<u32> {
        self.has_timestamps.then_some(self.ts_recent)
    }
}

/// What to do with a segment of a closed connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// A new connection between the same ends, whose numbers can't be taken for those of the old one.
    Reopen,
    /// Our last acknowledgement again.
    Acknowledge,
    /// Nothing.
    Ignore,
    /// Whoever has the connection now: it has moved.
    Forward,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    TimeWait,
    /// The peer's FIN came again, which restarts the wait. The record keeps its place in the queue and goes to the end when its
    /// time has come, so that the queue stays sorted.
    Restarted,
    /// Moved: whatever comes here, a SYN too, is for the new owner, and an answer of ours would kill it.
    Moved,
    /// A new connection has taken its place.
    Replaced,
}

#[derive(Clone, Copy, Debug)]
struct Record {
    remains: Remains,
    hash: Hash,
    /// Milliseconds, modulo 2³².
    expires: u32,
    kind: Kind,
    tuple: Tuple,
}

const _: () = assert!(size_of::<Record>() <= 64);

impl Record {
    fn time_left(&self, now: Instant) -> Duration {
        let left = self.expires.wrapping_sub(now.millis()).cast_signed();
        Duration::from_millis(u64::try_from(left).unwrap_or(0))
    }

    /// A SYN opens a new connection if its timestamp is later (RFC 6191 §2), or without timestamps its number is. RST is ignored
    /// (RFC 1337 §3: it must not end the wait). So is an acknowledgement without text, even one out of the window: two
    /// ends that answer those would never stop.
    fn answer(&self, segment: &Segment<'_>) -> Answer {
        if self.kind == Kind::Moved {
            return Answer::Forward;
        }
        if segment.has(Flags::RST) {
            return Answer::Ignore;
        }
        if segment.opens() && self.is_older_than(segment) {
            return Answer::Reopen;
        }
        if segment.is_empty() {
            Answer::Ignore
        } else {
            Answer::Acknowledge
        }
    }

    fn is_older_than(&self, syn: &Segment<'_>) -> bool {
        let number_is_later = syn.header.seq.follows(self.remains.ack);
        let (Some(old), Some(new)) = (self.remains.ts_recent(), syn.header.options.timestamps)
        else {
            return number_is_later;
        };
        match new.value.wrapping_sub(old).cast_signed() {
            0 => number_is_later,
            difference => difference > 0,
        }
    }
}

/// All records of an endpoint.
#[derive(Debug)]
pub(super) struct TimeWait {
    queue: VecDeque<Record>,
    /// Place of the front of the queue, modulo 2³².
    front: u32,
    index: Index,
    lifetime: Duration,
    max: usize,
}

impl TimeWait {
    pub(super) fn new(lifetime: Duration, max: usize) -> Self {
        Self {
            queue: VecDeque::new(),
            front: 0,
            index: Index::default(),
            lifetime,
            max,
        }
    }

    /// Records that still answer.
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    pub(super) fn insert(
        &mut self,
        key: (Tuple, Hash),
        remains: Remains,
        now: Instant,
        counters: &mut Counters,
    ) {
        self.push(key, remains, Kind::TimeWait, now, counters);
    }

    /// Knows what comes for a connection that has moved elsewhere.
    pub(super) fn insert_moved(
        &mut self,
        key: (Tuple, Hash),
        now: Instant,
        counters: &mut Counters,
    ) {
        let remains = Remains::new(Seq(0), Seq(0), 0, None);
        self.push(key, remains, Kind::Moved, now, counters);
    }

    /// Whether there is a record.
    pub(super) fn contains(&self, (tuple, hash): (&Tuple, Hash)) -> bool {
        self.find(tuple, hash).is_some()
    }

    /// Forgets a connection that has moved and ended there.
    pub(super) fn remove_moved(&mut self, (tuple, hash): (&Tuple, Hash)) {
        if let Some(place) = self.find(tuple, hash)
            && let Some(record) = self.record_mut(place)
            && record.kind == Kind::Moved
        {
            self.replace(place, hash);
        }
    }

    /// Forgets whatever was between these ends: a connection that has moved is back.
    pub(super) fn remove(&mut self, (tuple, hash): (&Tuple, Hash)) {
        if let Some(place) = self.find(tuple, hash) {
            self.replace(place, hash);
        }
    }

    /// What to do with a segment, and what is left of its connection; `None` if there is no record.
    pub(super) fn answer(
        &mut self,
        (tuple, hash): (&Tuple, Hash),
        segment: &Segment<'_>,
        counters: &mut Counters,
    ) -> Option<(Answer, Remains)> {
        let place = self.find(tuple, hash)?;
        let record = self.record_mut(place)?;
        let (answer, remains) = (record.answer(segment), record.remains);
        match answer {
            Answer::Reopen => {
                counters.time_wait_recycled += 1;
                self.replace(place, hash);
            }
            Answer::Acknowledge if segment.has(Flags::FIN) => record.kind = Kind::Restarted,
            Answer::Acknowledge | Answer::Ignore | Answer::Forward => {}
        }
        Some((answer, remains))
    }

    /// Drops records whose time is over.
    pub(super) fn expire(&mut self, now: Instant, counters: &mut Counters) {
        while let Some(first) = self.queue.front()
            && first.time_left(now).is_zero()
        {
            let record = *first;
            self.drop_first();
            match record.kind {
                Kind::TimeWait => counters.time_wait += 1,
                Kind::Restarted => self.append(record, Kind::TimeWait, now),
                Kind::Moved | Kind::Replaced => {}
            }
        }
    }

    /// When [`expire`](Self::expire) has work.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        Some(now + self.queue.front()?.time_left(now))
    }

    fn push(
        &mut self,
        (tuple, hash): (Tuple, Hash),
        remains: Remains,
        kind: Kind,
        now: Instant,
        counters: &mut Counters,
    ) {
        if self.max == 0 {
            return;
        }
        if self.queue.len() >= self.max {
            counters.time_wait_overflow += 1;
            self.drop_first();
        }
        let record = Record {
            remains,
            hash,
            expires: 0,
            kind,
            tuple,
        };
        self.append(record, kind, now);
    }

    fn append(&mut self, record: Record, kind: Kind, now: Instant) {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "modulo 2³² is what is wanted"
        )]
        let place = self.front.wrapping_add(self.queue.len() as u32);
        self.index.insert(record.hash, place);
        self.queue.push_back(Record {
            expires: (now + self.lifetime).millis(),
            kind,
            ..record
        });
    }

    fn drop_first(&mut self) {
        let Some(record) = self.queue.pop_front() else {
            return;
        };
        if record.kind != Kind::Replaced {
            self.index.remove(record.hash, self.front);
        }
        self.front = self.front.wrapping_add(1);
    }

    fn replace(&mut self, place: u32, hash: Hash) {
        self.index.remove(hash, place);
        if let Some(record) = self.record_mut(place) {
            record.kind = Kind::Replaced;
        }
    }

    fn find(&self, tuple: &Tuple, hash: Hash) -> Option<u32> {
        self.index.find(hash, |place| {
            let record = self.queue.get(place.wrapping_sub(self.front) as usize);
            record.is_some_and(|record| record.tuple == *tuple)
        })
    }

    fn record_mut(&mut self, place: u32) -> Option<&mut Record> {
        self.queue.get_mut(place.wrapping_sub(self.front) as usize)
    }
}

#[cfg(test)]
mod tests;
