//! The checksum of the Internet (RFC 1071), alone and while bytes are copied.
//!
//! A sum in one's complement does not care how wide its words are, as long as carries come in again at the low end, nor in which
//! order their bytes lie, as long as the result is stored in the same order (RFC 1071 §2 (B), (C)). So words of 32 bits in the
//! byte order of this machine are added in lanes of 64 bits, whose carries have room; the compiler makes vectors of the lanes.

use core::net::IpAddr;

use crate::Payload;

/// Bytes of a step: [`LANES`] words of 32 bits.
const STEP: usize = 4 * LANES;

/// Lanes: as many as keep two vector units busy.
const LANES: usize = 8;

/// A sum that bytes are added to, as if all of them were in one row.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sum {
    total: u64,
    /// Whether the next byte is the second one of a word.
    odd: bool,
}

/// Sum of the pseudo-header before a segment of `len` bytes: that of IPv4 (RFC 9293 §3.1) and that of IPv6 (RFC 8200 §8.1) have
/// the same sum, whatever their order and padding.
pub(super) fn pseudo_header(source: IpAddr, destination: IpAddr, len: usize) -> Sum {
    let mut sum = Sum::default();
    for address in [source, destination] {
        match address {
            IpAddr::V4(address) => sum.add(&address.octets()),
            IpAddr::V6(address) => sum.add(&address.octets()),
        }
    }
    sum.add(&[0, super::PROTOCOL]);
    // Longer than an IPv4 packet only as a jumbogram, whose length has 32 bits.
    sum.add(&u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes());
    sum
}

impl Sum {
    /// Adds bytes.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        let (steps, tail) = bytes.as_chunks::<STEP>();
        let mut lanes = [0; LANES];
        for step in steps {
            accumulate(&mut lanes, step);
        }
        self.join(lanes, tail, bytes.len());
    }

    /// Adds the bytes of `payload` and copies them to `into`, which is as long.
    pub(super) fn copy(&mut self, payload: Payload<'_>, mut into: &mut [u8]) {
        for slice in payload.slices() {
            let Some((part, rest)) = into.split_at_mut_checked(slice.len()) else {
                debug_assert!(false, "no room for the payload");
                return;
            };
            self.copy_slice(slice, part);
            into = rest;
        }
    }

    /// The sum in 16 bits, as it lies in memory.
    pub(super) fn fold(self) -> u16 {
        fold(self.total)
    }

    fn copy_slice(&mut self, from: &[u8], into: &mut [u8]) {
        let (steps, tail) = from.as_chunks::<STEP>();
        let (into_steps, into_tail) = into.as_chunks_mut::<STEP>();
        let mut lanes = [0; LANES];
        for (step, into) in steps.iter().zip(into_steps) {
            accumulate(&mut lanes, step);
            *into = *step;
        }
        into_tail.copy_from_slice(tail);
        self.join(lanes, tail, from.len());
    }

    /// Adds a row of `len` bytes: what its steps gave, and the bytes behind them.
    fn join(&mut self, lanes: [u64; LANES], tail: &[u8], len: usize) {
        let (words, rest) = tail.as_chunks::<4>();
        let mut last = [0; 4];
        for (to, from) in last.iter_mut().zip(rest) {
            *to = *from;
        }
        // A lane grows by less than 2³² a step: it would take 2³² steps to overflow.
        let sum = lanes
            .into_iter()
            .chain(words.iter().map(|word| word_of(*word)));
        let row = fold(sum.fold(word_of(last), |sum, lane| sum + lane));
        // A row that begins with the second byte of a word has each of its bytes on the wrong side.
        self.total += u64::from(if self.odd { row.swap_bytes() } else { row });
        self.odd ^= len % 2 == 1;
    }
}

fn accumulate(lanes: &mut [u64; LANES], step: &[u8; STEP]) {
    let (words, _) = step.as_chunks::<4>();
    for (lane, word) in lanes.iter_mut().zip(words) {
        *lane += word_of(*word);
    }
}

fn word_of(bytes: [u8; 4]) -> u64 {
    u64::from(u32::from_ne_bytes(bytes))
}

/// A sum in 16 bits; zero only of nothing but zeros.
#[expect(
    clippy::cast_possible_truncation,
    reason = "each fold leaves less than the next one takes, the last one 16 bits"
)]
const fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}
