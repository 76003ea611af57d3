//! Which server a client address was at: a bounded table that all workers share.
//!
//! ```text
//!  key ──▶ set (one cache line) ──▶ 8 entries:  tag 24 │ server + 1 16 │ last seen 24 (seconds)
//! ```
//!
//! An entry is one word, read and written whole, so no lock is needed and no reader sees half of one. Who finds no entry
//! takes the oldest of the set. Two requests of a new client on two workers agree: both claim the same entry, and the later one
//! finds the earlier one's. Invariant: the table never grows; what it forgets costs a client its server, and nothing else.
//! Two clients whose 24 bits of tag are alike share an entry, which is harmless: they get the same server.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Entries in one set.
const WAYS: usize = 8;

/// 65,536 clients of a route, in half a mebibyte.
const SETS: usize = 1 << 13;

const FIELD: u64 = (1 << 24) - 1;

/// What source addresses are bound to.
#[derive(Debug)]
pub struct Sources {
    sets: Box<[Set]>,
    timeout: u64,
    made: Instant,
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Set([AtomicU64; WAYS]);

/// One entry, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    tag: u64,
    server: u16,
    seen: u64,
}

impl Entry {
    fn pack(self) -> u64 {
        (self.tag << 40) | ((u64::from(self.server) + 1) << 24) | self.seen
    }

    /// `None` for an entry that was never used.
    fn unpack(word: u64) -> Option<Self> {
        let server = ((word >> 24) & 0xffff).checked_sub(1)?;
        Some(Self {
            tag: word >> 40,
            server: u16::try_from(server).ok()?,
            seen: word & FIELD,
        })
    }
}

impl Sources {
    /// A table that forgets a client `timeout` after its last request.
    pub fn new(timeout: Duration) -> Self {
        Self {
            sets: (0..SETS).map(|_| Set::default()).collect(),
            timeout: timeout.as_secs(),
            made: Instant::now(),
        }
    }

    /// Where the client of `key` is, which has just been seen.
    pub(in super::super) fn find(&self, key: u64) -> Option<usize> {
        let (set, tag, now) = (self.set(key)?, tag(key), self.now());
        let (place, word, entry) = self.entry(set, tag, now)?;
        if entry.seen != now {
            let seen = Entry { seen: now, ..entry };
            // Whoever was faster has said the same.
            let _ = place.compare_exchange(word, seen.pack(), Ordering::Relaxed, Ordering::Relaxed);
        }
        Some(usize::from(entry.server))
    }

    /// The client of `key` is at `server` from now on, instead of at `before`. Where it is: another worker may have been
    /// faster.
    pub(in super::super) fn bind(
        &self,
        key: u64,
        before: Option<usize>,
        server: usize,
    ) -> Option<usize> {
        let (set, tag, now) = (self.set(key)?, tag(key), self.now());
        let entry = Entry {
            tag,
            server: u16::try_from(server).ok().filter(|&s| s < u16::MAX)?,
            seen: now,
        };
        for _ in 0..WAYS {
            let (place, word) = match self.entry(set, tag, now) {
                Some((_, _, found)) if Some(usize::from(found.server)) != before => {
                    return Some(usize::from(found.server));
                }
                Some((place, word, _)) => (place, word),
                None => self.oldest(set, now)?,
            };
            let claim =
                place.compare_exchange(word, entry.pack(), Ordering::Relaxed, Ordering::Relaxed);
            if claim.is_ok() {
                return Some(server);
            }
        }
        None
    }

    fn set(&self, key: u64) -> Option<&Set> {
        let index = usize::try_from(key).unwrap_or_default() % self.sets.len().max(1);
        self.sets.get(index)
    }

    /// Seconds, which wrap after half a year.
    fn now(&self) -> u64 {
        self.made.elapsed().as_secs() & FIELD
    }

    fn entry<'a>(&self, set: &'a Set, tag: u64, now: u64) -> Option<(&'a AtomicU64, u64, Entry)> {
        set.0.iter().find_map(|place| {
            let word = place.load(Ordering::Relaxed);
            let entry = Entry::unpack(word)?;
            let lives = age(entry, now) < self.timeout;
            (entry.tag == tag && lives).then_some((place, word, entry))
        })
    }

    fn oldest<'a>(&self, set: &'a Set, now: u64) -> Option<(&'a AtomicU64, u64)> {
        let words = set
            .0
            .iter()
            .map(|place| (place, place.load(Ordering::Relaxed)));
        // Of several that were never used, the first: every worker must claim the same.
        words.min_by_key(|(_, word)| {
            let age = Entry::unpack(*word).map(|entry| age(entry, now).min(self.timeout));
            age.map_or(0, |age| 1 + self.timeout - age)
        })
    }
}

fn age(entry: Entry, now: u64) -> u64 {
    now.wrapping_sub(entry.seen) & FIELD
}

fn tag(key: u64) -> u64 {
    key >> 40
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    /// Keys of one set.
    fn key(number: u64) -> u64 {
        number << 40
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_is_found_until_it_was_silent_for_too_long() {
        let sources = Sources::new(HOUR);
        assert_eq!(sources.find(key(1)), None);
        assert_eq!(sources.bind(key(1), None, 2), Some(2));
        for _ in 0..3 {
            tokio::time::advance(Duration::from_secs(3599)).await;
            assert_eq!(sources.find(key(1)), Some(2), "each request counts anew");
        }
        assert_eq!(sources.find(key(2)), None, "another client of the set");
        tokio::time::advance(HOUR).await;
        assert_eq!(sources.find(key(1)), None);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_binds_a_client_first_is_right() {
        let sources = Sources::new(HOUR);
        assert_eq!(sources.bind(key(1), None, 2), Some(2));
        // Another worker that had found nothing, too.
        assert_eq!(sources.bind(key(1), None, 3), Some(2));
        // Both have found that server 2 is down.
        assert_eq!(sources.bind(key(1), Some(2), 3), Some(3));
        assert_eq!(sources.bind(key(1), Some(2), 4), Some(3));
        assert_eq!(sources.find(key(1)), Some(3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_set_forgets_its_oldest() {
        let sources = Sources::new(HOUR);
        for number in 1..=8 {
            sources.bind(key(number), None, 1);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(sources.find(key(1)), Some(1), "seen again, and so young");
        sources.bind(key(9), None, 5);
        assert_eq!(sources.find(key(2)), None);
        for number in [1, 3, 4, 5, 6, 7, 8] {
            assert_eq!(sources.find(key(number)), Some(1), "{number}");
        }
        assert_eq!(sources.find(key(9)), Some(5));
    }

    #[test]
    fn entries_are_what_they_were() {
        for (tag, server, seen) in [(0, 0, 0), (FIELD, u16::MAX - 1, FIELD), (7, 1, 3)] {
            let entry = Entry { tag, server, seen };
            assert_eq!(Entry::unpack(entry.pack()), Some(entry));
        }
        assert_eq!(Entry::unpack(0), None);
    }
}
