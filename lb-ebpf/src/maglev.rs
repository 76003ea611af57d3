//! Maglev hashing (Eisenbud et al., "Maglev", NSDI 2016, §3.4): which server a new connection goes to.
//!
//! A ring is a table of servers in which each has its share of slots, and in which little moves when a
//! server comes or goes. Hosts that are given the same servers build the same ring, so a connection
//! lands on the same server whichever host takes it. Userspace [`build`]s; the program looks up by
//! [`slot`]. No allocation: both tables are the caller's.

use crate::abi::RING_SIZE;

/// A server that wants slots.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    backend: u32,
    weight: u32,
    credit: u32,
    position: u32,
    skip: u32,
}

impl Candidate {
    /// A server with its index in map `BACKENDS`, a number that identifies it on every host (such as
    /// its address and port), and its weight relative to the others. Weight 0 gets no new connections.
    pub fn new(backend: u32, identity: u64, weight: u32) -> Self {
        Self {
            backend,
            weight,
            credit: 0,
            position: below(mix(identity), RING_SIZE),
            skip: below(mix(!identity), RING_SIZE - 1) + 1,
        }
    }
}

/// A finished table: slot to index in map `BACKENDS`.
pub type Ring = [u32; RING_SIZE as usize];

/// A slot that no server has taken yet.
const FREE: u32 = u32::MAX;

/// Fills `ring` with the `backend` of each candidate in proportion to its weight.
///
/// Returns `false`, with the ring unchanged, if no candidate has a weight: such a service has no ring
/// ([`crate::abi::RING_EMPTY`]). Takes about `n ln n` steps for `n` slots. The order of the candidates
/// matters where two want the same slot: sort them by identity.
pub fn build(ring: &mut Ring, candidates: &mut [Candidate]) -> bool {
    let Some(heaviest) = candidates
        .iter()
        .map(|c| c.weight)
        .max()
        .filter(|weight| *weight > 0)
    else {
        return false;
    };
    ring.fill(FREE);
    let mut left = RING_SIZE;
    while left > 0 {
        for candidate in &mut *candidates {
            // A server of half the weight takes its turn in every second round.
            candidate.credit = candidate.credit.saturating_add(candidate.weight);
            if candidate.credit < heaviest || left == 0 {
                continue;
            }
            candidate.credit -= heaviest;
            take(ring, candidate);
            left -= 1;
        }
    }
    true
}

/// Takes the next slot of the candidate's permutation that is still free; there is one.
fn take(ring: &mut Ring, candidate: &mut Candidate) {
    loop {
        let position = candidate.position;
        // The ring size is prime, so that steps of any length visit every slot once.
        candidate.position = (position + candidate.skip) % RING_SIZE;
        if let Some(slot) = ring.get_mut(position as usize)
            && *slot == FREE
        {
            *slot = candidate.backend;
            return;
        }
    }
}

/// The slot of a hash value: scaling instead of division, which costs a BPF program ten times as much.
#[inline(always)]
pub fn slot(hash: u32) -> u32 {
    ((u64::from(hash) * u64::from(RING_SIZE)) >> 32) as u32
}

/// A number below `limit` that a hash value stands for.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the remainder is below a u32"
)]
const fn below(hash: u64, limit: u32) -> u32 {
    (hash % limit as u64) as u32
}

/// The finaliser of `SplitMix64` (Steele et al., "Fast splittable pseudorandom number generators", 2014).
const fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::{Candidate, FREE, Ring, build, slot};
    use crate::abi::RING_SIZE;
    use std::boxed::Box;
    use std::vec;
    use std::vec::Vec;

    const SLOTS: usize = RING_SIZE as usize;

    fn blank(value: u32) -> Box<Ring> {
        vec![value; SLOTS].try_into().expect("of that length")
    }

    fn ring(servers: &[(u32, u32)]) -> Box<Ring> {
        let mut candidates: Vec<_> = servers
            .iter()
            .map(|&(backend, weight)| {
                Candidate::new(backend, 0x0acb_020b_0000 + u64::from(backend), weight)
            })
            .collect();
        let mut ring = blank(0);
        assert!(build(&mut ring, &mut candidates));
        ring
    }

    fn share(ring: &Ring, backend: u32) -> f64 {
        let slots = ring.iter().filter(|slot| **slot == backend).count();
        f64::from(u32::try_from(slots).expect("at most the ring")) / f64::from(RING_SIZE)
    }

    #[test]
    fn every_slot_is_taken_and_shares_are_even() {
        let servers: Vec<_> = (0..100).map(|backend| (backend, 1)).collect();
        let ring = ring(&servers);
        assert!(ring.iter().all(|slot| *slot != FREE));
        for (backend, _) in servers {
            let share = share(&ring, backend);
            assert!(
                (share * 100.0 - 1.0).abs() < 0.01,
                "server {backend} has {share}"
            );
        }
    }

    #[test]
    fn shares_follow_weights() {
        let ring = ring(&[(0, 100), (1, 70), (2, 15), (3, 0)]);
        for (backend, weight) in [(0, 100.0), (1, 70.0), (2, 15.0), (3, 0.0)] {
            let (share, expected) = (share(&ring, backend), weight / 185.0);
            assert!(
                (share - expected).abs() < 0.001,
                "server {backend} has {share}, not {expected}"
            );
        }
    }

    /// The paper (§5.3) finds a few per cent of extra moves; a modulo would move nine slots in ten.
    #[test]
    fn a_server_that_leaves_moves_little_but_its_own() {
        let all: Vec<_> = (0..10).map(|backend| (backend, 1)).collect();
        let fewer: Vec<_> = all
            .iter()
            .copied()
            .filter(|(backend, _)| *backend != 3)
            .collect();
        let (before, after) = (ring(&all), ring(&fewer));
        let moved = before
            .iter()
            .zip(&*after)
            .filter(|(b, a)| **b != 3 && b != a)
            .count();
        assert!(
            moved < SLOTS / 20,
            "{moved} slots of servers that stayed have moved"
        );
    }

    #[test]
    fn no_weight_no_ring() {
        let mut ring = blank(7);
        assert!(!build(&mut ring, &mut [Candidate::new(1, 1, 0)]));
        assert!(!build(&mut ring, &mut []));
        assert!(ring.iter().all(|slot| *slot == 7));
    }

    #[test]
    fn slots_cover_the_ring() {
        assert_eq!(slot(0), 0);
        assert_eq!(slot(u32::MAX), RING_SIZE - 1);
    }
}
