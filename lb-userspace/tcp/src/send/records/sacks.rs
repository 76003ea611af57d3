//! What SACK blocks put on the scoreboard, and how it is taken off (RFC 2018 §8).
//!
//! A block mostly repeats what the acknowledgement before has said, so only the difference is looked at.

use super::{Records, Sink, State};
use crate::segment::{SackBlocks, SeqRange};

impl Records {
    /// The peer has the bytes of `block`, which lies within SND.UNA..SND.NXT.
    pub(in crate::send) fn sack(&mut self, block: SeqRange, sink: &mut impl Sink) {
        let told = self.disorder.as_ref().map(|d| d.told).unwrap_or_default();
        self.sack_rest(block, block, told.as_slice(), sink);
    }

    /// The blocks of the acknowledgement that was just taken.
    pub(in crate::send) fn remember(&mut self, told: SackBlocks) {
        if !told.as_slice().is_empty() || self.disorder.is_some() {
            self.disorder().told = told;
        }
    }

    /// What was sacked may be gone (RFC 2018 §8): it is to be sent again.
    pub(in crate::send) fn forget_sacks(&mut self) {
        for index in 0..self.queue.len() {
            let record = self.queue[index];
            if record.is_sacked() {
                self.set_state(index, record, State::Lost);
            }
        }
        self.lost_from = self.una;
        self.remember(SackBlocks::default());
    }

    /// Marks `rest`, a part of `block`, less what was told before.
    fn sack_rest(
        &mut self,
        rest: SeqRange,
        block: SeqRange,
        told: &[SeqRange],
        sink: &mut impl Sink,
    ) {
        if !rest.start.precedes(rest.end) {
            return;
        }
        let Some((&known, told)) = told.split_first() else {
            return self.mark_sacked(rest, block, sink);
        };
        let before = SeqRange {
            start: rest.start,
            end: rest.end.min(known.start),
        };
        let behind = SeqRange {
            start: rest.start.max(known.end),
            end: rest.end,
        };
        if before.end == rest.end || behind.start == rest.start {
            return self.sack_rest(rest, block, told, sink);
        }
        self.sack_rest(before, block, told, sink);
        self.sack_rest(behind, block, told, sink);
    }

    /// Marks the records that touch `rest` and lie within `block`.
    fn mark_sacked(&mut self, rest: SeqRange, block: SeqRange, sink: &mut impl Sink) {
        let mut index = self.queue.partition_point(|r| !r.end().follows(rest.start));
        while let Some(&record) = self.queue.get(index) {
            if !record.start.precedes(rest.end) {
                break;
            }
            let is_covered =
                !record.start.precedes(block.start) && !record.end().follows(block.end);
            if is_covered && !record.is_sacked() {
                self.set_state(index, record, State::Sacked);
                sink.delivered(&record, false);
            }
            index += 1;
        }
    }
}
