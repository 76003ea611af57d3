//! Which number belongs to a pair of ends: an open hash table of hashes and numbers, nothing else.
//!
//! Peers choose their addresses and ports, so the hash is keyed. The table holds 32 bits of it, so that it grows without looking
//! at a single connection, and a search almost never looks at a wrong one; who is right is decided by the keys,
//! which the owner has.

use core::hash::Hasher as _;

use hashbrown::HashTable;
use siphasher::sip::SipHasher13;

use super::tuple::Tuple;

/// Keyed hash of a pair of ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hash(u32);

impl Hash {
    /// `keyed` is a hasher that has seen the secret, and nothing of a peer's choice.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the low half of a hash is a hash"
    )]
    pub(super) fn of(tuple: &Tuple, keyed: &SipHasher13) -> Self {
        let mut hasher = *keyed;
        // Words, since `write` of bytes takes them one by one at its ends: 7 ns in place of 11.
        let (words, rest) = tuple.as_bytes().as_chunks::<8>();
        for word in words {
            hasher.write_u64(u64::from_le_bytes(*word));
        }
        if let Some(last) = rest.first_chunk::<4>() {
            hasher.write_u32(u32::from_le_bytes(*last));
        }
        Self(hasher.finish() as u32)
    }

    /// The table takes its buckets from the low bits and its tags from the high ones.
    const fn spread(self) -> u64 {
        (self.0 as u64) << 32 | self.0 as u64
    }
}

/// Numbers by hash.
#[derive(Debug, Default)]
pub(super) struct Index {
    table: HashTable<(Hash, u32)>,
}

impl Index {
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// The number under `hash` that is the one.
    pub(super) fn find(&self, hash: Hash, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        self.table
            .find(hash.spread(), |&(other, number)| {
                other == hash && is_it(number)
            })
            .map(|&(_, number)| number)
    }

    /// Adds a number that is not there.
    pub(super) fn insert(&mut self, hash: Hash, number: u32) {
        self.table
            .insert_unique(hash.spread(), (hash, number), |(hash, _)| hash.spread());
    }

    pub(super) fn remove(&mut self, hash: Hash, number: u32) {
        if let Ok(entry) = self
            .table
            .find_entry(hash.spread(), |&entry| entry == (hash, number))
        {
            entry.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_counts() {
        let keyed = crate::Secret::new([1; 16]).flow_table();
        let mut seen = std::collections::BTreeSet::new();
        for at in 0..36 {
            let mut bytes = [0; 36];
            bytes[at] = 1;
            seen.insert(Hash::of(&Tuple::V6(bytes), &keyed).0);
            if let Some(bytes) = bytes.first_chunk::<12>() {
                seen.insert(Hash::of(&Tuple::V4(*bytes), &keyed).0);
            }
        }
        // Twelve places in a short one (all zeros beyond), 36 in a long one.
        assert_eq!(seen.len(), 36 + 12 + 1);
    }

    #[test]
    fn equal_hashes_are_told_apart_by_the_owner() {
        let mut index = Index::default();
        let hash = Hash(0x8000_0001);
        (0..1000).for_each(|number| index.insert(hash, number));
        assert_eq!(index.find(hash, |number| number == 500), Some(500));
        index.remove(hash, 500);
        assert_eq!(index.find(hash, |number| number == 500), None);
        assert_eq!(index.find(Hash(1), |_| true), None);
        assert_eq!(index.len(), 999);
    }
}
