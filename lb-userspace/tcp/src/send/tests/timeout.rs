//! Timeouts, window probes, and giving up.

use super::*;

#[test]
fn a_lost_syn_is_sent_again_ever_later_and_then_given_up() {
    let mut rig = Rig::closed(Config::default());
    let start = rig.now;
    assert!(rig.poll().is_some_and(|t| t.syn));
    let mut times = Vec::new();
    while rig.fire() == Expiry::Handled {
        times.push(rig.now.since(start).as_secs());
        assert!(rig.poll().is_some_and(|t| t.syn && t.seq == ISS));
    }
    // RFC 9293 §3.8.3, MUST-23: a SYN is tried for three minutes at least. A SYN-ACK for less, which the connection sees to.
    assert_eq!(times, [1, 3, 7, 15, 31, 63, 127, 247]);
    assert_eq!(rig.now.since(start), rig.config.user_timeout);
}

#[test]
fn two_lost_syns_make_the_window_small_and_the_first_timeout_long() {
    let mut rig = Rig::closed(Config::default());
    rig.poll();
    for _ in 0..2 {
        rig.fire();
        rig.poll();
    }
    rig.sender.negotiated(MSS as usize, true, 0);
    rig.ack(0);
    assert_eq!(rig.info().cwnd, MSS);
    assert_eq!(
        rig.info().rtt,
        None,
        "Karn: it can't be told which was answered"
    );
    assert_eq!(rig.info().rto, Duration::from_secs(3));
    rig.write(10 * MSS);
    assert_eq!(rig.send().len(), 1);
}

#[test]
fn a_timeout_doubles_until_an_answer_comes_and_sends_one_segment() {
    let mut rig = Rig::opened(Config::default(), false);
    rig.write(20 * MSS);
    rig.send();
    let first = rig.timer().unwrap();
    assert_eq!(first, 300, "SRTT + max(200 ms, 4 · RTTVAR)");
    for n in 0..4 {
        assert_eq!(rig.timer(), Some(first << n));
        rig.fire();
        assert_eq!(rig.send(), [(0, 1000)]);
        assert_eq!(rig.info().cwnd, MSS);
    }
    assert_eq!(rig.info().ssthresh, Some(7 * MSS), "lowered once");
    rig.pass(100);
    rig.ack(1000);
    assert_eq!(rig.info().rto, Duration::from_millis(first << 4), "Karn");
    assert_eq!(rig.send(), [(1000, 1000), (2000, 1000)], "slow start");
    assert!(rig.info().in_recovery);
    rig.pass(100);
    rig.ack(10_000);
    assert!(!rig.info().in_recovery);
}

#[test]
fn by_timestamps_a_retransmission_gives_a_round_trip() {
    let mut rig = Rig::opened(Config::default(), true);
    rig.flight(1);
    rig.fire();
    rig.send();
    rig.fire();
    rig.send();
    rig.echo = Some(u64::from(rig.now.millis()));
    rig.pass(100);
    rig.ack(1000);
    assert!(rig.info().rto <= Duration::from_millis(300));
}

#[test]
fn a_timeout_spares_what_left_lately() {
    let mut rig = Rig::open();
    rig.write(10 * MSS);
    rig.send();
    rig.pass(100);
    rig.ack(5000);
    // The probe, and then the timeout: only the first segment and what is older than a round trip is lost.
    rig.fire();
    rig.send();
    rig.pass(250);
    rig.write(MSS);
    rig.send();
    rig.fire();
    assert_eq!(rig.counters.timeouts, 1);
    let info = rig.info();
    assert_eq!(
        (info.lost, info.unacked),
        (5, 6),
        "the new one is on its way"
    );
}

#[test]
fn a_timeout_in_error_is_taken_back_by_an_old_echo() {
    let mut rig = Rig::opened(Config::default(), false);
    let sent_at = u64::from(rig.now.millis());
    rig.flight(10);
    rig.fire();
    assert_eq!(rig.send(), [(0, 1000)]);
    rig.echo = Some(sent_at);
    rig.pass(10);
    rig.ack(1000);
    assert_eq!((rig.counters.undo, rig.info().lost), (1, 0));
    assert!(rig.info().cwnd >= 10 * MSS);
    rig.ack(10_000);
    assert_eq!(rig.counters.retrans_segs, 1, "nothing else was sent again");
}

#[test]
fn a_peer_that_forgets_what_it_had_sacked_gets_it_again() {
    let mut rig = Rig::open();
    rig.flight(4);
    rig.pass(100);
    rig.sack(0, &[(1000, 4000)]);
    rig.send();
    rig.pass(100);
    // The first is acknowledged, the others are not: they were thrown away.
    rig.ack(1000);
    assert_eq!(rig.send(), []);
    rig.fire();
    assert_eq!(rig.send()[0], (1000, 1000));
    rig.pass(100);
    rig.ack(2000);
    assert_eq!(rig.send(), [(2000, 1000), (3000, 1000)]);
}

#[test]
fn a_silent_peer_is_given_up_after_the_user_timeout() {
    let mut rig = Rig::open();
    rig.flight(3);
    let start = rig.now;
    while rig.fire() == Expiry::Handled {
        rig.send();
    }
    assert_eq!(rig.now.since(start), rig.config.user_timeout);
}

#[test]
fn a_closed_window_is_probed_ever_more_rarely() {
    let mut rig = Rig::open();
    rig.window = 0;
    rig.peer += 1;
    rig.ack(0);
    rig.write(10);
    assert_eq!(rig.send(), []);
    let mut waits = Vec::new();
    for _ in 0..4 {
        waits.push(rig.timer().unwrap());
        rig.fire();
        let probe = rig.poll().expect("a probe");
        assert_eq!((probe.seq, probe.len), (Rig::seq(0) - 1, 0));
        assert_eq!(rig.poll(), None);
        rig.ack(0);
    }
    assert_eq!(waits, [300, 600, 1200, 2400]);
    assert_eq!(rig.counters.win_probes, 4);
    rig.window = 5000;
    rig.ack(0);
    assert_eq!(rig.timer(), None);
    assert_eq!(rig.send(), [(0, 10)]);
}

#[test]
fn a_peer_that_answers_probes_may_keep_its_window_closed_but_a_silent_one_may_not() {
    let mut rig = Rig::open();
    rig.window = 0;
    rig.peer += 1;
    rig.ack(0);
    rig.write(10);
    rig.send();
    let start = rig.now;
    while rig.now.since(start) < 4 * rig.config.user_timeout {
        assert_eq!(rig.fire(), Expiry::Handled);
        rig.send();
        rig.ack(0);
    }
    let start = rig.now;
    while rig.fire() == Expiry::Handled {
        rig.send();
    }
    assert_eq!(rig.now.since(start), rig.config.user_timeout);
}

#[test]
fn an_opening_that_stays_small_is_used_when_the_timer_says_so() {
    let mut rig = Rig::open();
    rig.window = 100;
    rig.peer += 1;
    rig.ack(0);
    rig.write(5000);
    assert_eq!(rig.send(), []);
    rig.fire();
    assert_eq!(rig.send(), [(0, 100)]);
    assert_eq!(rig.counters.win_probes, 0);
}

#[test]
fn a_closed_window_keeps_even_a_fin_back() {
    let mut rig = Rig::open();
    rig.window = 0;
    rig.peer += 1;
    rig.ack(0);
    rig.sender.close();
    assert_eq!(rig.send(), []);
    rig.fire();
    assert!(rig.poll().is_some_and(|t| !t.fin));
    rig.window = 1;
    rig.ack(0);
    assert!(rig.poll().is_some_and(|t| t.fin));
}
