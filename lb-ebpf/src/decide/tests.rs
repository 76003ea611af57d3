//! Properties that hold for any traffic, beside the fixtures' examples.

use super::{Ingress, decide_fully};
use crate::family::{V4, V6};
use crate::fixtures::{HostTables, INGRESS, Reading, Segment, Traffic, VIP, checks};
use crate::flow::{FlowEntry, FlowSet};
use crate::rewrite::Mode;
use crate::tcp::{Direction, Flags};
use crate::verdict::{Reason, Verdict};
use std::collections::HashMap;
use std::vec::Vec;

const PACKETS: u32 = 20_000;

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

#[test]
fn what_is_forwarded_is_as_sound_as_it_was_and_the_rest_is_untouched() {
    let mut seen = HashMap::new();
    run(1, |before, after, verdict| {
        checks::packet(before, after, verdict);
        if let Some(reading) = Reading::of(after) {
            let what = (verdict.reason(), reading.version, reading.protocol);
            *seen.entry(what).or_insert(0) += 1;
        }
    });
    // What each version and protocol leaves as: NAT and direct server return, IPIP, GUE among the datagrams.
    let forwarded = [(4, 6), (4, 17), (4, 4), (6, 6), (6, 17), (6, 41)];
    let kinds = forwarded.map(|(version, protocol)| (Reason::Forwarded, version, protocol));
    let answers = [(Reason::TooBig, 4, 1), (Reason::TooBig, 6, 58)];
    for kind in kinds.into_iter().chain(answers) {
        let count = seen.get(&kind).copied().unwrap_or(0);
        assert!(count > 10, "{count} of {kind:?}: the traffic tests nothing");
    }
}

/// The invariant that keeps users apart: a tuple towards a server leads back to one client. And a displaced, reopened or
/// refused flow takes its other direction with it.
#[test]
fn no_two_flows_share_a_tuple_and_entries_come_in_pairs() {
    let tables = run(2, |_, _, _| {});
    let flows: Vec<_> = checks::flows::<V4>(tables.flows())
        .into_iter()
        .flatten()
        .collect();
    let flows6: Vec<_> = checks::flows::<V6>(tables.flows6())
        .into_iter()
        .flatten()
        .collect();
    assert!(flows.len() > 400, "{} of 512 entries", flows.len());
    assert!(flows6.len() > 200, "{} of 256 entries", flows6.len());
    for mode in [Mode::Nat, Mode::Dsr, Mode::Ipip, Mode::Gue] {
        assert!(flows.iter().any(|flow| flow.mode == mode), "{mode:?}");
        assert!(flows6.iter().any(|flow| flow.mode == mode), "{mode:?}");
    }
}

/// Affinity: one server for each client address, whatever its ports.
#[test]
fn a_client_keeps_its_server() {
    let mut servers = HashMap::new();
    run(7, |_, after, verdict| {
        let Some(reading) = Reading::of(after) else {
            return;
        };
        // Of IPIP the inner packet's destination tells the service, its source the client.
        if verdict.reason() != Reason::Forwarded || reading.protocol != 4 {
            return;
        }
        let inner = reading.segment();
        if inner[22..24] == 465_u16.to_be_bytes() {
            let (_, server) = reading.source_and_destination();
            let ports = servers
                .entry((inner[12..16].to_vec(), server.to_vec()))
                .or_insert_with(Vec::new);
            ports.push([inner[20], inner[21]]);
        }
    });
    let clients: std::collections::HashSet<_> = servers.keys().map(|(client, _)| client).collect();
    assert_eq!(clients.len(), servers.len(), "a client has two servers");
    let several = servers.values().filter(|ports| {
        let first = ports.first();
        ports.iter().any(|port| Some(port) != first)
    });
    assert!(several.count() > 10, "clients with two ports");
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

#[test]
fn counters_add_up() {
    let (mut packets, mut bytes, mut forwarded) = (0_u64, 0_u64, 0_u64);
    let tables = run(4, |before, _, verdict| {
        // Refused and forwarded alike: they matched a service or a flow of it.
        let matched = matches!(verdict, Verdict::Worker { .. })
            || matches!(
                verdict.reason(),
                Reason::Forwarded
                    | Reason::NoFlow
                    | Reason::SnatExhausted
                    | Reason::StackService
                    | Reason::TableFull
                    | Reason::TooBig
                    | Reason::TupleInUse
            );
        if matched {
            packets += 1;
            bytes += before.len() as u64;
        }
        // What is too big for its tunnel is found out after it was counted.
        let counts = matches!(verdict.reason(), Reason::Forwarded | Reason::TooBig);
        forwarded += u64::from(counts);
    });
    let all: Vec<_> = (0..=u8::MAX)
        .map(|service| tables.service_counters(service))
        .filter(|counters| counters.packets > 0)
        .collect();
    assert_eq!(all.len(), 10, "services");
    assert_eq!(packets, all.iter().map(|one| one.packets).sum());
    assert_eq!(bytes, all.iter().map(|one| one.bytes).sum());
    assert_eq!(forwarded, all.iter().map(|one| one.forwarded).sum());
    assert!(all.iter().filter(|one| one.flows > 0).count() == 8);
}

#[test]
fn a_released_entry_is_free_and_a_stale_version_releases_nothing() {
    let tables = run(5, |_, _, _| {});
    let (entry, old) = tables
        .flows()
        .iter()
        .flat_map(FlowSet::entries)
        .find_map(|entry: &FlowEntry| Some((entry, entry.snapshot()?)))
        .expect("there are flows");
    assert!(old.packets > 0 || old.direction == Direction::Reverse || !old.mode.is_two_way());
    assert!(entry.release(old.version));
    assert_eq!(entry.snapshot(), None);
    assert!(!entry.release(old.version));
}
