//! The table by itself: hashing, reversal, and what two CPUs may see of each other.

use super::{
    BUSY, DISPLACE_AFTER, Direction, Fate, FlowEntry, FlowSet, Key, LIVE, REVERSE, Sets, Table,
    Timeouts, Value, prefilter_bit,
};
use crate::abi::{PREFILTER_WORDS, Settings};
use crate::family::V4;
use crate::rewrite::{Macs, Mode, Rewrite};
use crate::tcp::{Flags, State};
use crate::wire::{PROTOCOL_TCP, PROTOCOL_UDP};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::thread;
use std::vec::Vec;

pub(super) struct Slice(pub(super) Vec<FlowSet>);

impl Sets for Slice {
    fn flow_set(&self, index: u32) -> Option<&FlowSet> {
        self.0.get(index as usize)
    }
}

pub(super) fn key(number: u16) -> Key {
    let client = ([10, 203, 1, 10], number);
    Key::new(client, ([10, 203, 1, 100], 25), 6)
}

/// A value of which each field tells whose it is.
pub(super) fn value(number: u16, direction: Direction) -> Value {
    let (word, long) = (u32::from(number), u64::from(number));
    Value {
        rewrite: Rewrite {
            mode: Mode::Nat,
            addresses: long << 32 | long,
            ports: word,
            macs: Macs {
                head: long,
                tail: word,
            },
            link: word,
        },
        direction,
        seen: Flags::SYN,
        service: 0,
        backend: number,
    }
}

#[test]
fn a_key_reversed_twice_is_itself() {
    let key: Key = Key::new(([1, 2, 3, 4], 5), ([6, 7, 8, 9], 10), 6);
    assert_eq!(key.source(), ([1, 2, 3, 4], 5));
    assert_eq!(key.destination(), ([6, 7, 8, 9], 10));
    assert_eq!(
        key.reversed(),
        Key::new(([6, 7, 8, 9], 10), ([1, 2, 3, 4], 5), 6)
    );
    assert_eq!(key.reversed().reversed(), key);
}

#[test]
fn prefilter_bits_are_inside_and_spread() {
    let mut words = [0; PREFILTER_WORDS as usize];
    let addresses = (0..=255).flat_map(|third| [10, 11].map(|last| [10, 203, third, last]));
    for address in addresses {
        let (word, bit) = prefilter_bit(address);
        words[word as usize] |= bit;
    }
    let bits: u32 = words.iter().map(|word: &u32| word.count_ones()).sum();
    assert!(bits > 500, "512 addresses share {bits} bits");
}

#[test]
fn a_snapshot_says_what_was_inserted_and_counted() {
    let sets = Slice(Vec::from([FlowSet::default()]));
    let settings = Settings {
        tick: 7,
        ..Settings::default()
    };
    let table = Table::new(&sets, &settings);
    let (to, back) = (value(1, Direction::Forward), value(2, Direction::Reverse));
    assert_eq!(table.insert(&key(1), &to, &key(2), &back), Ok(()));
    let entry = table
        .find(&key(1))
        .map(|found| found.entry)
        .expect("inserted");
    entry.count(100, 8);
    entry.count(50, 9);
    let snapshot = entry.snapshot().expect("live");
    assert_eq!(snapshot.key, key(1));
    assert_eq!(snapshot.rewritten.addresses, to.rewrite.addresses);
    assert_eq!(
        (snapshot.packets, snapshot.bytes, snapshot.last_tick),
        (2, 150, 9)
    );
    assert_eq!((snapshot.backend, snapshot.link), (1, 1));
    assert_eq!(
        (snapshot.direction, snapshot.state),
        (Direction::Forward, State::HalfOpen)
    );
    table.remove(&key(1));
    assert!(table.find(&key(1)).is_none() && table.find(&key(2)).is_some());
}

/// What makes a reader notice that its entry was given up and taken again, even by the same flow.
#[test]
fn the_same_flow_in_the_same_place_has_another_version() {
    let sets = Slice(Vec::from([FlowSet::default()]));
    let settings = Settings::default();
    let table = Table::new(&sets, &settings);
    let (to, back) = (value(1, Direction::Forward), value(2, Direction::Reverse));
    let open = || {
        assert_eq!(table.insert(&key(1), &to, &key(2), &back), Ok(()));
        let entry = table.find_cold(&key(1)).expect("inserted");
        (entry, entry.snapshot().expect("live").version)
    };
    let (old_entry, old) = open();
    table.remove(&key(1));
    table.remove(&key(2));
    let (entry, new) = open();
    assert!(core::ptr::eq(old_entry, entry));
    assert_ne!(old, new);
    assert!(!entry.release(old), "a sweep that comes late takes nothing");
    assert!(entry.release(new));
}

/// A packet that has found its entry, and reads what to do after another flow has taken the entry.
#[test]
fn what_was_found_is_no_longer_there_when_another_flow_has_its_entry() {
    let sets = Slice(Vec::from([FlowSet::default()]));
    let settings = Settings::default();
    let table = Table::new(&sets, &settings);
    let to = value(1, Direction::Forward);
    assert_eq!(table.insert_one_way(&key(1), &to), Ok(()));
    let found = table.find(&key(1)).expect("inserted");
    assert_eq!(found.rewrite(), Some(to.rewrite));
    found.entry.fill(&key(3), &value(3, Direction::Forward), 0);
    found
        .entry
        .word
        .store(super::next(found.entry.word.load()) | key(3).word());
    assert_eq!(found.rewrite(), None);
}

/// Both directions go together, and not before both are idle.
#[test]
fn sweeping() {
    let timeouts = Timeouts::default();
    let check = |protocol: u8, flags: Flags, quiet: u32, reverse_quiet: u32, freed: u32| {
        let sets = Slice(Vec::from([FlowSet::default(), FlowSet::default()]));
        let settings = Settings {
            tick: 10_000,
            ..Settings::default()
        };
        let table = Table::new(&sets, &settings);
        let there = Key::new(
            ([10, 203, 2, 100], 40_000),
            ([10, 203, 2, 11], 25),
            protocol,
        );
        let client = Key { protocol, ..key(1) };
        let mut to = value(1, Direction::Forward);
        (to.rewrite.addresses, to.rewrite.ports) = (there.addresses, there.ports);
        let mut back = value(2, Direction::Reverse);
        let answer = client.reversed();
        (back.rewrite.addresses, back.rewrite.ports) = (answer.addresses, answer.ports);
        assert_eq!(table.insert(&client, &to, &there.reversed(), &back), Ok(()));
        for (key, quiet) in [(client, quiet), (there.reversed(), reverse_quiet)] {
            let entry = table.find_cold(&key).expect("inserted");
            entry.count(60, settings.tick - quiet);
            entry.track(flags);
            entry.tell(flags);
        }
        let swept: u32 = sets
            .0
            .iter()
            .map(|set| table.sweep(set, |_| Fate::Age(&timeouts)))
            .sum();
        assert_eq!(swept, freed, "{protocol} {flags:?} {quiet} {reverse_quiet}");
        let live = sets.0.iter().flat_map(FlowSet::entries);
        let live = live.filter(|entry| entry.snapshot().is_some()).count();
        assert_eq!(live, 2 - freed as usize);
    };
    check(PROTOCOL_TCP, Flags::SYN, 240, 240, 0);
    check(PROTOCOL_TCP, Flags::SYN, 241, 241, 2);
    check(PROTOCOL_TCP, Flags::SYN, 241, 5, 0);
    check(PROTOCOL_TCP, Flags::SYN, 5, 241, 0);
    check(PROTOCOL_TCP, Flags::ACK, 7440, 9000, 0);
    check(PROTOCOL_TCP, Flags::ACK, 7441, 9000, 2);
    check(PROTOCOL_TCP, Flags::ACK | Flags::FIN, 241, 241, 2);
    check(PROTOCOL_TCP, Flags::RST, 241, 241, 2);
    check(PROTOCOL_TCP, Flags::RST, 10, 10, 0);
    for flags in [Flags::default(), Flags::DATAGRAM] {
        check(PROTOCOL_UDP, flags, 300, 9000, 0);
        check(PROTOCOL_UDP, flags, 301, 301, 2);
    }
}

/// What gives way is told without branches; it must be what the states say.
#[test]
fn ranks_follow_from_states() {
    let entry = FlowEntry::<V4>::default();
    let words = [LIVE, LIVE | REVERSE];
    for (word, seen, told) in words
        .into_iter()
        .flat_map(|word| (0..32).map(move |seen| (word, seen)))
        .flat_map(|(word, seen)| (0..32).map(move |told| (word, seen, told)))
    {
        for quiet in [0, DISPLACE_AFTER, DISPLACE_AFTER + 1] {
            entry.word.store(word);
            entry.seen.store(seen);
            entry.told.store(told);
            entry.tick.store(10_000 - quiet);
            let expected = match entry.state() {
                State::Closed => 3,
                State::HalfOpen => 2,
                State::Established | State::Closing => u64::from(quiet > DISPLACE_AFTER),
            };
            let place = (word, seen, told, quiet);
            assert_eq!(entry.expendable(word, 10_000), expected, "{place:?}");
            assert_eq!(entry.expendable(word | BUSY, 10_000), 0, "{place:?}");
            // A packet newer than this one's clock.
            assert!(entry.expendable(word, 9000) != 1, "{place:?}");
        }
    }
}

/// An entry without another direction: swept by its own age alone, and nothing else with it.
#[test]
fn sweeping_one_way() {
    let timeouts = Timeouts::default();
    let sets = Slice(Vec::from([FlowSet::default()]));
    let settings = Settings {
        tick: 10_000,
        ..Settings::default()
    };
    let table = Table::new(&sets, &settings);
    let mut to = value(1, Direction::Forward);
    to.rewrite.mode = Mode::Dsr;
    // What would be its peer by its rewritten tuple is another client's flow.
    (to.rewrite.addresses, to.rewrite.ports) =
        (key(2).reversed().addresses, key(2).reversed().ports);
    let mut other = value(2, Direction::Forward);
    other.rewrite.mode = Mode::Dsr;
    for (number, value, quiet) in [(1, &to, 241), (2, &other, 10)] {
        assert_eq!(table.insert_one_way(&key(number), value), Ok(()));
        let entry = table.find_cold(&key(number)).expect("inserted");
        entry.count(60, settings.tick - quiet);
    }
    assert_eq!(table.sweep(&sets.0[0], |_| Fate::Age(&timeouts)), 1);
    assert!(table.find_cold(&key(1)).is_none());
    assert!(table.find_cold(&key(2)).is_some());
}

/// Opens and closes three flows in turn, so that one entry has many owners in a short time; until the reader, which may
/// not be on a CPU all the time, has seen some.
fn churn(table: &Table<'_, Slice>, offset: u16, hits: &AtomicU32) {
    // A reader that has failed sees none any more.
    let rounds = (0..60_000_u16).chain((0..3).cycle().take(50_000_000));
    for (done, round) in rounds.enumerate() {
        if done > 60_000 && hits.load(Relaxed) > 100 {
            return;
        }
        let number = offset + round % 3 * 2;
        let to = value(number, Direction::Forward);
        let back = value(number + 1, Direction::Reverse);
        if table
            .insert(&key(number), &to, &key(number + 1), &back)
            .is_ok()
        {
            table.remove(&key(number));
            table.remove(&key(number + 1));
        }
    }
}

/// Checks all that it sees of `numbers` until told to stop; counts how often it saw something.
fn watch(table: &Table<'_, Slice>, numbers: &[u16], done: &AtomicBool, hits: &AtomicU32) {
    let expected = |number| value(number, Direction::Forward).rewrite;
    while !done.load(Relaxed) {
        for number in numbers {
            if let Some(rewrite) = table.find(&key(*number)).and_then(|found| found.rewrite()) {
                assert_eq!(rewrite, expected(*number));
                hits.fetch_add(1, Relaxed);
            }
        }
        for entry in table.sets.0.iter().flat_map(FlowSet::entries) {
            if let Some(snapshot) = entry.snapshot() {
                let (_, number) = snapshot.key.source();
                assert_eq!(snapshot.rewritten.addresses, expected(number).addresses);
                assert_eq!(snapshot.backend, number);
            }
        }
    }
}

/// Writers fight for one set while a reader looks: it may never see a rewrite that is not its key's.
fn check_reader(offsets: &[u16]) {
    let sets = Slice(Vec::from([FlowSet::default()]));
    let settings = Settings::default();
    let table = Table::new(&sets, &settings);
    let numbers: Vec<_> = offsets.iter().flat_map(|first| *first..first + 6).collect();
    let (done, hits) = (AtomicBool::new(false), AtomicU32::new(0));
    thread::scope(|scope| {
        let reader = scope.spawn(|| watch(&table, &numbers, &done, &hits));
        let writers: Vec<_> = offsets
            .iter()
            .map(|offset| scope.spawn(|| churn(&table, *offset, &hits)))
            .collect();
        for writer in writers {
            writer.join().expect("writers do not fail");
        }
        done.store(true, Relaxed);
        reader.join().expect("the reader saw no mixture");
    });
    // Whoever lost a race has given its entry back.
    for entry in sets.0.iter().flat_map(FlowSet::entries) {
        assert_eq!(entry.word.load() & BUSY, 0);
    }
}

#[test]
fn a_reader_never_sees_half_an_entry() {
    check_reader(&[0]);
}

#[test]
fn two_writers_never_mix_their_entries() {
    check_reader(&[0, 100]);
}
