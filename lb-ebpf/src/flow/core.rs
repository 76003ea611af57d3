//! Filling a sixteenth of a large table first, its core, as long as the flows are few.
//!
//! Flows that are hashed over a large table have a page of memory each, and each packet of another flow pays for finding
//! that page: with 65,536 flows in 256 MiB, as much again as for the entry itself. In the core, sixteen flows share one.
//!
//! Userspace decides when the core has become too small, and then changes one number of the settings, for good. No flow is
//! lost by that, because none is moved and each is looked for wherever it may be:
//!
//! | [`Settings`](crate::abi::Settings) say | placed in | looked for in |
//! |---|---|---|
//! | `CORE_FIRST` | core; if that is full, outside it: the first set in the whole, or the second | the same, outside only if the core overflows |
//! | `CORE_SPREAD` | first set in the whole; if that is full, second | the same, then the core |
//!
//! What is placed outside the core lies where it will be looked for in the second case, and leaves the mark that leads there.
//!
//! A CPU that has read the settings just before the change may place one more flow in the core, which is looked for there as
//! well; packets of flows that were placed after the change are not yet on a CPU that started before it.
//!
//! Deliberately not here: a way back. The daemon's next start on an empty table is one.

use super::FlowSet;
use crate::abi::{CORE_FIRST, CORE_NONE, CORE_SHIFT};
use crate::family::Family;

/// A smaller table (4 MiB for IPv4) has no core: its pages are few.
const LEAST_SETS: u32 = 1 << 14;

/// Sets that are looked at to estimate how full the core is.
const SAMPLE: usize = 256;

/// The use that an empty table of so many sets makes of its core.
#[must_use]
pub const fn initial_core(sets: u32) -> u16 {
    if sets < LEAST_SETS {
        CORE_NONE
    } else {
        CORE_FIRST
    }
}

/// Whether flows fill more than five eighths of the core of the table `sets`, as far as a sample tells. A fuller one places
/// more than one flow in ten elsewhere. Half-open flows count like others: under a flood of them, to find the core full
/// would make each dearer.
#[must_use]
pub fn core_is_crowded<F: Family>(sets: &[FlowSet<F>]) -> bool {
    let core = sets.len() >> CORE_SHIFT;
    let step = (core / SAMPLE).max(1);
    let sample = sets.iter().take(core).step_by(step);
    let (mut used, mut entries) = (0, 0);
    for entry in sample.flat_map(FlowSet::entries) {
        entries += 1;
        used += usize::from(entry.snapshot().is_some());
    }
    used * 8 > entries * 5
}

#[cfg(test)]
mod tests {
    use super::{CORE_FIRST, CORE_NONE, FlowSet, core_is_crowded, initial_core};
    use crate::abi::{CORE_SPREAD, Settings};
    use crate::flow::tests::{Slice, key, value};
    use crate::flow::{FlowEntry, LIVE, Table};
    use crate::tcp::{Direction, Flags};
    use std::vec::Vec;

    const SETS: u32 = 64;
    const CORE: usize = 4;

    fn empty() -> Slice {
        Slice((0..SETS).map(|_| FlowSet::default()).collect())
    }

    fn settings(flow_core: u16) -> Settings {
        Settings {
            flow_set_mask: SETS - 1,
            flow_core,
            // Any keys that spread the numbers of `key`.
            hash_key: core::array::from_fn(|index| {
                0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(2 * index as u64 + 1)
            }),
            ..Settings::default()
        }
    }

    /// Opens a flow that is in use, so that no other displaces it; whether there was room.
    fn open(table: &Table<'_, Slice>, number: u16) -> bool {
        let (to, back) = (
            value(number, Direction::Forward),
            value(number, Direction::Reverse),
        );
        let keys = [key(number), key(number).reversed()];
        let inserted = table.insert(&keys[0], &to, &keys[1], &back);
        for entry in keys.iter().filter_map(|key| table.find_cold(key)) {
            entry.track(Flags::ACK);
            entry.tell(Flags::ACK);
        }
        inserted.is_ok()
    }

    fn is_there(table: &Table<'_, Slice>, number: u16) -> bool {
        let rewrite = value(number, Direction::Forward).rewrite;
        [key(number), key(number).reversed()].iter().all(|key| {
            let hot = table.find(key).and_then(|found| found.rewrite());
            let cold = table.find_cold(key).and_then(FlowEntry::snapshot);
            hot == Some(rewrite) && cold.is_some_and(|cold| cold.key == *key)
        })
    }

    fn used(sets: &[FlowSet]) -> usize {
        let entries = sets.iter().flat_map(FlowSet::entries);
        entries.filter(|entry| entry.snapshot().is_some()).count()
    }

    #[test]
    fn few_flows_lie_in_the_core() {
        let (sets, settings) = (empty(), settings(CORE_FIRST));
        let table = Table::new(&sets, &settings);
        assert!((0..2).all(|number| open(&table, number) && is_there(&table, number)));
        assert_eq!((used(&sets.0[..CORE]), used(&sets.0[CORE..])), (4, 0));
    }

    /// Flows that the core took, flows that it could not take, and flows that came after.
    #[test]
    fn no_flow_is_lost_when_the_table_is_spread() {
        let sets = empty();
        let first = settings(CORE_FIRST);
        let table = Table::new(&sets, &first);
        let before: Vec<u16> = (0..20).filter(|number| open(&table, *number)).collect();
        let (inside, outside) = (used(&sets.0[..CORE]), used(&sets.0[CORE..]));
        assert!(inside > 4 && outside > 4, "{inside} and {outside}");
        assert!(before.iter().all(|number| is_there(&table, *number)));

        let spread = settings(CORE_SPREAD);
        let table = Table::new(&sets, &spread);
        assert!(before.iter().all(|number| is_there(&table, *number)));
        let after: Vec<u16> = (100..140).filter(|number| open(&table, *number)).collect();
        assert!(after.len() > 30, "{}", after.len());
        let all = before.iter().chain(&after);
        assert!(all.clone().all(|number| is_there(&table, *number)));

        for number in all {
            table.remove(&key(*number));
            table.remove(&key(*number).reversed());
            assert!(table.find(&key(*number)).is_none());
        }
        assert_eq!(used(&sets.0), 0);
    }

    #[test]
    fn a_core_is_crowded_when_five_eighths_are_taken() {
        let sets = empty();
        let (core, rest) = sets.0.split_at(CORE);
        let take = |entry: &FlowEntry| entry.word.store(LIVE);
        rest.iter().flat_map(FlowSet::entries).for_each(take);
        core.iter()
            .flat_map(FlowSet::entries)
            .take(10)
            .for_each(take);
        assert!(!core_is_crowded(&sets.0));
        core.iter()
            .flat_map(FlowSet::entries)
            .take(11)
            .for_each(take);
        assert!(core_is_crowded(&sets.0));
    }

    #[test]
    fn only_a_large_table_has_a_core() {
        assert_eq!(initial_core(1 << 13), CORE_NONE);
        assert_eq!(initial_core(1 << 20), CORE_FIRST);
    }
}
