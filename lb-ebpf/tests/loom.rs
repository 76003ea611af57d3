//! The protocol of flow entries under every order of events that the memory model allows, up to a few preemptions.
//!
//! `tests/prog_run/sharing.rs` shows what two CPUs of this machine do, `flow/tests.rs` what its threads do; both are x86-64,
//! whose order is stronger than what the code asks for. Here weaker ones are tried as well. Runs with `--cfg loom` only
//! (`cargo xtask test loom`).
#![cfg(loom)]

use lb_ebpf::abi::Settings;
use lb_ebpf::family::V4;
use lb_ebpf::flow::{FlowSet, Key, Sets, Table, Value};
use lb_ebpf::rewrite::{Macs, Mode, Rewrite};
use lb_ebpf::tcp::{Direction, Flags};
use loom::sync::Arc;
use loom::thread;

struct OneSet(FlowSet);

impl Sets for OneSet {
    fn flow_set(&self, _: u32) -> Option<&FlowSet> {
        Some(&self.0)
    }
}

fn key(number: u16) -> Key<V4> {
    Key::new(([10, 203, 1, 10], number), ([10, 203, 1, 100], 25), 6)
}

/// Each field of which tells whose it is.
fn value(number: u16) -> Value {
    let (word, long) = (u32::from(number), u64::from(number));
    Value {
        rewrite: Rewrite {
            mode: Mode::Dsr,
            addresses: long << 32 | long,
            ports: word,
            macs: Macs {
                head: long,
                tail: word,
            },
            link: word,
        },
        direction: Direction::Forward,
        seen: Flags::SYN,
        service: 0,
        backend: number,
    }
}

/// Runs `one` and `other` on threads of their own, in all orders; then looks at what is left.
fn model(
    start: fn(&Table<'_, OneSet>),
    one: fn(&Table<'_, OneSet>),
    other: fn(&Table<'_, OneSet>),
    end: fn(&Table<'_, OneSet>),
) {
    loom::model(move || {
        let sets = Arc::new(OneSet(FlowSet::default()));
        let settings = Settings::default();
        start(&Table::new(&*sets, &settings));
        let theirs = Arc::clone(&sets);
        let thread = thread::spawn(move || {
            let settings = Settings::default();
            one(&Table::new(&*theirs, &settings));
        });
        other(&Table::new(&*sets, &settings));
        thread.join().unwrap();
        end(&Table::new(&*sets, &settings));
    });
}

fn insert(table: &Table<'_, OneSet>, number: u16) {
    assert!(table.insert_one_way(&key(number), &value(number)).is_ok());
}

/// Whoever finds a flow finds its rewrite and no other.
fn look(table: &Table<'_, OneSet>, number: u16) -> bool {
    let rewrite = table.find(&key(number)).and_then(|found| found.rewrite());
    if let Some(rewrite) = rewrite {
        assert_eq!(rewrite, value(number).rewrite);
    }
    rewrite.is_some()
}

/// An entry changes hands while it is read.
#[test]
fn a_reader_sees_all_of_an_entry_or_none() {
    model(
        |table| insert(table, 1),
        |table| {
            table.remove(&key(1));
            insert(table, 2);
        },
        |table| {
            look(table, 1);
            look(table, 2);
        },
        |table| assert!(!look(table, 1) && look(table, 2)),
    );
}

/// The same flow comes back to the same entry with another server: the word differs by its generation alone.
#[test]
fn a_flow_reopened_in_its_place_is_another() {
    model(
        |table| insert(table, 1),
        |table| {
            table.remove(&key(1));
            assert!(table.insert_one_way(&key(1), &value(2)).is_ok());
        },
        |table| {
            let found = table.find(&key(1));
            if let Some(rewrite) = found.and_then(|found| found.rewrite()) {
                assert!(
                    [1, 2]
                        .map(|number| value(number).rewrite)
                        .contains(&rewrite)
                );
            }
        },
        |_| {},
    );
}

/// As userspace reads it.
#[test]
fn a_snapshot_is_of_one_flow() {
    model(
        |table| insert(table, 1),
        |table| {
            table.remove(&key(1));
            insert(table, 2);
        },
        |table| {
            let entry = &table.sets.0.entries()[0];
            if let Some(flow) = entry.snapshot() {
                let (_, number) = flow.key.source();
                let expected = value(number);
                assert_eq!(flow.rewritten.addresses, expected.rewrite.addresses);
                assert_eq!(flow.rewritten.ports, expected.rewrite.ports);
                assert_eq!(flow.link, expected.rewrite.link);
                assert_eq!(flow.backend, number);
            }
        },
        |_| {},
    );
}

/// Two CPUs that want the same entry get one each.
#[test]
fn two_writers_take_two_entries() {
    model(
        |_| {},
        |table| insert(table, 1),
        |table| insert(table, 2),
        |table| assert!(look(table, 1) && look(table, 2)),
    );
}

/// Two CPUs that have found the same entries free: one gets both, and of the other nothing is left.
#[test]
fn two_writers_do_not_share_what_both_found_free() {
    fn fill(table: &Table<'_, OneSet>, number: u16) {
        let (forward, reverse) = (key(number), key(number + 2));
        let value = value(number);
        if let Some(free) = table.vacancies(&forward, &reverse) {
            table.fill(free, (&forward, &value), (&reverse, &value));
        }
    }
    model(
        |_| {},
        |table| fill(table, 1),
        |table| fill(table, 2),
        |table| {
            for number in [1, 2] {
                let both = [number, number + 2].map(|number| table.find(&key(number)).is_some());
                assert_eq!(both[0], both[1]);
            }
        },
    );
}

/// A sweep that comes late, with the version of a flow that is gone, takes nothing.
#[test]
fn a_flow_is_given_up_once() {
    model(
        |table| insert(table, 1),
        |table| {
            table.remove(&key(1));
            insert(table, 2);
        },
        |table| {
            let entry = &table.sets.0.entries()[0];
            let one = entry.snapshot().filter(|flow| flow.key == key(1));
            if let Some(flow) = one {
                entry.release(flow.version);
            }
        },
        |table| assert!(look(table, 2)),
    );
}
