//! Snapshots as plans, as segments and as packets: what the kernel's rules ask for, without a kernel.

use std::io;
use std::time::Duration;

use lb_tcp::{Flags, FlowKey, Seq, Snapshot, wire};

use crate::plan::{Negotiated, Past, Plan, Windows};
use crate::reinject::packet;
use crate::{MoveError, Step, out_of_order};

/// A connection in the middle of everything.
fn snapshot() -> Snapshot {
    Snapshot {
        una: Seq(u32::MAX - 1),
        nxt: Seq(2),
        wnd: 64 << 10,
        max_wnd: 128 << 10,
        wl1: Seq(5000),
        wl2: Seq(u32::MAX - 1),
        send_queue: b"sent|unsent".to_vec(),
        mss: 1460,
        srtt: Some(Duration::from_millis(20)),
        rttvar: Duration::from_millis(5),
        cwnd: 14_480,
        ssthresh: None,
        rcv_nxt: Seq(5000),
        last_ack_sent: Seq(4000),
        rcv_edge: Seq(70_000),
        unread: b"unread".to_vec(),
        out_of_order: vec![(Seq(6000), vec![b'a'; 2000]), (Seq(9000), vec![b'b'; 10])],
        fin: Some(Seq(9010)),
        shifts: Some((7, 10)),
        sack: true,
        timestamps: Some((77, 123)),
        own_mss: 1460,
    }
}

fn plan(snapshot: &Snapshot) -> Result<Plan<'_>, MoveError> {
    Plan::new(snapshot, 1001)
}

#[test]
fn a_plan_says_all_that_the_peer_knows() {
    let expected = Plan {
        send_buffer: None,
        start: u32::MAX - 1,
        rcv_nxt: 5000,
        mss: 1460,
        negotiated: Negotiated {
            mss: 1460,
            shifts: (7, 10),
            sack: true,
            timestamps: true,
        },
        clock: Some(1002),
        windows: Windows {
            snd_wl1: 5000,
            snd_wnd: 64 << 10,
            max_window: 128 << 10,
            rcv_wnd: 66_000,
            rcv_wup: 4000,
        },
        past: Past::Untold,
        sent: b"sent",
        unsent: b"|unsent",
    };
    assert_eq!(plan(&snapshot()).unwrap(), expected);
}

#[test]
fn what_was_not_negotiated_is_said_or_left_out() {
    let snapshot = Snapshot {
        shifts: None,
        sack: false,
        timestamps: None,
        ..snapshot()
    };
    let plan = plan(&snapshot).unwrap();
    let expected = Negotiated {
        mss: 1460,
        shifts: (0, 0),
        sack: false,
        timestamps: false,
    };
    assert_eq!((plan.negotiated, plan.clock), (expected, None));
}

/// An odd value would ask for timestamps in microseconds, and none goes back.
#[test]
fn the_clock_is_rounded_up_to_even() {
    let snapshot = snapshot();
    for (clock, expected) in [(0, 0), (1, 2), (2, 2), (u32::MAX, 0)] {
        assert_eq!(Plan::new(&snapshot, clock).unwrap().clock, Some(expected));
    }
}

/// The conditions of `tcp_repair_set_window`, word by word.
fn check_kernel_takes(snapshot: &Snapshot) {
    let plan = plan(snapshot).unwrap();
    let Windows {
        snd_wl1,
        snd_wnd,
        max_window,
        rcv_wnd,
        rcv_wup,
    } = plan.windows;
    let nxt = Seq(plan.rcv_nxt);
    assert!(max_window >= snd_wnd, "{snapshot:?}");
    assert!(!Seq(snd_wl1).follows(nxt + rcv_wnd), "{snapshot:?}");
    assert!(!Seq(rcv_wup).follows(nxt), "{snapshot:?}");
    let edge = Seq(rcv_wup) + rcv_wnd;
    assert_eq!(edge, snapshot.rcv_edge, "the right edge does not move");
}

#[test]
fn the_kernel_takes_any_window_that_a_snapshot_can_have() {
    let at = |number: u32| Seq(number.wrapping_sub(10));
    for (wnd, max_wnd) in [(0, 0), (1 << 20, 1 << 20), (1 << 20, 1), (0, 1 << 30)] {
        for (last_ack, nxt, edge) in [(0, 0, 0), (0, 20, 20), (0, 9, 4 << 20), (30, 20, 40)] {
            for wl1 in [0, 9, edge, edge + 1, 1 << 31, u32::MAX - 20] {
                check_kernel_takes(&Snapshot {
                    wnd,
                    max_wnd,
                    wl1: at(wl1),
                    rcv_nxt: at(nxt),
                    last_ack_sent: at(last_ack),
                    rcv_edge: at(edge),
                    ..snapshot()
                });
            }
        }
    }
}

#[test]
fn a_snapshot_that_cannot_be_true_is_refused() {
    for snapshot in [
        Snapshot {
            nxt: snapshot().una + 12,
            ..snapshot()
        },
        Snapshot {
            nxt: snapshot().una - 1,
            ..snapshot()
        },
        Snapshot {
            rcv_edge: snapshot().rcv_nxt - 1,
            ..snapshot()
        },
        Snapshot {
            shifts: Some((15, 0)),
            ..snapshot()
        },
    ] {
        let error = plan(&snapshot).unwrap_err();
        assert_eq!(error.step, Step::Snapshot, "{snapshot:?}");
    }
}

#[test]
fn more_in_flight_than_a_new_socket_takes_asks_for_room() {
    let in_flight = |count: u32| Snapshot {
        nxt: snapshot().una + count,
        send_queue: vec![0; 300_000],
        ..snapshot()
    };
    let room = |count| plan(&in_flight(count)).unwrap().send_buffer;
    assert_eq!(room(1460), None);
    assert_eq!(room(300_000), Some(600_000));
}

#[test]
fn what_is_behind_gaps_comes_as_the_peer_sent_it() {
    let snapshot = snapshot();
    let segments: Vec<_> = out_of_order(&snapshot).collect();
    let numbers = |(header, payload): &(lb_tcp::Header, &[u8])| {
        assert_eq!((header.ack, header.window), (snapshot.una, 512));
        let timestamps = header.options.timestamps.unwrap();
        assert_eq!((timestamps.value, timestamps.echo), (77, 0));
        let fin = header.flags == Flags::ACK | Flags::FIN;
        assert!(fin || header.flags == Flags::ACK);
        (header.seq.0, payload.len(), fin)
    };
    let numbers: Vec<_> = segments.iter().map(numbers).collect();
    let expected = [
        (6000, 1448, false),
        (7448, 552, false),
        (9000, 10, false),
        (9010, 0, true),
    ];
    assert_eq!(numbers, expected);
    assert!(
        segments[..2]
            .iter()
            .all(|(_, payload)| payload.iter().all(|&byte| byte == b'a'))
    );
}

/// How many bytes are made up, and which round trip their acknowledgement tells.
fn history(snapshot: &Snapshot, clock: u32) -> Option<(u32, u32)> {
    let plan = Plan::new(snapshot, clock).unwrap().with_history(snapshot);
    let start = Seq(plan.start);
    let Past::Acknowledged(history) = plan.past else {
        assert_eq!(start + u32::from(plan.past == Past::Octet), snapshot.una);
        return None;
    };
    assert_eq!(start + history.len, snapshot.una);
    let header = history.acknowledgement;
    assert_eq!((header.seq, header.ack), (snapshot.rcv_nxt, snapshot.una));
    assert_eq!((header.flags, header.window), (Flags::ACK, 512));
    let timestamps = header.options.timestamps.unwrap();
    assert_eq!(timestamps.value, 77, "TS.Recent");
    let echo = timestamps.echo;
    assert_ne!(echo, 0, "would be no echo");
    Some((history.len, plan.clock.unwrap().wrapping_sub(echo)))
}

#[test]
fn the_past_is_told_as_far_as_it_is_known() {
    let of = |segments: u32, srtt: Option<u64>| Snapshot {
        cwnd: segments * 1448,
        srtt: srtt.map(Duration::from_millis),
        ..snapshot()
    };
    let told = |segments, srtt| history(&of(segments, srtt), 1_000_000);
    assert_eq!(told(1, Some(20)), Some((1, 20)), "less can't be told");
    assert_eq!(told(10, Some(0)), Some((1, 0)));
    assert_eq!(told(50, Some(20)), Some((40 * 1448, 20)));
    assert_eq!(told(2000, Some(20)), Some((128 * 1448, 20)), "enough");
    assert_eq!(told(50, None), None);
    assert_eq!(history(&of(10, Some(20)), 20), Some((1, 21)), "not zero");
    assert_eq!(history(&of(10, Some(20)), 10), Some((1, 20)), "wraps");
    let without = Snapshot {
        timestamps: None,
        ..snapshot()
    };
    assert_eq!(history(&without, 1_000_000), None);
    let past = |of: &Snapshot| plan(of).unwrap().with_history(of).past;
    assert_eq!(past(&without), Past::Octet);
    let shut = Snapshot { wnd: 0, ..without };
    assert_eq!(history(&shut, 1_000_000), None);
    assert_eq!(past(&shut), Past::Untold);
}

#[test]
fn the_past_needs_room_as_well() {
    let long = Snapshot {
        cwnd: 50 * 1448,
        ..snapshot()
    };
    let plan = plan(&long).unwrap().with_history(&long);
    assert_eq!(plan.send_buffer, Some(2 * (40 * 1448 + 4)));
}

#[test]
fn nothing_behind_gaps_is_no_segment() {
    let snapshot = Snapshot {
        out_of_order: Vec::new(),
        fin: None,
        ..snapshot()
    };
    assert_eq!(out_of_order(&snapshot).count(), 0);
}

#[test]
fn a_packet_comes_from_the_peer_and_its_checksum_holds() {
    for (local, remote, header_len) in [
        ("10.203.1.100:443", "10.203.1.10:40000", 20),
        ("[fd00::1]:443", "[fd00::2]:40000", 40),
    ] {
        let key = FlowKey {
            local: local.parse().unwrap(),
            remote: remote.parse().unwrap(),
        };
        let snapshot = snapshot();
        for (header, payload) in out_of_order(&snapshot) {
            let packet = packet(&key, &header, payload);
            let tcp = &packet[header_len..];
            assert!(wire::checksum_holds(key.remote.ip(), key.local.ip(), tcp));
            let (ports, segment) = wire::parse(tcp).unwrap();
            assert_eq!((ports.source, ports.destination), (40_000, 443));
            assert_eq!((segment.header, segment.payload), (header, payload));
        }
    }
}

#[test]
fn an_error_says_what_failed_and_how() {
    let error = Step::Bind.failed(io::Error::from_raw_os_error(libc::EADDRNOTAVAIL));
    assert_eq!(
        error.to_string(),
        "binding to the service's address: Cannot assign requested address (os error 99)"
    );
}
