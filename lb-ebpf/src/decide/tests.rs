//! Properties that hold for any traffic, beside the fixtures' examples.

use super::{Ingress, decide_fully};
use crate::checksum;
use crate::fixtures::{HostTables, INGRESS, Segment, Traffic, VIP};
use crate::flow::{FlowEntry, FlowSet, FlowSnapshot};
use crate::tcp::{Direction, Flags};
use crate::verdict::{Reason, Verdict};
use crate::wire::{PROTOCOL_ICMP, PROTOCOL_UDP};
use std::collections::{HashMap, HashSet};
use std::vec::Vec;

const PACKETS: u32 = 20_000;

fn snapshots(tables: &HostTables) -> Vec<FlowSnapshot> {
    tables
        .flows()
        .iter()
        .flat_map(FlowSet::entries)
        .filter_map(FlowEntry::snapshot)
        .collect()
}

/// Runs random traffic, with `each` looking at every packet before and after.
fn run(seed: u64, mut each: impl FnMut(&[u8], &[u8], Verdict)) -> HostTables {
    let mut traffic = Traffic::new(seed);
    let tables = HostTables::new(&traffic.world());
    for number in 0..PACKETS {
        let before = traffic.packet();
        let mut after = before.clone();
        let cpu = number % 2;
        let verdict = decide_fully(&mut after, &tables, Ingress { cpu, ..INGRESS });
        each(&before, &after, verdict);
        if verdict.reason() == Reason::Forwarded {
            traffic.deliver(&after);
        }
    }
    tables
}

/// Whether the checksums of a frame that was built whole are right.
fn is_sound(frame: &[u8]) -> bool {
    if checksum::of(&frame[14..34]) != [0, 0] {
        return false;
    }
    if is_error(frame) {
        let end = 14 + usize::from(u16::from_be_bytes([frame[16], frame[17]]));
        return checksum::of(&frame[34..end]) == [0, 0];
    }
    if is_udp(frame) && frame[40..42] == [0, 0] {
        return true;
    }
    let length = u16::from_be_bytes([frame[16], frame[17]]);
    let mut covered = frame[26..34].to_vec();
    covered.extend([0, frame[23]]);
    covered.extend((length - 20).to_be_bytes());
    covered.extend(&frame[34..14 + usize::from(length)]);
    checksum::of(&covered) == [0, 0]
}

fn is_udp(frame: &[u8]) -> bool {
    frame[23] == PROTOCOL_UDP
}

fn is_error(frame: &[u8]) -> bool {
    frame[23] == PROTOCOL_ICMP
}

#[test]
fn what_is_forwarded_is_as_sound_as_it_was_and_the_rest_is_untouched() {
    let (mut forwarded, mut datagrams, mut errors) = (0, 0, 0);
    run(1, |before, after, verdict| {
        if verdict.reason() == Reason::Forwarded {
            forwarded += 1;
            assert_eq!(is_sound(before), is_sound(after));
            if is_error(before) {
                errors += 1;
                assert_eq!(before[46..52], after[46..52], "lengths and marks");
                assert_eq!(before.len(), after.len());
                return;
            }
            if is_udp(before) {
                datagrams += 1;
                assert_eq!(before[38..40], after[38..40], "length");
                assert_eq!(before[42..], after[42..], "payload");
                return;
            }
            assert_eq!(
                before[38..47],
                after[38..47],
                "sequence numbers and lengths"
            );
            assert_eq!(before[54..], after[54..], "payload");
        } else if !matches!(verdict, Verdict::Answer(_)) {
            assert_eq!(before, after);
        }
    });
    assert!(
        forwarded > PACKETS / 4,
        "{forwarded} packets forwarded: the traffic tests nothing"
    );
    assert!(
        datagrams > PACKETS / 20,
        "{datagrams} datagrams forwarded: the traffic tests nothing"
    );
    assert!(
        errors > PACKETS / 100,
        "{errors} errors forwarded: the traffic tests nothing"
    );
}

/// The invariant that keeps users apart: a tuple towards a server leads back to one client.
#[test]
fn no_two_flows_share_a_tuple() {
    let tables = run(2, |_, _, _| {});
    let flows = snapshots(&tables);
    assert!(
        flows.len() > 300,
        "{} entries: the table is not under pressure",
        flows.len()
    );
    let keys: HashSet<_> = flows.iter().map(|flow| flow.key).collect();
    assert_eq!(keys.len(), flows.len(), "a key has two entries");
    let mut owners = HashMap::new();
    for flow in flows
        .iter()
        .filter(|flow| flow.direction == Direction::Forward)
    {
        assert_eq!(owners.insert(flow.rewritten, flow.key), None);
    }
}

/// Two CPUs that open a connection in the same instant cannot take the same port.
#[test]
fn cpus_have_ports_of_their_own() {
    let mut traffic = Traffic::new(6);
    let mut world = traffic.world();
    world.settings.snat_partition_bits = 2;
    let first = world.settings.snat_port_first;
    let tables = HostTables::new(&world);
    for cpu in 0..6_u16 {
        for client in 0..10 {
            let mut packet = Segment {
                macs: ([2; 6], [4; 6]),
                source: ([10, 203, 4, client], 50_000 + cpu),
                destination: VIP,
                flags: Flags::SYN,
                ttl: 64,
                payload: Vec::new(),
            }
            .bytes();
            let verdict = decide_fully(
                &mut packet,
                &tables,
                Ingress {
                    cpu: cpu.into(),
                    ..INGRESS
                },
            );
            assert_eq!(verdict.reason(), Reason::Forwarded);
            let port = u16::from_be_bytes([packet[34], packet[35]]);
            assert_eq!((port - first) % 4, cpu % 4);
        }
    }
}

/// A displaced, reopened or refused flow takes its other direction with it.
#[test]
fn entries_come_in_pairs() {
    let flows = snapshots(&run(3, |_, _, _| {}));
    let by_key: HashMap<_, _> = flows.iter().map(|flow| (flow.key, flow)).collect();
    for flow in &flows {
        let peer = by_key[&flow.rewritten.reversed()];
        assert_eq!(peer.rewritten.reversed(), flow.key);
        assert_ne!(peer.direction, flow.direction);
        assert_eq!((peer.service, peer.backend), (flow.service, flow.backend));
        assert_eq!(peer.state, flow.state, "{flow:?} {peer:?}");
    }
}

#[test]
fn counters_add_up() {
    let (mut packets, mut bytes) = (0, 0);
    let tables = run(4, |before, _, verdict| {
        // Refused and forwarded alike: they matched the service or a flow of it.
        if matches!(
            verdict.reason(),
            Reason::Forwarded | Reason::NoFlow | Reason::SnatExhausted | Reason::TableFull
        ) {
            packets += 1;
            bytes += before.len() as u64;
        }
    });
    let counters = tables.service_counters(3);
    assert_eq!((counters.packets, counters.bytes), (packets, bytes));
    assert!(counters.flows > 0);
}

#[test]
fn a_released_entry_is_free_and_a_stale_version_releases_nothing() {
    let tables = run(5, |_, _, _| {});
    let (entry, old) = tables
        .flows()
        .iter()
        .flat_map(FlowSet::entries)
        .find_map(|entry| Some((entry, entry.snapshot()?)))
        .expect("there are flows");
    assert!(old.packets > 0 || old.direction == Direction::Reverse);
    assert!(entry.release(old.version));
    assert_eq!(entry.snapshot(), None);
    assert!(!entry.release(old.version));
}
