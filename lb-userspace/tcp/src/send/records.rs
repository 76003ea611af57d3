//! The scoreboard: one record for each segment that has left and is not acknowledged.
//!
//! Invariants: the records cover SND.UNA..SND.NXT without a gap, in order; each is in exactly one [`State`], and the
//! [`Tally`] of a state is the sum of its records. Records that were sent once were sent in the order of their
//! numbers, so one cursor (`fresh_from`) and one queue (`resent`, in the order of time) replace the list sorted by time
//! of RFC 8985 §5.2, and judging losses costs no scan.
//!
//! A record is sacked when a block covers all of it: we cut segments, so honest peers report whole ones, and a
//! peer that reports single bytes can't make records out of them.

#[cfg(test)]
mod check;
mod sacks;
mod times;

use alloc::boxed::Box;
use alloc::collections::VecDeque;

use crate::segment::{SackBlocks, SeqRange};
use crate::{Instant, Pool, Seq};

/// Records at most before no new data leaves: 11 MB of full segments.
pub(super) const MAX_RECORDS: usize = 8192;

/// What became of a segment, as far as we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// On its way.
    InFlight,
    /// The peer has it, behind a gap.
    Sacked,
    /// Believed lost and not sent again yet.
    Lost,
}

/// A segment that has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(super) start: Seq,
    /// Sequence numbers; SYN and FIN count.
    pub(super) len: u32,
    /// When it left last.
    pub(super) sent_at: Instant,
    pub(super) state: State,
    /// Whether it left more than once.
    pub(super) retransmitted: bool,
}

impl Record {
    pub(super) fn end(&self) -> Seq {
        self.start + self.len
    }

    pub(super) fn is_sacked(&self) -> bool {
        self.state == State::Sacked
    }
}

/// How many records, and how many sequence numbers they have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) segments: u32,
    pub(super) bytes: u32,
}

/// A retransmission, for judging its loss.
#[derive(Clone, Copy, Debug)]
struct Resent {
    range: SeqRange,
    sent_at: Instant,
}

impl Resent {
    fn of(record: &Record) -> Self {
        Self {
            range: SeqRange {
                start: record.start,
                end: record.end(),
            },
            sent_at: record.sent_at,
        }
    }
}

/// Learns of every record that the peer newly says to have.
pub(super) trait Sink {
    /// `record` as it was before; with `cumulative` SEG.ACK covers it, else a SACK block does.
    fn delivered(&mut self, record: &Record, cumulative: bool);
    /// SEG.ACK covers the first `bytes` of a record.
    fn trimmed(&mut self, bytes: u32);
}

/// What [`Records::expire`] found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Expired {
    /// Segments newly lost.
    pub(super) lost: u32,
    /// When the next one will be.
    pub(super) next: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct Records {
    una: Seq,
    nxt: Seq,
    queue: VecDeque<Record>,
    in_flight: Tally,
    sacked: Tally,
    lost: Tally,
    /// Retransmitted and on their way.
    resent_in_flight: u32,
    /// No record before this is lost.
    lost_from: Seq,
    /// Every record before this is sacked, lost, or was retransmitted.
    fresh_from: Seq,
    disorder: Option<Box<Disorder>>,
}

/// What is known only while something is sacked or was retransmitted: most connections never are in disorder.
#[derive(Debug, Default)]
struct Disorder {
    /// Retransmissions, in the order of time.
    resent: VecDeque<Resent>,
    /// Blocks of the acknowledgement before: what they say is on the board already.
    told: SackBlocks,
}

impl Records {
    pub(super) fn new(iss: Seq) -> Self {
        Self {
            una: iss,
            nxt: iss,
            queue: VecDeque::new(),
            in_flight: Tally::default(),
            sacked: Tally::default(),
            lost: Tally::default(),
            resent_in_flight: 0,
            lost_from: iss,
            fresh_from: iss,
            disorder: None,
        }
    }

    pub(super) fn una(&self) -> Seq {
        self.una
    }

    pub(super) fn nxt(&self) -> Seq {
        self.nxt
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn get(&self, index: usize) -> Option<&Record> {
        self.queue.get(index)
    }

    pub(super) fn in_flight(&self) -> Tally {
        self.in_flight
    }

    pub(super) fn sacked(&self) -> Tally {
        self.sacked
    }

    pub(super) fn lost(&self) -> Tally {
        self.lost
    }

    pub(super) fn resent_in_flight(&self) -> u32 {
        self.resent_in_flight
    }

    /// A new segment of `len` numbers from SND.NXT has left.
    pub(super) fn push(&mut self, len: u32, now: Instant, pool: &mut Pool) {
        let record = Record {
            start: self.nxt,
            len,
            sent_at: now,
            state: State::InFlight,
            retransmitted: false,
        };
        pool.lend_records(&mut self.queue);
        self.queue.push_back(record);
        self.count(&record);
        self.nxt += len;
    }

    /// The record at `index` has left again, or as much of it as `max_len` allows; the rest becomes a record
    /// of its own. Returns what has left.
    pub(super) fn resend(&mut self, index: usize, max_len: u32, now: Instant) -> Option<Record> {
        let is_first_lost = self.next_lost() == Some(index);
        self.split(index, max_len);
        let before = *self.queue.get(index)?;
        let record = Record {
            sent_at: now,
            state: State::InFlight,
            retransmitted: true,
            ..before
        };
        self.replace(index, record);
        if is_first_lost {
            self.lost_from = record.end();
        }
        self.disorder().resent.push_back(Resent::of(&record));
        Some(record)
    }

    /// SND.UNA becomes `ack`, which lies within SND.UNA..=SND.NXT.
    pub(super) fn acknowledge(&mut self, ack: Seq, sink: &mut impl Sink) {
        while let Some(&record) = self.queue.front() {
            if !record.start.precedes(ack) {
                break;
            }
            self.uncount(&record);
            if record.end().follows(ack) {
                self.trim_front(record, ack, sink);
                break;
            }
            self.queue.pop_front();
            if !record.is_sacked() {
                sink.delivered(&record, true);
            }
        }
        self.una = ack;
        self.lost_from = self.lost_from.max(ack);
        self.fresh_from = self.fresh_from.max(ack);
        if self.queue.is_empty() {
            self.disorder = None;
        } else if let Some(disorder) = &mut self.disorder {
            let resent = &mut disorder.resent;
            while resent.front().is_some_and(|r| !r.range.end.follows(ack)) {
                resent.pop_front();
            }
        }
    }

    /// The first lost record.
    pub(super) fn next_lost(&self) -> Option<usize> {
        if self.lost.segments == 0 {
            return None;
        }
        let from = self.index_of(self.lost_from);
        (from..self.queue.len()).find(|&i| self.queue[i].state == State::Lost)
    }

    /// The last record that the peer has not said to have.
    pub(super) fn last_unsacked(&self) -> Option<usize> {
        self.queue.iter().rposition(|r| !r.is_sacked())
    }

    /// Marks a record in flight as lost.
    pub(super) fn mark_lost(&mut self, index: usize) {
        let Some(&record) = self.queue.get(index) else {
            return;
        };
        if record.state != State::InFlight {
            return;
        }
        self.set_state(index, record, State::Lost);
        self.lost_from = self.lost_from.min(record.start);
    }

    /// Marks all records in flight of which `is_lost` says so. Looks at every record.
    pub(super) fn mark_lost_where(&mut self, is_lost: impl Fn(usize, &Record) -> bool) -> u32 {
        let before = self.lost.segments;
        for index in 0..self.queue.len() {
            if is_lost(index, &self.queue[index]) {
                self.mark_lost(index);
            }
        }
        self.lost.segments - before
    }

    /// Nothing was lost after all: whatever was not sent again yet is on its way.
    pub(super) fn forget_losses(&mut self) {
        for index in 0..self.queue.len() {
            let record = self.queue[index];
            if record.state == State::Lost {
                self.set_state(index, record, State::InFlight);
            }
        }
        self.fresh_from = self.una;
        if let Some(disorder) = &mut self.disorder {
            let resent = &mut disorder.resent;
            resent.clear();
            resent.extend(
                self.queue
                    .iter()
                    .filter(|r| r.retransmitted)
                    .map(Resent::of),
            );
            resent.make_contiguous().sort_by_key(|r| r.sent_at);
        }
    }

    /// Gives memory back that nothing in flight needs.
    pub(super) fn release(&mut self, pool: &mut Pool) {
        if self.queue.is_empty() {
            pool.take_records_back(&mut self.queue);
        }
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        *self = Self {
            una: self.una,
            ..Self::new(self.nxt)
        };
    }

    fn trim_front(&mut self, record: Record, ack: Seq, sink: &mut impl Sink) {
        let gone = ack.since(record.start);
        let rest = Record {
            start: ack,
            len: record.len - gone,
            ..record
        };
        if let Some(front) = self.queue.front_mut() {
            *front = rest;
        }
        self.count(&rest);
        if !record.is_sacked() {
            sink.trimmed(gone);
        }
    }

    fn split(&mut self, index: usize, max_len: u32) {
        let Some(&record) = self.queue.get(index) else {
            return;
        };
        if record.len <= max_len {
            return;
        }
        let front = Record {
            len: max_len,
            ..record
        };
        let rest = Record {
            start: record.start + max_len,
            len: record.len - max_len,
            ..record
        };
        self.replace(index, front);
        self.queue.insert(index + 1, rest);
        self.count(&rest);
    }

    fn index_of(&self, seq: Seq) -> usize {
        self.queue.partition_point(|r| r.start.precedes(seq))
    }

    fn set_state(&mut self, index: usize, record: Record, state: State) {
        self.replace(index, Record { state, ..record });
    }

    fn replace(&mut self, index: usize, record: Record) {
        if let Some(place) = self.queue.get_mut(index) {
            let before = core::mem::replace(place, record);
            self.uncount(&before);
            self.count(&record);
        }
    }

    fn count(&mut self, record: &Record) {
        let resent = u32::from(record.state == State::InFlight && record.retransmitted);
        self.resent_in_flight += resent;
        let tally = self.tally_mut(record.state);
        tally.segments += 1;
        tally.bytes += record.len;
    }

    fn uncount(&mut self, record: &Record) {
        let resent = u32::from(record.state == State::InFlight && record.retransmitted);
        self.resent_in_flight -= resent;
        let tally = self.tally_mut(record.state);
        tally.segments -= 1;
        tally.bytes -= record.len;
    }

    fn tally_mut(&mut self, state: State) -> &mut Tally {
        match state {
            State::InFlight => &mut self.in_flight,
            State::Sacked => &mut self.sacked,
            State::Lost => &mut self.lost,
        }
    }

    fn disorder(&mut self) -> &mut Disorder {
        self.disorder.get_or_insert_default()
    }

    fn first_resent(&self) -> Option<Resent> {
        self.disorder.as_ref()?.resent.front().copied()
    }
}
