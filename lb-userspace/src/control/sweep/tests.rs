//! Flows inserted as the program does it, swept at chosen ticks.

use lb_ebpf::abi::{ABI_VERSION, Settings};
use lb_ebpf::flow::{FlowEntry, FlowSet, Key, Table, Value};
use lb_ebpf::rewrite::{Macs, Rewrite};
use lb_ebpf::tcp::{Direction, Flags};

use super::{CLOSED, ESTABLISHED, HALF_OPEN, PARTS, View, sweep};

const CLIENT: Key = Key {
    addresses: 0x0101_0101_0202_0202,
    ports: 0x0050_8000,
    protocol: 6,
};
const SERVER: Key = Key {
    addresses: 0x0303_0303_0404_0404,
    ports: 0x0051_9000,
    protocol: 6,
};

fn settings(tick: u32) -> Settings {
    let hash_key = [1, 3, 5, 7, 11, 13, 17, 19].map(|x: u64| x.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    Settings {
        abi_version: ABI_VERSION,
        tick,
        hash_key,
        flow_set_mask: 63,
        ..Settings::default()
    }
}

fn value(direction: Direction, to: Key) -> Value {
    let macs = Macs::new([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    Value {
        rewrite: Rewrite {
            addresses: to.addresses,
            ports: to.ports,
            macs,
            ifindex: 3,
        },
        direction,
        seen: Flags::SYN,
        service: 0,
        backend: 0,
    }
}

/// One flow at tick 0; `forward` and `reverse` are flags of later packets and the tick they came at.
fn table(forward: &[(Flags, u32)], reverse: &[(Flags, u32)]) -> Vec<FlowSet> {
    let sets: Vec<_> = (0..64).map(|_| FlowSet::default()).collect();
    let view = View(&sets);
    let start = settings(0);
    let table = Table {
        sets: &view,
        settings: &start,
    };
    let answer = SERVER.reversed();
    let (to, back) = (
        value(Direction::Forward, SERVER),
        value(Direction::Reverse, CLIENT.reversed()),
    );
    table
        .insert(CLIENT, &to, answer, &back)
        .expect("an empty table has room");
    for (key, peer, packets) in [(CLIENT, answer, forward), (answer, CLIENT, reverse)] {
        let entry = table.find_cold(&key).expect("inserted");
        for &(flags, tick) in packets {
            entry.count(60, tick);
            table
                .find_cold(&peer)
                .expect("inserted")
                .tell(entry.track(flags));
        }
    }
    sets
}

fn sweep_all(sets: &[FlowSet], tick: u32) -> usize {
    (0..PARTS)
        .map(|round| sweep(sets, &settings(tick), round))
        .sum()
}

fn live(sets: &[FlowSet]) -> usize {
    sets.iter()
        .flat_map(FlowSet::entries)
        .filter_map(FlowEntry::snapshot)
        .count()
}

#[track_caller]
fn check(sets: &[FlowSet], kept_until: u32) {
    assert_eq!(sweep_all(sets, kept_until), 0);
    assert_eq!(live(sets), 2);
    assert_eq!(sweep_all(sets, kept_until + 1), 1);
    assert_eq!(live(sets), 0, "both directions end together");
}

#[test]
fn a_handshake_that_came_to_nothing_ends() {
    check(&table(&[], &[]), HALF_OPEN);
}

#[test]
fn an_established_flow_ends_when_idle_in_both_directions() {
    check(&table(&[(Flags::ACK, 10)], &[]), 10 + ESTABLISHED);
    check(
        &table(&[(Flags::ACK, 10)], &[(Flags::ACK, 700)]),
        700 + ESTABLISHED,
    );
}

#[test]
fn a_closed_flow_gives_its_port_back() {
    check(&table(&[(Flags::ACK, 5), (Flags::RST, 6)], &[]), 6 + CLOSED);
    check(
        &table(&[(Flags::ACK, 5), (Flags::FIN, 6)], &[(Flags::FIN, 7)]),
        7 + CLOSED,
    );
}
