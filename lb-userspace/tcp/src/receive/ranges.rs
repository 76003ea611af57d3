//! What was received behind a gap, and which of it is told to the peer.
//!
//! Invariant: ranges are sorted, not empty, and neither overlap nor touch; all of them are behind RCV.NXT. They number at most
//! [`MAX`], so that a peer that leaves a gap in each window of a few bytes costs neither time nor memory.
//!
//! Deliberately not here: the bytes, which lie in the buffer. A FIN counts as the number that it is.

use alloc::vec::Vec;

use crate::Seq;
use crate::segment::{SackBlocks, SeqRange};

/// Ranges at most: the gaps of a window of 4 MB of which every eleventh segment was lost.
pub(super) const MAX: usize = 256;

/// Ranges behind RCV.NXT.
#[derive(Debug, Default)]
pub(super) struct Ranges {
    sorted: Vec<SeqRange>,
    /// A number of each of the ranges that grew last, the latest first. A number and not the range, which may have grown since.
    latest: [Seq; SackBlocks::MAX],
    latest_len: u8,
}

impl Ranges {
    pub(super) fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }

    pub(super) fn as_slice(&self) -> &[SeqRange] {
        &self.sorted
    }

    /// Behind the last range.
    pub(super) fn end(&self) -> Option<Seq> {
        self.sorted.last().map(|range| range.end)
    }

    /// Whether [`insert`](Self::insert) may be called.
    pub(super) fn has_room_for(&self, range: SeqRange) -> bool {
        self.sorted.len() < MAX || !self.touching(range).is_empty()
    }

    /// The first part of `range` that is there already.
    pub(super) fn overlap(&self, range: SeqRange) -> Option<SeqRange> {
        self.sorted[self.touching(range)]
            .iter()
            .map(|kept| SeqRange {
                start: kept.start.max(range.start),
                end: kept.end.min(range.end),
            })
            .find(|common| common.start.precedes(common.end))
    }

    /// Adds `range`, which becomes the latest together with all that it touches.
    pub(super) fn insert(&mut self, range: SeqRange) {
        let touching = self.touching(range);
        let mut merged = range;
        for kept in &self.sorted[touching.clone()] {
            merged.start = merged.start.min(kept.start);
            merged.end = merged.end.max(kept.end);
        }
        self.sorted.splice(touching, [merged]);
        self.forget_latest(|number| number.is_within(merged.start, merged.end));
        self.latest.rotate_right(1);
        self.latest[0] = range.start;
        self.latest_len = (self.latest_len + 1).min(MAX_LATEST);
    }

    /// Removes what follows on `nxt` without a gap, now that all before is there; behind the last of it, or `nxt`.
    pub(super) fn take_from(&mut self, nxt: Seq) -> Seq {
        let count = self
            .sorted
            .partition_point(|range| !range.start.follows(nxt));
        let nxt = self
            .sorted
            .drain(..count)
            .fold(nxt, |nxt, range| nxt.max(range.end));
        self.forget_latest(|number| number.precedes(nxt));
        if self.sorted.is_empty() {
            self.sorted = Vec::new();
        }
        nxt
    }

    /// Blocks to tell: `duplicate` (RFC 2883 §4), the range that grew last, and then those that grew before it (RFC 2018 §4).
    pub(super) fn blocks(&self, duplicate: Option<SeqRange>) -> SackBlocks {
        let mut told = [SeqRange::default(); SackBlocks::MAX];
        let mut len = 0;
        let latest = &self.latest[..usize::from(self.latest_len)];
        let latest = latest.iter().filter_map(|&number| self.containing(number));
        // Ranges that fell out of the latest take the places of ranges that have merged.
        for &range in latest.chain(&self.sorted) {
            if len == told.len() {
                break;
            }
            if !told[..len].contains(&range) {
                told[len] = range;
                len += 1;
            }
        }
        let mut blocks = SackBlocks::default();
        for &block in duplicate.iter().chain(&told[..len]) {
            blocks.push(block);
        }
        blocks
    }

    /// The ranges that overlap or touch `range`.
    fn touching(&self, range: SeqRange) -> core::ops::Range<usize> {
        let first = self
            .sorted
            .partition_point(|kept| kept.end.precedes(range.start));
        let count = self.sorted[first..].partition_point(|kept| !kept.start.follows(range.end));
        first..first + count
    }

    fn containing(&self, number: Seq) -> Option<&SeqRange> {
        let index = self
            .sorted
            .partition_point(|range| !range.end.follows(number));
        self.sorted
            .get(index)
            .filter(|range| number.is_within(range.start, range.end))
    }

    fn forget_latest(&mut self, forget: impl Fn(Seq) -> bool) {
        let mut kept = 0;
        for index in 0..usize::from(self.latest_len) {
            let number = self.latest[index];
            if !forget(number) {
                self.latest[kept] = number;
                kept += 1;
            }
        }
        // At most as many as there were.
        self.latest_len = u8::try_from(kept).unwrap_or_default();
    }
}

const MAX_LATEST: u8 = 4;
const _: () = assert!(MAX_LATEST as usize == SackBlocks::MAX);

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    fn range(start: u32, end: u32) -> SeqRange {
        // Around the wrap of sequence numbers.
        let base = Seq(u32::MAX - 100);
        SeqRange {
            start: base + start,
            end: base + end,
        }
    }

    fn ranges(list: &[(u32, u32)]) -> Ranges {
        let mut ranges = Ranges::default();
        for &(start, end) in list {
            ranges.insert(range(start, end));
        }
        ranges
    }

    fn list(list: &[(u32, u32)]) -> Vec<SeqRange> {
        list.iter().map(|&(start, end)| range(start, end)).collect()
    }

    #[test]
    fn ranges_that_touch_or_overlap_become_one() {
        for (inserted, kept) in [
            (&[(10, 20), (30, 40)][..], &[(10, 20), (30, 40)][..]),
            (&[(30, 40), (10, 20)], &[(10, 20), (30, 40)]),
            (&[(10, 20), (20, 30)], &[(10, 30)]),
            (&[(20, 30), (10, 20)], &[(10, 30)]),
            (&[(10, 20), (30, 40), (19, 31)], &[(10, 40)]),
            (&[(10, 20), (30, 40), (20, 30)], &[(10, 40)]),
            (&[(10, 20), (30, 40), (5, 200)], &[(5, 200)]),
            (&[(10, 40), (20, 30)], &[(10, 40)]),
            (
                &[(10, 20), (50, 60), (30, 40), (41, 50)],
                &[(10, 20), (30, 40), (41, 60)],
            ),
        ] {
            assert_eq!(ranges(inserted).as_slice(), list(kept), "{inserted:?}");
        }
    }

    #[test]
    fn the_range_that_grew_last_is_told_first() {
        let told = |inserted: &[(u32, u32)]| ranges(inserted).blocks(None).as_slice().to_vec();
        let five = [(10, 20), (30, 40), (50, 60), (70, 80), (90, 110)];
        assert_eq!(
            told(&five),
            list(&[(90, 110), (70, 80), (50, 60), (30, 40)])
        );
        let grown = [(10, 20), (30, 40), (50, 60), (20, 25)];
        assert_eq!(told(&grown), list(&[(10, 25), (50, 60), (30, 40)]));
        let again = [(10, 20), (30, 40), (12, 14)];
        assert_eq!(
            told(&again),
            list(&[(10, 20), (30, 40)]),
            "a duplicate, too"
        );
        // Two of the latest have become one: a range that was told long ago takes the place.
        let merged = [&five[..], &[(80, 90)]].concat();
        assert_eq!(
            told(&merged),
            list(&[(70, 110), (50, 60), (30, 40), (10, 20)])
        );
    }

    #[test]
    fn a_duplicate_is_told_before_the_others_and_takes_a_place() {
        let ranges = ranges(&[(10, 20), (30, 40), (50, 60), (70, 80)]);
        let blocks = ranges.blocks(Some(range(72, 75)));
        let expected = list(&[(72, 75), (70, 80), (50, 60), (30, 40)]);
        assert_eq!(blocks.as_slice(), expected);
        assert_eq!(
            Ranges::default().blocks(Some(range(0, 1))).as_slice(),
            list(&[(0, 1)])
        );
    }

    #[test]
    fn a_gap_that_fills_gives_all_that_follows() {
        let mut ranges = ranges(&[(10, 20), (20, 30), (40, 50), (60, 70)]);
        assert_eq!(ranges.take_from(range(5, 5).end), range(5, 5).end);
        assert_eq!(ranges.take_from(range(0, 15).end), range(0, 30).end);
        assert_eq!(ranges.as_slice(), list(&[(40, 50), (60, 70)]));
        assert_eq!(ranges.take_from(range(0, 55).end), range(0, 55).end);
        assert_eq!(ranges.blocks(None).as_slice(), list(&[(60, 70)]));
        assert_eq!(ranges.take_from(range(0, 100).end), range(0, 100).end);
        assert!(ranges.is_empty() && ranges.blocks(None).as_slice().is_empty());
        assert_eq!(
            ranges.sorted.capacity(),
            0,
            "an idle connection has no list"
        );
    }

    #[test]
    fn ranges_that_were_taken_make_room_among_the_latest() {
        let mut ranges = ranges(&[(50, 60), (70, 80), (30, 40), (10, 20)]);
        ranges.take_from(range(0, 30).end);
        ranges.insert(range(90, 95));
        ranges.insert(range(100, 110));
        assert_eq!(
            ranges.blocks(None).as_slice(),
            list(&[(100, 110), (90, 95), (70, 80), (50, 60)])
        );
    }

    #[test]
    fn what_is_there_already_is_found() {
        let ranges = ranges(&[(10, 20), (30, 40)]);
        for (start, end, common) in [
            (0, 10, None),
            (20, 30, None),
            (5, 12, Some((10, 12))),
            (12, 15, Some((12, 15))),
            (15, 35, Some((15, 20))),
            (20, 35, Some((30, 35))),
            (40, 50, None),
        ] {
            let common = common.map(|(start, end)| range(start, end));
            assert_eq!(ranges.overlap(range(start, end)), common, "{start} {end}");
        }
    }

    #[test]
    fn the_list_is_bounded_but_what_touches_a_range_needs_no_room() {
        let many = u32::try_from(MAX).unwrap();
        let mut ranges = Ranges::default();
        for number in 0..many {
            assert!(ranges.has_room_for(range(number * 4, number * 4 + 2)));
            ranges.insert(range(number * 4, number * 4 + 2));
        }
        assert!(!ranges.has_room_for(range(many * 4, many * 4 + 1)));
        assert!(ranges.has_room_for(range(2, 3)));
        assert!(ranges.has_room_for(range(many * 4 - 2, many * 4)));
    }
}
