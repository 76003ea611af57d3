//! Who sends, how much, and when; and that nothing is lost for want of room.

use super::*;

#[test]
fn flows_take_turns_with_a_share_each() {
    let config = Config {
        initial_window: 100,
        ..Config::default()
    };
    let mut bench = Bench::new(config);
    bench.scale = Some(4);
    let flows = [1, 2].map(|port| bench.accepted(port));
    for (peer, _) in &flows {
        bench.say(peer, Flags::ACK, b"");
    }
    for (_, id) in &flows {
        let written = bench.endpoint.write(id, &std::vec![1; 50 * MSS]);
        assert_eq!(written, Ok(Some(50 * MSS)));
    }
    let ports =
        |sent: &[Sent]| -> Vec<u16> { sent.iter().map(|sent| sent.key.remote.port()).collect() };
    let first = bench.output();
    assert_eq!(
        ports(&first),
        [[1; SEGMENTS_PER_TURN], [2; SEGMENTS_PER_TURN]].concat()
    );
    assert!(bench.endpoint.wants_output());
    assert_eq!(ports(&bench.output()), [[1; 5], [2; 5]].concat());
    assert!(!bench.endpoint.wants_output());
}

#[test]
fn a_flow_without_room_stays_in_line_and_loses_nothing() {
    let mut bench = Bench::new(Config::default());
    let (_, id) = bench.accepted(1);
    let bytes: Vec<u8> = (0..8 * MSS)
        .map(|n| u8::try_from(n % 251).unwrap())
        .collect();
    assert_eq!(bench.endpoint.write(&id, &bytes), Ok(Some(bytes.len())));
    let mut got = Vec::new();
    for room in [0, 3, 0, 1, 100] {
        bench.wire.room = room;
        let sent = bench.output();
        assert!(sent.len() <= room);
        got.extend(sent.into_iter().flat_map(|sent| sent.payload));
    }
    assert_eq!(got, bytes);
    assert_eq!(bench.counters().retrans_segs, 0);
}

#[test]
fn a_timer_that_moves_back_fires_once_at_its_last_time() {
    let mut bench = Bench::new(Config::default());
    let (mut peer, id) = bench.accepted(1);
    for _ in 0..20 {
        bench.endpoint.write(&id, b"text").unwrap();
        assert_eq!(bench.output().len(), 1);
        peer.ack += 4;
        bench.sleep(Duration::from_millis(10));
        bench.say(&peer, Flags::ACK, b"");
    }
    bench.endpoint.write(&id, b"lost").unwrap();
    bench.output();
    let again = bench.sleep(Duration::from_secs(1));
    assert!(!again.is_empty(), "sent again");
    assert!(again.iter().all(|sent| sent.payload == b"lost"));
}

#[test]
fn an_answer_takes_the_acknowledgement_with_it() {
    let mut bench = Bench::new(Config::default());
    let (mut peer, id) = bench.accepted(1);
    let segment = Segment {
        header: header(Flags::ACK, peer.seq.0, peer.ack.0),
        payload: b"question",
    };
    bench
        .endpoint
        .input(bench.now, &key(1), 1, &segment, &mut bench.wire);
    assert_eq!(bench.endpoint.read(&id, &mut [0; 16]), Ok(Some(8)));
    bench.endpoint.write(&id, b"answer").unwrap();
    let sent = bench.output();
    peer.seq += 8;
    assert_eq!(sent.len(), 1, "{sent:?}");
    assert_eq!(
        (sent[0].header.ack, &sent[0].payload[..]),
        (peer.seq, &b"answer"[..])
    );
}

#[test]
fn answers_follow_the_peer_to_another_router() {
    let mut bench = Bench::new(Config::default());
    let (peer, _) = bench.accepted(1);
    let segment = Segment {
        header: header(FIN_ACK, peer.seq.0, peer.ack.0),
        payload: b"",
    };
    bench
        .endpoint
        .input(bench.now, &key(1), 9, &segment, &mut bench.wire);
    assert_eq!(bench.output()[0].route, 9);
}

#[test]
fn we_may_connect_but_not_twice_between_the_same_ends() {
    let mut bench = Bench::new(Config::default());
    let key = FlowKey {
        local: "10.203.1.100:50000".parse().unwrap(),
        remote: "10.203.1.10:80".parse().unwrap(),
    };
    let id = bench.endpoint.connect(key, 5, &bench.wire).unwrap();
    assert!(bench.endpoint.connect(key, 5, &bench.wire).is_none());
    let sent = bench.output();
    assert_eq!((flags(&sent), sent[0].route), ([Flags::SYN].to_vec(), 5));
    let segment = Segment {
        header: header(Flags::SYN | Flags::ACK, 700, (sent[0].header.seq + 1).0),
        payload: b"",
    };
    bench
        .endpoint
        .input(bench.now, &key, 5, &segment, &mut bench.wire);
    assert_eq!(flags(&bench.output()), [Flags::ACK]);
    assert!(bench.endpoint.attachment(&id).unwrap().writable > 0);
    assert_eq!(bench.counters().active_opens, 1);
}

#[test]
fn ends_in_time_wait_are_not_connected_again() {
    let mut bench = Bench::new(Config::default());
    let (mut peer, id) = bench.accepted(1);
    bench.endpoint.release(id);
    bench.output();
    peer.ack += 1;
    bench.say(&peer, FIN_ACK, b"");
    assert_eq!(bench.endpoint.time_wait(), 1);
    assert!(bench.endpoint.connect(key(1), 1, &bench.wire).is_none());
    bench.sleep(Duration::from_secs(61));
    assert!(bench.endpoint.connect(key(1), 1, &bench.wire).is_some());
}

#[test]
fn an_idle_flow_costs_less_than_a_kilobyte() {
    // The route, and the wakers and the residence of the transport: 24 and 40 bytes. Beside the flow: 24 bytes in the wheel, and in the index
    // 9 bytes in at least 7/16 of the buckets.
    let flow = size_of::<Flow<[u64; 3], [u64; 5]>>();
    assert!(flow + 24 + 21 < 1000, "{flow}");
}
