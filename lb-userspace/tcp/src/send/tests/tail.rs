//! Tail loss probes (RFC 8985 §7).

use super::*;

/// A flight of `count` segments whose tail is lost, and the probe that was sent for it.
fn probed(count: u32, acked: u32) -> (Rig, Vec<(u32, usize)>) {
    let mut rig = Rig::open();
    rig.flight(count);
    rig.pass(100);
    rig.ack(acked);
    assert_eq!(rig.fire(), Expiry::Handled);
    let sent = rig.send();
    assert_eq!(rig.counters.loss_probes, 1);
    (rig, sent)
}

#[test]
fn a_probe_repeats_the_last_segment_after_two_round_trips() {
    let mut rig = Rig::open();
    rig.flight(5);
    assert_eq!(rig.timer(), Some(202));
    rig.fire();
    assert_eq!(rig.send(), [(4000, 1000)]);
    assert_eq!(rig.counters.timeouts, 0);
    assert!(rig.timer().is_some_and(|ms| ms > 202), "then the timeout");
}

#[test]
fn a_lone_segment_is_probed_after_the_usual_delay_of_a_peer() {
    let mut rig = Rig::open();
    rig.flight(1);
    assert_eq!(rig.timer(), Some(280));
    rig.fire();
    assert_eq!(rig.send(), [(0, 1000)]);
    assert_eq!((rig.counters.loss_probes, rig.counters.timeouts), (1, 0));
}

#[test]
fn so_is_what_is_left_of_a_flight() {
    let mut rig = Rig::open();
    rig.flight(3);
    rig.pass(100);
    rig.ack(2000);
    assert_eq!(rig.timer(), Some(280));
}

/// Whoever answers the probe of a lone segment: when the next lone one would be probed.
fn next_lone(answer: impl FnOnce(&mut Rig)) -> Option<u64> {
    let mut rig = Rig::open();
    rig.flight(1);
    rig.fire();
    assert_eq!(rig.send(), [(0, 1000)]);
    answer(&mut rig);
    rig.flight(1);
    rig.timer()
}

#[test]
fn a_peer_that_was_probed_in_vain_has_longer() {
    // 2 · 100 + 200 ms would be after the timeout of 100 + max(200, 4 · 50) ms, whose place the probe takes.
    assert_eq!(next_lone(|rig| rig.sack(1000, &[(0, 1000)])), Some(300));
    let twice = |rig: &mut Rig| {
        rig.ack(1000);
        rig.ack(1000);
    };
    assert_eq!(next_lone(twice), Some(300));
    let needed = |rig: &mut Rig| {
        rig.ack(1000);
        rig.flight(1);
        rig.pass(100);
        rig.ack(2000);
    };
    assert_eq!(next_lone(needed), Some(280));
}

#[test]
fn a_longer_flight_that_was_probed_in_vain_says_nothing_of_delays() {
    let mut rig = Rig::open();
    rig.flight(3);
    rig.fire();
    assert_eq!(rig.send(), [(2000, 1000)]);
    rig.sack(3000, &[(2000, 3000)]);
    rig.flight(1);
    assert_eq!(rig.timer(), Some(280));
}

#[test]
fn new_data_is_the_better_probe_even_above_the_window() {
    let mut rig = Rig::open();
    rig.write(15 * MSS);
    assert_eq!(rig.send().len(), 10);
    rig.fire();
    assert_eq!(rig.send(), [(10_000, 1000)]);
    assert_eq!(rig.counters.retrans_segs, 0);
    // Nothing was lost: no response.
    rig.pass(100);
    rig.ack(11_000);
    assert_eq!(rig.info().ssthresh, None);
}

#[test]
fn the_answer_to_a_probe_starts_recovery() {
    let (mut rig, sent) = probed(5, 2000);
    assert_eq!(sent, [(4000, 1000)]);
    rig.pass(100);
    rig.sack(2000, &[(4000, 5000)]);
    assert_eq!(rig.send(), [(2000, 1000)], "one for one that arrived");
    rig.pass(100);
    rig.sack(3000, &[(4000, 5000)]);
    assert_eq!(rig.send(), [(3000, 1000)]);
    assert_eq!((rig.counters.timeouts, rig.counters.sack_recovery), (0, 1));
}

#[test]
fn a_loss_that_the_probe_repaired_is_answered() {
    let (mut rig, sent) = probed(3, 2000);
    assert_eq!(sent, [(2000, 1000)]);
    rig.pass(100);
    rig.ack(3000);
    assert_eq!(rig.info().ssthresh, None, "it is not known yet");
    rig.flight(1);
    rig.pass(100);
    rig.ack(4000);
    assert_eq!(rig.info().ssthresh, Some(7 * MSS));
    assert_eq!(rig.counters.loss_probe_recovery, 1);
}

#[test]
fn a_probe_that_was_a_duplicate_is_not_answered() {
    let (mut rig, _) = probed(3, 2000);
    rig.ack(3000);
    rig.sack(3000, &[(2000, 3000)]);
    rig.flight(1);
    rig.pass(100);
    rig.ack(4000);
    assert_eq!(
        (rig.info().ssthresh, rig.counters.loss_probe_recovery),
        (None, 0)
    );
}

#[test]
fn a_bare_duplicate_says_the_same() {
    let (mut rig, _) = probed(3, 2000);
    rig.ack(3000);
    rig.ack(3000);
    rig.flight(1);
    rig.pass(100);
    rig.ack(4000);
    assert_eq!(
        (rig.info().ssthresh, rig.counters.loss_probe_recovery),
        (None, 0)
    );
}

#[test]
fn there_is_one_probe_and_then_a_timeout() {
    let (mut rig, _) = probed(3, 1000);
    rig.fire();
    assert_eq!(rig.send(), [(1000, 1000)]);
    assert_eq!((rig.counters.loss_probes, rig.counters.timeouts), (1, 1));
}

#[test]
fn there_is_none_without_sack_or_with_something_sacked() {
    let mut rig = Rig::opened(Config::default(), false);
    rig.flight(3);
    rig.fire();
    assert_eq!((rig.counters.loss_probes, rig.counters.timeouts), (0, 1));
    let mut rig = Rig::open();
    rig.flight(3);
    rig.pass(100);
    rig.sack(0, &[(2000, 3000)]);
    rig.fire();
    assert_eq!(rig.counters.loss_probes, 0);
    assert_eq!(
        rig.send(),
        [(0, 1000)],
        "the reordering timer fired instead"
    );
}
