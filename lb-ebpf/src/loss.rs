//! Which packets the lossy wire of tests and benchmarks loses.
//!
//! A plan is one CPU's, so nothing here is shared: the n-th data segment that a CPU sees has the same fate in every run
//! with the same seed. Only segments with data are lost; what acknowledges them gets through, as in the measurements
//! that the targets come from. Deliberately not here: anything that the product runs (`src/lossy.rs` is the program).

use crate::wire::PROTOCOL_TCP;

/// Element of the map `LOSS`: how much is lost, and how much was.
///
/// All fields are 64 bits wide, so that userspace can write it as an array of integers.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    /// Of 2^32 data segments, so many are lost.
    pub threshold: u64,
    /// State of the generator; first of all, the seed.
    pub state: u64,
    /// Data segments seen.
    pub seen: u64,
    /// Data segments lost.
    pub lost: u64,
}

/// Integers of a [`Loss`].
pub const LOSS_WORDS: usize = size_of::<Loss>() / 8;

/// What of a TCP segment decides whether it carries data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// IP protocol number, or the next header of IPv6.
    pub protocol: u8,
    /// Bytes behind the IP header.
    pub length: u16,
    /// The byte of the TCP header whose high half is the data offset.
    pub offset: u8,
}

impl Segment {
    /// Whether it is TCP and has data.
    pub fn has_data(self) -> bool {
        self.protocol == PROTOCOL_TCP && self.length > u16::from(self.offset >> 4) * 4
    }
}

impl Loss {
    /// `permille` thousandths of the data segments, the same ones for the same seed.
    pub fn new(permille: u32, seed: u64) -> Self {
        Self {
            threshold: (u64::from(permille) << 32) / 1000,
            state: seed,
            ..Self::default()
        }
    }

    /// The integers, in the order of the fields.
    pub fn words(&self) -> [u64; LOSS_WORDS] {
        [self.threshold, self.state, self.seen, self.lost]
    }

    /// Whether the wire loses this segment.
    #[inline(always)]
    pub fn loses(&mut self, segment: Segment) -> bool {
        if !segment.has_data() {
            return false;
        }
        self.seen = self.seen.wrapping_add(1);
        let is_lost = self.draw() < self.threshold;
        self.lost = self.lost.wrapping_add(u64::from(is_lost));
        is_lost
    }

    /// 32 random bits. Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014.
    #[inline(always)]
    fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.state;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) >> 32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    const DATA: Segment = Segment {
        protocol: PROTOCOL_TCP,
        length: 21,
        offset: 0x50,
    };

    fn fates(permille: u32, seed: u64) -> Vec<bool> {
        let mut loss = Loss::new(permille, seed);
        (0..100_000).map(|_| loss.loses(DATA)).collect()
    }

    fn count(fates: &[bool]) -> usize {
        fates.iter().filter(|lost| **lost).count()
    }

    #[test]
    fn about_as_many_as_asked_for_are_lost() {
        for (permille, range) in [
            (0, 0..=0),
            (1, 70..=130),
            (10, 900..=1100),
            (50, 4800..=5200),
            (1000, 100_000..=100_000),
        ] {
            let lost = count(&fates(permille, 1));
            assert!(range.contains(&lost), "{permille}: {lost}");
        }
    }

    #[test]
    fn the_seed_decides_which() {
        assert_eq!(fates(10, 7), fates(10, 7));
        assert_ne!(fates(10, 7), fates(10, 8));
    }

    #[test]
    fn only_tcp_with_data_is_lost_or_counted() {
        let check = |segment: Segment, expected| {
            let mut loss = Loss::new(1000, 1);
            assert_eq!(loss.loses(segment), expected, "{segment:?}");
            assert_eq!(loss.seen, u64::from(expected), "{segment:?}");
            assert_eq!(loss.lost, u64::from(expected), "{segment:?}");
        };
        check(DATA, true);
        check(Segment { length: 20, ..DATA }, false);
        check(
            Segment {
                offset: 0x80,
                ..DATA
            },
            false,
        );
        check(
            Segment {
                protocol: 17,
                ..DATA
            },
            false,
        );
        check(
            Segment {
                length: 61,
                offset: 0xf0,
                ..DATA
            },
            true,
        );
    }

    #[test]
    fn the_words_are_the_fields() {
        let loss = Loss {
            threshold: 1,
            state: 2,
            seen: 3,
            lost: 4,
        };
        assert_eq!(loss.words(), [1, 2, 3, 4]);
    }
}
