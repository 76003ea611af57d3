//! Properties that hold for any traffic, beside the fixtures' examples.

use super::{Ingress, decide_fully};
use crate::abi::ServiceCounters;
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
    // What each version and protocol leaves as: NAT and direct server return, IPIP, GUE among the datagrams; and errors.
    let forwarded =
        [(4, 6), (4, 17), (4, 4), (4, 1)]
            .into_iter()
            .chain([(6, 6), (6, 17), (6, 41), (6, 58)]);
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
        if verdict.reason() != Reason::Forwarded || reading.protocol != 4 {
            return;
        }
        // Of IPIP the inner packet's destination tells the service, its source the client.
        let carried = [&after[..14], reading.segment()].concat();
        let Some(inner) = Reading::of(&carried).filter(Reading::has_ports) else {
            return;
        };
        let ports = inner.segment();
        if ports[2..4] == 465_u16.to_be_bytes() {
            let (_, server) = reading.source_and_destination();
            let (client, _) = inner.source_and_destination();
            let of_pair = (client.to_vec(), server.to_vec());
            let used = servers.entry(of_pair).or_insert_with(Vec::new);
            used.push([ports[0], ports[1]]);
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

/// Of all services together.
fn counted(tables: &HostTables) -> ServiceCounters {
    let services = (0..16).map(|service| tables.service_counters(service));
    services.fold(ServiceCounters::default(), |sum, one| ServiceCounters {
        packets: sum.packets + one.packets,
        bytes: sum.bytes + one.bytes,
        flows: sum.flows + one.flows,
        forwarded: sum.forwarded + one.forwarded,
    })
}

/// A packet counts once, with all its bytes, or not at all; if it is forwarded, as that, and as a flow if it opens one.
#[test]
fn counters_add_up() {
    let mut traffic = Traffic::new(4);
    let tables = HostTables::new(&traffic.world());
    let mut refused = 0;
    for _ in 0..PACKETS {
        let packet = traffic.packet();
        let mut bytes = packet.clone();
        let before = counted(&tables);
        let verdict = decide_fully(&mut bytes, &tables, INGRESS);
        let after = counted(&tables);
        let packets = after.packets - before.packets;
        let forwarded = after.forwarded - before.forwarded;
        let place = (verdict, &packet);
        assert_eq!(
            after.bytes - before.bytes,
            packets * packet.len() as u64,
            "{place:02x?}"
        );
        assert!(packets <= 1 && forwarded <= packets, "{place:02x?}");
        assert!(after.flows - before.flows <= forwarded, "{place:02x?}");
        match verdict.reason() {
            Reason::Forwarded => {
                traffic.deliver(&bytes);
                assert_eq!(forwarded, 1, "{place:02x?}");
            }
            // Found out after it was counted.
            Reason::TooBig | Reason::GueChecksum => {}
            Reason::NotOurs | Reason::NoService | Reason::Udp | Reason::Malformed => {
                assert_eq!(packets, 0, "{place:02x?}");
            }
            _ => {
                refused += packets;
                assert_eq!(forwarded, 0, "{place:02x?}");
            }
        }
    }
    assert!(refused > 1000, "{refused} packets of services were refused");
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
