//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).
//!
//! A one's-complement sum may be taken in any byte order and over words of any width, if it is folded
//! in the same order at the end (RFC 1071 §2). So packet bytes are summed as native integers, and no
//! byte is swapped on the way. Called by [`crate::rewrite`]; [`of`] is for tests and packet builders.

/// A checksum field on its way from its old to its new value, for words that change under it.
///
/// Equation 3 of RFC 1624, `HC' = ~(~HC + ~m + m')`, never yields the false zero of RFC 1141.
#[derive(Clone, Copy, Debug)]
pub struct Update(u64);

impl Update {
    /// Starts from the checksum as it stands in the packet.
    #[inline(always)]
    pub fn new(checksum: [u8; 2]) -> Self {
        Self(u64::from(!u16::from_ne_bytes(checksum)))
    }

    /// Starts from nothing, to sum up what is written for the first time: words that change from zero.
    #[inline(always)]
    pub fn empty() -> Self {
        Self(0)
    }

    /// Four bytes at an even offset change from `old` to `new`, both as read from the packet.
    #[inline(always)]
    #[must_use]
    pub fn word(self, old: u32, new: u32) -> Self {
        Self(self.0 + u64::from(!old) + u64::from(new))
    }

    /// Eight bytes at an even offset change.
    #[inline(always)]
    #[must_use]
    pub fn long(self, old: u64, new: u64) -> Self {
        self.word(low(old), low(new)).word(high(old), high(new))
    }

    /// The checksum to write back.
    #[inline(always)]
    pub fn finish(self) -> [u8; 2] {
        (!fold(self.0)).to_ne_bytes()
    }
}

/// The checksum of `bytes`, whose own checksum field is zero; an odd last byte is padded with zero.
pub fn of(bytes: &[u8]) -> [u8; 2] {
    let (words, rest) = bytes.as_chunks::<2>();
    let sum: u64 = words
        .iter()
        .map(|word| u64::from(u16::from_ne_bytes(*word)))
        .sum();
    let last = rest
        .first()
        .map_or(0, |byte| u64::from(u16::from_ne_bytes([*byte, 0])));
    (!fold(sum + last)).to_ne_bytes()
}

#[expect(clippy::cast_possible_truncation, reason = "the low half is meant")]
#[inline(always)]
const fn low(long: u64) -> u32 {
    long as u32
}

#[inline(always)]
const fn high(long: u64) -> u32 {
    (long >> 32) as u32
}

/// Adds the carries back in until none is left. For a sum of less than 2¹⁶ words of 32 bits, the first line
/// leaves less than 2³² + 2¹⁶ and the second at most `0x1_fffe`, from which the third makes sixteen bits.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the last line leaves sixteen bits"
)]
#[inline(always)]
const fn fold(sum: u64) -> u16 {
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::{Update, of};
    use proptest::prelude::*;

    #[test]
    fn example_of_rfc_1071() {
        assert_eq!(
            of(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]),
            [0x22, 0x0d]
        );
        assert_eq!(
            of(&[0x00, 0x01, 0xf2]),
            [0x0d, 0xfe],
            "an odd byte counts as the high one"
        );
    }

    /// RFC 1624 §4: the example on which RFC 1141 goes wrong (it yields 0xffff).
    #[test]
    fn example_of_rfc_1624() {
        let old = u32::from_ne_bytes([0x55, 0x55, 0, 0]);
        let new = u32::from_ne_bytes([0x32, 0x85, 0, 0]);
        assert_eq!(
            Update::new([0xdd, 0x2f]).word(old, new).finish(),
            [0x00, 0x00]
        );
    }

    proptest! {
        #[test]
        fn incremental_equals_recomputed(
            mut bytes in proptest::collection::vec(any::<u8>(), 16..80),
            addresses in any::<[u8; 8]>(),
            ports in any::<[u8; 4]>(),
        ) {
            // A header is never all zero; the sum of one would have two representations.
            bytes[0] |= 1;
            let before = of(&bytes);
            let old_addresses = u64::from_ne_bytes(bytes[2..10].try_into().unwrap());
            let old_ports = u32::from_ne_bytes(bytes[10..14].try_into().unwrap());
            bytes[2..10].copy_from_slice(&addresses);
            bytes[10..14].copy_from_slice(&ports);
            let updated = Update::new(before)
                .long(old_addresses, u64::from_ne_bytes(addresses))
                .word(old_ports, u32::from_ne_bytes(ports))
                .finish();
            prop_assert_eq!(updated, of(&bytes));
        }
    }
}
