//! Who gets a connection, and what the others get.

use super::*;

#[test]
fn segments_of_no_connection_get_what_they_deserve() {
    let mut bench = Bench::new(Config::default());
    let answers = bench.exchange(1, header(Flags::ACK, 7, 4711), b"");
    assert_eq!(flags(&answers), [Flags::RST]);
    assert_eq!(answers[0].header.seq, Seq(4711));
    assert!(bench.exchange(1, header(Flags::RST, 7, 0), b"").is_empty());
    let elsewhere = FlowKey {
        local: "10.203.1.100:444".parse().unwrap(),
        ..key(1)
    };
    for flag in [Flags::SYN, Flags::ACK] {
        let segment = Segment {
            header: header(flag, 7, 9),
            payload: b"",
        };
        bench
            .endpoint
            .input(bench.now, &elsewhere, 1, &segment, &mut bench.wire);
    }
    assert!(bench.output().is_empty());
    let counters = bench.counters();
    assert_eq!((counters.no_listener, counters.out_rsts), (2, 1));
    assert_eq!((counters.in_segs, counters.out_segs), (4, 1));
    assert_eq!(bench.endpoint.flows(), 0);
}

#[test]
fn a_handshake_ends_in_the_queue_and_is_told() {
    let mut bench = Bench::new(Config::default());
    let answers = bench.syn(1);
    assert_eq!(answers[0].header.options.mss, Some(1460));
    assert_eq!((answers[0].key, answers[0].route), (key(1), 1));
    assert!(bench.endpoint.accept(&server()).is_none());
    let ack = answers[0].header.seq + 1;
    bench.exchange(1, header(Flags::ACK, 101, ack.0), b"");
    let listener = bench.endpoint.listener_attachment(&server()).unwrap();
    assert_eq!(listener.readable, 1);
    let (id, got) = bench.endpoint.accept(&server()).unwrap();
    assert_eq!(got, key(1));
    assert_eq!(bench.endpoint.info(&id).unwrap().state, State::Established);
    assert_eq!(bench.counters().passive_opens, 1);
    assert!(bench.endpoint.accept(&server()).is_none());
}

#[test]
fn half_open_connections_go_silently_and_free_their_places() {
    let mut bench = Bench::new(Config {
        backlog: 6,
        ..Config::default()
    });
    for port in 1..=3 {
        bench.syn(port);
    }
    let sent = bench.sleep(Duration::from_secs(200));
    // A forged SYN must not make us send a RST to its alleged sender.
    assert!(
        sent.iter()
            .all(|sent| sent.header.flags == Flags::SYN | Flags::ACK)
    );
    assert_eq!(sent.len(), 3 * 5);
    assert_eq!(
        (bench.endpoint.flows(), bench.counters().attempt_fails),
        (0, 3)
    );
    bench.syn(4);
    assert_eq!(bench.counters().syncookies_sent, 0, "there is room again");
}

#[test]
fn a_reset_frees_the_place_of_a_half_open_connection() {
    let mut bench = Bench::new(Config {
        backlog: 1,
        ..Config::default()
    });
    for _ in 0..3 {
        bench.syn(1);
        assert!(
            bench
                .exchange(1, header(Flags::RST, 101, 0), b"")
                .is_empty()
        );
        assert_eq!(bench.endpoint.flows(), 0);
    }
    assert_eq!(bench.counters().syncookies_sent, 0);
}

#[test]
fn above_half_of_the_backlog_a_cookie_keeps_no_state_and_opens_when_it_comes_back() {
    let mut bench = Bench::new(Config {
        backlog: 4,
        ..Config::default()
    });
    bench.syn(1);
    bench.syn(2);
    let answers = bench.syn(3);
    assert_eq!(flags(&answers), [Flags::SYN | Flags::ACK]);
    assert_eq!(answers[0].header.options.mss, Some(1460));
    assert_eq!(
        (bench.endpoint.flows(), bench.counters().syncookies_sent),
        (2, 1)
    );
    assert!(bench.sleep(Duration::ZERO).is_empty());

    let cookie = answers[0].header.seq + 1;
    let guess = bench.exchange(4, header(Flags::ACK, 101, cookie.0), b"");
    assert_eq!(flags(&guess), [Flags::RST], "another's cookie");
    assert_eq!(bench.counters().syncookies_failed, 1);

    bench.exchange(3, header(Flags::ACK, 101, cookie.0), b"question");
    assert_eq!(bench.counters().syncookies_received, 1);
    let (id, got) = bench.endpoint.accept(&server()).unwrap();
    assert_eq!(got, key(3));
    let mut text = [0; 20];
    assert_eq!(bench.endpoint.read(&id, &mut text), Ok(Some(8)));
    assert_eq!(bench.endpoint.write(&id, b"answer"), Ok(Some(6)));
    let answers = bench.output();
    assert_eq!(
        (answers[0].header.seq, &answers[0].payload[..]),
        (cookie, &b"answer"[..])
    );
    assert_eq!(answers[0].header.ack, Seq(109));
}

#[test]
fn without_cookies_out_an_acknowledgement_is_not_tried_as_one() {
    let mut bench = Bench::new(Config::default());
    bench.exchange(1, header(Flags::ACK, 7, 4711), b"");
    assert_eq!(bench.counters().syncookies_failed, 0);
}

#[test]
fn a_full_queue_ignores_syns_and_the_end_of_handshakes_until_somebody_accepts() {
    let mut bench = Bench::new(Config {
        backlog: 2,
        ..Config::default()
    });
    bench.connect(1);
    let half_open = bench.syn(2)[0].header.seq + 1;
    bench.connect_by_cookie(3);
    assert!(bench.syn(4).is_empty(), "full");
    let last = header(Flags::ACK, 101, half_open.0);
    assert!(bench.exchange(2, last, b"").is_empty(), "full");
    assert_eq!(bench.counters().listen_overflows, 2);
    assert_eq!(bench.endpoint.accept(&server()).unwrap().1, key(1));
    bench.exchange(2, last, b"");
    assert_eq!(bench.endpoint.accept(&server()).unwrap().1, key(3));
    assert_eq!(bench.endpoint.accept(&server()).unwrap().1, key(2));
}

impl Bench {
    fn connect_by_cookie(&mut self, port: u16) {
        let before = self.counters().syncookies_sent;
        let peer = self.connect(port);
        assert_eq!(self.counters().syncookies_sent, before + 1, "{peer:?}");
    }
}

#[test]
fn syns_above_the_flow_limit_or_without_memory_are_ignored() {
    let mut bench = Bench::new(Config {
        max_flows: 1,
        ..Config::default()
    });
    let (_, id) = bench.accepted(1);
    assert!(bench.syn(2).is_empty());
    assert_eq!(
        (bench.counters().memory_drops, bench.counters().listen_drops),
        (1, 1)
    );
    bench.endpoint.abort(&id);
    bench.endpoint.release(id);
    bench.output();
    assert_eq!(bench.syn(2).len(), 1);

    // Sixteen chunks of 4 KiB; one connection that is not read takes them all.
    let mut bench = Bench::new(Config {
        memory: 64 << 10,
        receive_window: 64 << 10,
        ..Config::default()
    });
    let (mut peer, id) = bench.accepted(1);
    for _ in 0..45 {
        bench.say(&peer, Flags::ACK, &[7; MSS]);
        peer.seq += 1460;
    }
    assert!(bench.endpoint.pool().lent() <= 64 << 10);
    assert_eq!(
        bench.endpoint.pool().pressure(),
        crate::Pressure::RefuseConnections
    );
    assert!(bench.syn(2).is_empty());
    let mut sink = std::vec![0; 65_536];
    while matches!(bench.endpoint.read(&id, &mut sink), Ok(Some(count)) if count > 0) {}
    assert_eq!(bench.endpoint.pool().lent(), 0);
    bench.output();
    assert_eq!(bench.syn(2).len(), 1);
}

#[test]
fn unlistening_resets_only_what_was_not_accepted() {
    let mut bench = Bench::new(Config::default());
    let (kept, id) = bench.accepted(1);
    bench.connect(2);
    let half_open = bench.syn(3)[0].header.seq + 1;
    bench.endpoint.unlisten(&server());
    let answers = bench.output();
    assert_eq!(
        (flags(&answers), answers[0].key),
        ([RST_ACK].to_vec(), key(2))
    );
    // A listener that comes later has nothing to do with the old one's handshakes.
    bench.endpoint.listen(server(), Told::default()).unwrap();
    let answers = bench.exchange(3, header(Flags::ACK, 101, half_open.0), b"");
    assert_eq!(flags(&answers), [RST_ACK]);
    assert_eq!(bench.endpoint.flows(), 1);
    bench.say(&kept, Flags::ACK, b"still here");
    assert_eq!(bench.endpoint.read(&id, &mut [0; 16]), Ok(Some(10)));
}

#[test]
fn a_cookie_that_comes_back_after_a_stop_is_ignored() {
    let mut bench = Bench::new(Config {
        backlog: 1,
        ..Config::default()
    });
    bench.syn(1);
    let cookie = bench.syn(2)[0].header.seq + 1;
    assert_eq!(bench.counters().syncookies_sent, 1);
    bench.endpoint.stop();
    let answers = bench.exchange(2, header(Flags::ACK, 101, cookie.0), b"");
    assert!(answers.is_empty());
    assert_eq!(bench.endpoint.flows(), 1);
}

#[test]
fn after_a_stop_nobody_gets_in_and_at_the_end_nobody_is_left_waiting() {
    let mut bench = Bench::new(Config::default());
    let (busy, id) = bench.accepted(1);
    bench.connect(2);
    let half_open = bench.syn(3)[0].header.seq + 1;
    bench.endpoint.stop();
    assert_eq!(
        flags(&bench.output()),
        [RST_ACK],
        "not accepted: {:?}",
        key(2)
    );
    assert!(
        bench.syn(4).is_empty(),
        "the next process will see it again"
    );
    let answers = bench.exchange(3, header(Flags::ACK, 101, half_open.0), b"");
    assert_eq!(flags(&answers), [RST_ACK]);
    bench.say(&busy, Flags::ACK, b"go on");
    assert_eq!(bench.endpoint.read(&id, &mut [0; 16]), Ok(Some(5)));
    let stray = bench.exchange(5, header(Flags::ACK, 7, 8), b"");
    assert_eq!(flags(&stray), [Flags::RST]);

    bench.endpoint.reset_all();
    assert_eq!(flags(&bench.output()), [RST_ACK]);
    assert!(!bench.endpoint.wants_output());
    bench.endpoint.release(id);
    assert_eq!(bench.endpoint.flows(), 0);
}

#[test]
fn routers_are_heard_about_known_flows_only() {
    let mut bench = Bench::new(Config::default());
    let (peer, id) = bench.accepted(1);
    bench.endpoint.write(&id, &[7; 3000]).unwrap();
    bench.output();
    let too_big = Icmp::TooBig { mtu: 1000 };
    let (now, ack) = (bench.now, peer.ack);
    assert!(!bench.endpoint.icmp(now, &key(9), ack, too_big));
    assert_eq!(bench.counters().icmp_ignored, 0, "another worker's, maybe");
    assert!(bench.endpoint.icmp(now, &key(1), ack, too_big));
    assert_eq!(bench.counters().path_mtu_changes, 1);
    let again = bench.output();
    assert_eq!(again[0].payload.len(), 960);
}
