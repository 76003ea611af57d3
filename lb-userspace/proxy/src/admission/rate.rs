//! So many requests in a time, as a token bucket, over all clients or for each client.
//!
//! The bucket is kept as one number, the time at which it will be full again (GCRA, ITU-T I.371): taking a token moves it
//! ahead by what one request is worth, and a request is refused if it lies further ahead than a whole burst. That is
//! one compare-and-swap, and no bucket must ever be filled. Times are nanoseconds since a start that all workers share.

use std::hash::{BuildHasher as _, RandomState};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// So many requests in a time, and so many at once after a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Nanoseconds that one request is worth.
    interval: u64,
    /// How far ahead of its time a request may come.
    tolerance: u64,
}

impl Rate {
    /// `requests` in the time `per`, of which `burst` may come at once.
    pub fn new(requests: NonZeroU32, per: Duration, burst: NonZeroU32) -> Self {
        let per = u64::try_from(per.as_nanos()).unwrap_or(u64::MAX);
        let interval = (per / u64::from(requests.get())).max(1);
        Self {
            interval,
            tolerance: interval.saturating_mul(u64::from(burst.get() - 1)),
        }
    }

    /// When the bucket that is full at `full` is full again if a token is taken `now`; else how long until there is one.
    fn take(self, full: u64, now: u64) -> Result<u64, u64> {
        let full = full.max(now);
        match (full - now).checked_sub(self.tolerance) {
            None | Some(0) => Ok(full.saturating_add(self.interval)),
            Some(early) => Err(early),
        }
    }
}

/// One bucket for all.
#[derive(Debug)]
pub(super) struct Bucket {
    rate: Rate,
    full: AtomicU64,
}

impl Bucket {
    pub(super) fn new(rate: Rate) -> Self {
        let full = AtomicU64::new(0);
        Self { rate, full }
    }

    /// Takes a token, or says how many nanoseconds it is until there is one.
    pub(super) fn take(&self, now: u64) -> Result<(), u64> {
        let taken = self
            .full
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full| {
                self.rate.take(full, now).ok()
            });
        match taken {
            Ok(_) => Ok(()),
            Err(full) => self.rate.take(full, now).map(drop),
        }
    }
}

/// Buckets in one set: an address can be in any of them.
const WAYS: usize = 8;
/// Clients that are known at once, 2 MiB of them.
const CLIENTS: usize = 1 << 16;

/// A client and its bucket; an empty place is a bucket that has always been full.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    client: u128,
    full: u64,
}

/// A bucket for each client, in a table that never grows. A client that is new to a full set takes the place of the one
/// whose bucket is the fullest: mostly one that is full, of which nothing is lost. Sets are found by a keyed hash, so that
/// nobody can choose addresses that fall into one.
#[derive(Debug)]
pub(super) struct Clients {
    rate: Rate,
    hasher: RandomState,
    sets: Box<[Mutex<[Slot; WAYS]>]>,
}

impl Clients {
    pub(super) fn new(rate: Rate) -> Self {
        Self::with_sets(rate, CLIENTS / WAYS)
    }

    fn with_sets(rate: Rate, sets: usize) -> Self {
        Self {
            rate,
            hasher: RandomState::new(),
            sets: (0..sets).map(|_| Mutex::default()).collect(),
        }
    }

    /// As [`Bucket::take`], from the bucket of this client.
    pub(super) fn take(&self, client: u128, now: u64) -> Result<(), u64> {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "any bits of a hash will do"
        )]
        let at = self.hasher.hash_one(client) as usize % self.sets.len().max(1);
        let Some(set) = self.sets.get(at) else {
            return Ok(());
        };
        let mut set = set.lock().unwrap_or_else(PoisonError::into_inner);
        let known = set.iter().position(|slot| slot.client == client);
        let fullest = || (0..WAYS).min_by_key(|&way| set.get(way).map(|slot| slot.full));
        let Some(slot) = known.or_else(fullest).and_then(|way| set.get_mut(way)) else {
            return Ok(());
        };
        if slot.client != client {
            *slot = Slot { client, full: 0 };
        }
        slot.full = self.rate.take(slot.full, now)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// Ten a second, three at once.
    fn rate() -> Rate {
        let count = |n| NonZeroU32::new(n).unwrap();
        Rate::new(count(10), Duration::from_secs(1), count(3))
    }

    #[test]
    fn a_burst_and_then_the_rate() {
        let bucket = Bucket::new(rate());
        let start = 5 * SECOND;
        let taken: Vec<_> = (0..5).map(|_| bucket.take(start)).collect();
        assert_eq!(
            taken,
            [Ok(()), Ok(()), Ok(()), Err(SECOND / 10), Err(SECOND / 10)]
        );
        assert_eq!(bucket.take(start + SECOND / 10 - 1), Err(1));
        assert_eq!(bucket.take(start + SECOND / 10), Ok(()));
        assert_eq!(bucket.take(start + SECOND / 10), Err(SECOND / 10));
        // However long the pause, no more than the burst.
        let later: Vec<_> = (0..4).map(|_| bucket.take(100 * SECOND).is_ok()).collect();
        assert_eq!(later, [true, true, true, false]);
    }

    #[test]
    fn over_a_long_time_the_rate_is_exact() {
        let bucket = Bucket::new(rate());
        let passed = (0..60_000).filter(|ms| bucket.take(ms * 1_000_000).is_ok());
        assert_eq!(passed.count(), 600 + 2);
    }

    #[test]
    fn each_client_has_its_own_bucket() {
        let clients = Clients::new(rate());
        for client in 1..=20_000 {
            let taken: Vec<_> = (0..4)
                .map(|_| clients.take(client, SECOND).is_ok())
                .collect();
            assert_eq!(taken, [true, true, true, false], "{client}");
        }
    }

    #[test]
    fn a_full_set_gives_up_the_fullest_bucket() {
        let clients = Clients::with_sets(rate(), 1);
        for _ in 0..3 {
            assert_eq!(clients.take(1, SECOND), Ok(()));
        }
        // One token each: all of these are fuller than the bucket of 1.
        for client in 2..=50 {
            assert_eq!(clients.take(client, SECOND), Ok(()), "{client}");
        }
        assert_eq!(clients.take(1, SECOND), Err(SECOND / 10));
    }

    #[test]
    fn a_rate_may_be_as_slow_or_as_fast_as_it_can_be_written() {
        let one = NonZeroU32::MIN;
        let slow = Bucket::new(Rate::new(one, Duration::from_hours(24), one));
        assert_eq!(slow.take(SECOND), Ok(()));
        assert_eq!(slow.take(SECOND), Err(24 * 3600 * SECOND));
        let fast = Bucket::new(Rate::new(
            NonZeroU32::MAX,
            Duration::from_secs(1),
            NonZeroU32::MAX,
        ));
        assert!((0..1000).all(|_| fast.take(SECOND).is_ok()));
    }
}
