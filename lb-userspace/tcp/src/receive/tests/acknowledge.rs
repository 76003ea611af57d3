//! When an acknowledgement leaves.

use super::*;

#[test]
fn every_second_full_segment_is_acknowledged_at_once() {
    let mut side = Side::settled();
    side.text(0, 1448);
    assert!(!side.receiver.ack_is_due());
    side.text(1448, 2896);
    assert!(side.receiver.ack_is_due());
    side.acknowledge();
    side.text(2896, 4344);
    assert!(!side.receiver.ack_is_due(), "counted from the last one");
}

#[test]
fn less_is_acknowledged_when_its_time_has_come() {
    let mut side = Side::settled();
    side.text(0, 100);
    let first = side.now;
    side.wait(Duration::from_millis(30));
    side.text(100, 200);
    assert_eq!(
        side.receiver.next_timer(),
        Some(first + side.config.delayed_ack)
    );
    side.wait(Duration::from_micros(9_999));
    assert!(!side.receiver.ack_is_due());
    side.wait(Duration::from_micros(1));
    assert!(side.receiver.ack_is_due());
    assert_eq!(
        (side.counters.delayed_acks, side.receiver.next_timer()),
        (1, None)
    );
    assert_eq!(side.told().0, 200);
    assert!(!side.receiver.ack_is_due());
}

#[test]
fn an_acknowledgement_with_data_needs_no_timer_any_more() {
    let mut side = Side::settled();
    side.text(0, 100);
    assert!(side.receiver.next_timer().is_some());
    side.acknowledge();
    assert!(side.receiver.next_timer().is_none());
    side.wait(Duration::from_secs(1));
    assert!(!side.receiver.ack_is_due());
    assert_eq!(side.counters.delayed_acks, 0);
}

#[test]
fn a_delay_that_was_for_nothing_is_not_repeated() {
    let mut side = Side::settled();
    side.text(0, 100);
    side.wait(side.config.delayed_ack);
    side.acknowledge();
    side.text(100, 200);
    assert!(side.receiver.ack_is_due(), "nobody answers");
    side.acknowledge();
    side.receiver.on_data_sent();
    side.text(200, 300);
    assert!(!side.receiver.ack_is_due(), "somebody did");
}

#[test]
fn a_first_short_segment_waits_a_moment_for_the_response() {
    let mut side = Side::new();
    side.text(0, 535);
    assert!(!side.receiver.ack_is_due());
    side.wait(Duration::from_micros(4_999));
    assert!(!side.receiver.ack_is_due());
    side.wait(Duration::from_micros(1));
    assert!(side.receiver.ack_is_due(), "the response takes longer");

    let mut side = Side::new();
    side.text(0, 10);
    side.text(10, 20);
    assert!(side.receiver.ack_is_due(), "more of it");

    let mut side = Side::new();
    side.text(0, 536);
    assert!(
        side.receiver.ack_is_due(),
        "it may be full, and a short one be held back behind it"
    );
}

#[test]
fn the_first_segments_are_acknowledged_one_by_one() {
    let mut side = Side::new();
    side.text(0, 10);
    side.acknowledge();
    for number in 1..16 {
        side.text(number * 10, number * 10 + 10);
        assert!(side.receiver.ack_is_due(), "{number}");
        side.acknowledge();
    }
    side.text(160, 170);
    assert!(!side.receiver.ack_is_due());
}

#[test]
fn rules_that_forbid_delay_are_kept() {
    let mut side = Side::settled();
    side.config.delayed_ack = Duration::ZERO;
    side.text(0, 1);
    assert!(side.receiver.ack_is_due());
}

#[test]
fn gaps_their_filling_duplicates_and_a_fin_are_told_at_once() {
    let mut side = Side::settled();
    let mut at_once = |start, end, fin| {
        side.segment(start, end, fin);
        let due = side.receiver.ack_is_due();
        side.acknowledge();
        due
    };
    assert!(!at_once(0, 10, false));
    assert!(at_once(20, 30, false), "a gap");
    assert!(at_once(40, 50, false), "another");
    assert!(at_once(10, 20, false), "one is filled");
    assert!(at_once(30, 35, false), "a part of one");
    assert!(at_once(35, 40, false), "the rest");
    assert!(!at_once(50, 60, false));
    assert!(at_once(55, 65, false), "a duplicate in part");
    assert!(at_once(0, 10, false), "a duplicate");
    assert!(at_once(65, 70, true), "the end");
    assert!(at_once(65, 70, true), "the end again");
}

#[test]
fn what_is_asked_for_is_due() {
    let mut side = Side::settled();
    assert!(!side.receiver.ack_is_due());
    side.receiver.acknowledge_now();
    assert!(side.receiver.ack_is_due());
    side.acknowledge();
    assert!(!side.receiver.ack_is_due());
    assert_eq!(side.receiver.last_ack_sent(), seq(0));
}
