//! How connections end: in order, by reset, by nobody's patience; and what is remembered.

use super::*;
use crate::Failure;

/// Our end closes first: the connection is over, and a record is left.
fn closed(bench: &mut Bench, port: u16) -> Peer {
    let (mut peer, id) = bench.accepted(port);
    bench.endpoint.release(id);
    assert_eq!(flags(&bench.output()), [FIN_ACK]);
    peer.ack += 1;
    let answers = bench.say(&peer, FIN_ACK, b"");
    assert_eq!(flags(&answers), [Flags::ACK]);
    peer.seq += 1;
    assert_eq!(answers[0].header.ack, peer.seq);
    peer
}

#[test]
fn the_end_that_closes_first_keeps_a_record_and_no_connection() {
    let mut bench = Bench::new(Config::default());
    closed(&mut bench, 1);
    assert_eq!((bench.endpoint.flows(), bench.endpoint.time_wait()), (0, 1));
    assert_eq!(bench.endpoint.pool().lent(), 0);
    bench.sleep(Duration::from_secs(59));
    assert_eq!(bench.endpoint.time_wait(), 1);
    bench.sleep(Duration::from_secs(2));
    assert_eq!(bench.endpoint.time_wait(), 0);
    assert_eq!(bench.endpoint.next_timer(), None);
}

#[test]
fn the_end_that_closes_last_keeps_nothing() {
    let mut bench = Bench::new(Config::default());
    let (mut peer, id) = bench.accepted(1);
    assert_eq!(flags(&bench.say(&peer, FIN_ACK, b"")), [Flags::ACK]);
    peer.seq += 1;
    assert_eq!(bench.endpoint.read(&id, &mut [0; 8]), Ok(Some(0)));
    assert_eq!(bench.endpoint.write(&id, b"late answer"), Ok(Some(11)));
    bench.endpoint.release(id);
    let sent = bench.output();
    let text: Vec<u8> = sent.iter().flat_map(|sent| sent.payload.clone()).collect();
    assert_eq!(text, b"late answer");
    peer.ack += 12;
    assert!(bench.say(&peer, Flags::ACK, b"").is_empty());
    assert_eq!((bench.endpoint.flows(), bench.endpoint.time_wait()), (0, 0));
    assert_eq!(bench.counters().out_rsts, 0);
}

#[test]
fn a_record_acknowledges_what_comes_late_and_lets_a_later_connection_in() {
    let mut bench = Bench::new(Config::default());
    let peer = closed(&mut bench, 1);
    let fin = Peer {
        seq: peer.seq - 1,
        ..peer
    };
    let answers = bench.say(&fin, FIN_ACK, b"");
    assert_eq!(flags(&answers), [Flags::ACK]);
    assert_eq!(
        (answers[0].header.seq, answers[0].header.ack),
        (peer.ack, peer.seq)
    );
    assert!(bench.say(&peer, Flags::RST, b"").is_empty());
    let old = bench.exchange(1, header(Flags::SYN, 50, 0), b"");
    assert_eq!(flags(&old), [Flags::ACK]);
    let new = bench.exchange(1, header(Flags::SYN, 9000, 0), b"");
    assert_eq!(flags(&new), [Flags::SYN | Flags::ACK]);
    assert_eq!(new[0].header.ack, Seq(9001));
    assert!(new[0].header.seq.follows(peer.ack), "above the old numbers");
    assert_eq!((bench.endpoint.flows(), bench.endpoint.time_wait()), (1, 0));
}

#[test]
fn a_held_connection_that_is_over_does_not_stand_in_the_way_of_the_next() {
    let mut bench = Bench::new(Config::default());
    let (peer, id) = bench.accepted(1);
    bench.say(&peer, RST_ACK, b"");
    let failed = Err(Failure::Reset);
    assert_eq!(bench.endpoint.read(&id, &mut [0; 8]), failed);
    assert_eq!(bench.endpoint.write(&id, b"x"), failed);
    let (_, next) = bench.accepted(1);
    assert_eq!(bench.endpoint.flows(), 2);
    bench.endpoint.release(id);
    assert!(bench.output().is_empty());
    assert_eq!(
        bench.endpoint.info(&next).unwrap().state,
        State::Established
    );
    assert_eq!((bench.endpoint.flows(), bench.counters().out_rsts), (1, 0));
}

#[test]
fn released_with_unread_bytes_it_is_reset_without_fin() {
    let mut bench = Bench::new(Config::default());
    let (peer, id) = bench.accepted(1);
    bench.say(&peer, Flags::ACK, b"never read");
    bench.endpoint.release(id);
    assert_eq!(flags(&bench.output()), [RST_ACK]);
    assert_eq!(
        (bench.endpoint.flows(), bench.counters().abort_on_close),
        (0, 1)
    );
    assert_eq!(bench.endpoint.pool().lent(), 0);
}

#[test]
fn bytes_for_nobody_reset_the_connection() {
    let mut bench = Bench::new(Config::default());
    let (mut peer, id) = bench.accepted(1);
    bench.endpoint.release(id);
    bench.output();
    peer.ack += 1;
    assert!(bench.say(&peer, Flags::ACK, b"").is_empty());
    let answers = bench.say(&peer, Flags::ACK, b"too late");
    assert_eq!(flags(&answers), [RST_ACK]);
    let counters = bench.counters();
    assert_eq!((counters.abort_on_data, counters.abort_on_linger), (1, 0));
    assert_eq!(bench.endpoint.flows(), 0);
}

#[test]
fn a_peer_that_never_finishes_is_reset_after_the_orphan_timeout() {
    let mut bench = Bench::new(Config::default());
    let (mut peer, id) = bench.accepted(1);
    bench.endpoint.release(id);
    bench.output();
    peer.ack += 1;
    bench.say(&peer, Flags::ACK, b"");
    assert!(bench.sleep(Duration::from_secs(59)).is_empty());
    assert_eq!(bench.endpoint.flows(), 1);
    assert_eq!(flags(&bench.sleep(Duration::from_secs(2))), [RST_ACK]);
    assert_eq!(
        (bench.endpoint.flows(), bench.counters().abort_on_linger),
        (0, 1)
    );
}

/// Releases a connection with an answer of 16 KB, of which the peer's window lets 2 KB out.
fn released_with_much_to_send(bench: &mut Bench) -> Peer {
    let (peer, id) = bench.accepted(1);
    let narrow = Header {
        window: 2000,
        ..header(Flags::ACK, peer.seq.0, peer.ack.0)
    };
    bench.exchange(peer.port, narrow, b"");
    let answer = [7; 16_000];
    assert_eq!(bench.endpoint.write(&id, &answer), Ok(Some(answer.len())));
    bench.endpoint.release(id);
    peer
}

/// The highest number that was sent.
fn last_sent(sent: &[Sent]) -> Option<Seq> {
    let len = |sent: &Sent| u32::try_from(sent.payload.len()).unwrap();
    let ends = sent.iter().map(|sent| sent.header.seq + len(sent));
    ends.reduce(Seq::max)
}

#[test]
fn a_released_connection_whose_peer_is_slow_is_finished() {
    let mut bench = Bench::new(Config::default());
    let mut peer = released_with_much_to_send(&mut bench);
    let fin = peer.ack + 16_000;
    let mut sent = bench.output();
    let mut minutes = 0;
    while peer.ack != fin {
        peer.ack = last_sent(&sent).unwrap_or(peer.ack);
        sent = bench.sleep(Duration::from_secs(50));
        let narrow = Header {
            window: 2000,
            ..header(Flags::ACK, peer.seq.0, peer.ack.0)
        };
        sent.extend(bench.exchange(peer.port, narrow, b""));
        assert!(!flags(&sent).contains(&RST_ACK), "after {minutes} minutes");
        minutes += 1;
    }
    assert!(minutes > 5, "several times the orphan timeout");
    peer.ack += 1;
    bench.say(&peer, FIN_ACK, b"");
    assert_eq!((bench.endpoint.flows(), bench.endpoint.time_wait()), (0, 1));
    assert_eq!(bench.counters().abort_on_linger, 0);
}

#[test]
fn a_released_connection_whose_peer_stands_still_is_reset() {
    let mut bench = Bench::new(Config::default());
    let mut peer = released_with_much_to_send(&mut bench);
    let sent = bench.output();
    bench.sleep(Duration::from_secs(50));
    // It takes what is on its way, closes its window, and answers probes for ever.
    peer.ack = last_sent(&sent).unwrap();
    let mut closed = Header {
        window: 0,
        ..header(Flags::ACK, peer.seq.0, peer.ack.0)
    };
    bench.exchange(peer.port, closed, b"");
    for _ in 0..5 {
        let sent = bench.sleep(Duration::from_secs(11));
        assert!(!flags(&sent).contains(&RST_ACK), "{sent:?}");
        closed.seq = peer.seq;
        bench.exchange(peer.port, closed, b"");
    }
    let sent = bench.sleep(Duration::from_secs(6));
    assert!(flags(&sent).contains(&RST_ACK), "{sent:?}");
    assert_eq!(
        (bench.endpoint.flows(), bench.counters().abort_on_linger),
        (0, 1)
    );
}

#[test]
fn whoever_waits_learns_of_a_reset() {
    let mut bench = Bench::new(Config::default());
    let (peer, id) = bench.accepted(1);
    let before = bench.endpoint.attachment(&id).unwrap().readable;
    assert_eq!(before, 0);
    bench.say(&peer, RST_ACK, b"");
    let told = bench.endpoint.attachment(&id).unwrap();
    assert!(told.readable > 0 && told.writable > 0);
}

#[test]
fn an_exported_connection_goes_on_elsewhere_and_is_not_disturbed_here() {
    let mut bench = Bench::new(Config::default());
    let (mut peer, id) = bench.accepted(1);
    bench.say(&peer, Flags::ACK, b"first");
    peer.seq += 5;
    let exported = bench.endpoint.export(id).unwrap();
    assert_eq!(
        (bench.endpoint.flows(), bench.endpoint.pool().lent()),
        (0, 0)
    );
    assert!(
        bench.say(&peer, Flags::ACK, b"second").is_empty(),
        "not ours"
    );

    let mut other = Bench::new(Config::default());
    let id = other.endpoint.import(exported).unwrap();
    other.say(&peer, Flags::ACK, b"second");
    let mut text = [0; 16];
    assert_eq!(other.endpoint.read(&id, &mut text), Ok(Some(11)));
    assert_eq!(&text[..11], b"firstsecond");
    let back = other.endpoint.export(id).unwrap();
    bench.endpoint.import(back).unwrap();
    assert_eq!(bench.endpoint.time_wait(), 0);
}
