//! Where flows go: evenly, differently under every key, and as little elsewhere as possible when servers change.

use crate::config;
use lb_ebpf::abi::{HASH_KEYS, RING_SIZE, Settings};
use lb_ebpf::family::{Family, V4, V6};
use lb_ebpf::flow::{FlowSet, Key, Sets, Table};
use lb_ebpf::maglev::{Candidate, Ring, build};
use proptest::prelude::*;
use std::collections::HashMap;

/// Only hashes are asked for.
struct NoSets;

impl<F: Family> Sets<F> for NoSets {
    fn flow_set(&self, _: u32) -> Option<&FlowSet<F>> {
        None
    }
}

const CELLS: usize = 16;
const FLOWS: u16 = 8192;

/// Pearson's statistic over the cells that each flow falls into under both keys at once. If they say nothing of each other
/// it is 255 ± 23.
fn dependence<F: Family>(keys: [[u64; HASH_KEYS]; 2], flow: impl Fn(u16) -> Key<F>) -> f64 {
    let settings = keys.map(|hash_key| Settings {
        hash_key,
        ..Settings::default()
    });
    let mut cells = [0_u32; CELLS * CELLS];
    for number in 0..FLOWS {
        let key = flow(number);
        let [first, second] = settings.each_ref().map(|settings| {
            let slot = Table::<_, F>::new(&NoSets, settings).slot(&key);
            slot as usize * CELLS / RING_SIZE as usize
        });
        cells[first * CELLS + second] += 1;
    }
    let expected = f64::from(FLOWS) / 256.0;
    let squares = cells.map(|count| (f64::from(count) - expected).powi(2));
    squares.iter().sum::<f64>() / expected
}

/// Clients as they come: many addresses, ports in no order.
fn scattered(number: u16) -> ([u8; 2], u16) {
    let mixed = number.wrapping_mul(0x9e37) ^ (number >> 7);
    (number.to_be_bytes(), 1024 | mixed)
}

proptest! {
    #![proptest_config(config(24))]

    /// Whoever finds out under one key which tuples meet knows nothing of the next one.
    #[test]
    fn another_key_deals_flows_out_anew(keys: [[u64; HASH_KEYS]; 2]) {
        let v4 = dependence::<V4>(keys, |number| {
            let ([a, b], port) = scattered(number);
            Key::new(([10, 7, a, b], port), ([10, 203, 1, 100], 25), 6)
        });
        let v6 = dependence::<V6>(keys, |number| {
            let ([a, b], port) = scattered(number);
            let address = |last: [u8; 2]| {
                [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last[0], last[1]]
            };
            Key::new((address([a, b]), port), (address([1, 100]), 25), 6)
        });
        // Ten times the deviation: a tuple's place is not random, only as good as that.
        prop_assert!(v4 < 485.0, "{v4}");
        prop_assert!(v6 < 485.0, "{v6}");
    }
}

fn ring(weights: &[u32]) -> Box<Ring> {
    let mut ring: Box<Ring> = vec![0; RING_SIZE as usize]
        .try_into()
        .expect("of that length");
    let mut candidates: Vec<_> = (0..)
        .zip(weights)
        .map(|(backend, weight)| {
            Candidate::new(backend, 0x0acb_020b_0000 + u64::from(backend), *weight)
        })
        .collect();
    assert!(build(&mut ring, &mut candidates));
    ring
}

fn shares(ring: &Ring) -> HashMap<u32, f64> {
    let mut shares = HashMap::new();
    for backend in ring {
        *shares.entry(*backend).or_default() += 1.0 / f64::from(RING_SIZE);
    }
    shares
}

proptest! {
    #![proptest_config(config(24))]

    /// Imbalance and disruption stay bounded for pools of any size and weights.
    #[test]
    fn shares_follow_weights_and_little_moves(
        weights in proptest::collection::vec(1_u32..=10, 2..40),
        leaver: prop::sample::Index,
    ) {
        let leaver = leaver.index(weights.len());
        let before = ring(&weights);
        let total = f64::from(weights.iter().sum::<u32>());
        let shares = shares(&before);
        for (backend, weight) in (0..).zip(&weights) {
            let (share, fair) = (shares[&backend], f64::from(*weight) / total);
            prop_assert!((share / fair - 1.0).abs() < 0.01, "server {backend}: {share}, not {fair}");
        }

        let mut fewer = weights.clone();
        fewer[leaver] = 0;
        let after = ring(&fewer);
        let leaver = u32::try_from(leaver).expect("few");
        let stayed = before.iter().zip(&*after).filter(|(server, _)| **server != leaver);
        let moved = stayed.filter(|(before, after)| before != after).count();
        let moved = f64::from(u32::try_from(moved).expect("at most the ring")) / f64::from(RING_SIZE);
        prop_assert!(moved < 0.08, "{moved} of the slots of others have moved");
        prop_assert!(after.iter().all(|server| *server != leaver));
    }
}
