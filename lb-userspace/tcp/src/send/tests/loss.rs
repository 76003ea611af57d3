//! Losses found by SACK and time, by duplicates, and what is answered to them.

use super::*;
use crate::send::records::State;

/// States of all records, as letters.
fn board(rig: &Rig) -> std::string::String {
    (0..rig.sender.records.len())
        .filter_map(|index| rig.sender.records.get(index))
        .map(|record| match (record.state, record.retransmitted) {
            (State::InFlight, false) => 'f',
            (State::InFlight, true) => 'r',
            (State::Sacked, _) => 's',
            (State::Lost, _) => 'L',
        })
        .collect()
}

#[test]
fn three_sacked_segments_prove_a_loss() {
    let mut rig = Rig::open();
    rig.flight(5);
    rig.pass(100);
    rig.sack(0, &[(1000, 2000)]);
    assert_eq!(board(&rig), "fsfff");
    rig.sack(0, &[(1000, 3000)]);
    assert_eq!(board(&rig), "fssff");
    rig.sack(0, &[(1000, 4000)]);
    assert_eq!(board(&rig), "Lsssf");
    assert_eq!(rig.send()[0], (0, 1000));
    assert_eq!(board(&rig), "rsssf");
    let info = rig.info();
    assert!(info.in_recovery);
    assert_eq!((info.sacked, info.lost, info.retrans), (3, 0, 1));
    assert_eq!(info.ssthresh, Some(7 * MSS));
    assert_eq!(rig.counters.sack_recovery, 1);
    rig.pass(100);
    rig.ack(5000);
    assert!(!rig.info().in_recovery);
    assert_eq!(rig.info().cwnd, 7 * MSS);
}

#[test]
fn a_late_segment_is_waited_for_a_quarter_of_a_round_trip() {
    let mut rig = Rig::open();
    rig.flight(2);
    rig.pass(100);
    rig.sack(0, &[(1000, 2000)]);
    assert_eq!(board(&rig), "fs");
    assert_eq!(rig.timer(), Some(25), "the reordering timer");
    rig.pass(24);
    rig.sack(0, &[(1000, 2000)]);
    assert_eq!(board(&rig), "fs");
    rig.fire();
    assert_eq!(rig.send(), [(0, 1000)]);
}

#[test]
fn a_late_segment_that_comes_in_time_is_not_lost_and_widens_the_window() {
    let mut rig = Rig::open();
    rig.flight(3);
    rig.pass(100);
    rig.sack(0, &[(1000, 2000)]);
    rig.pass(10);
    rig.ack(2000);
    assert!(rig.info().reordering);
    assert_eq!(rig.counters.retrans_segs, 0);
    // With reordering seen, three sacked segments prove nothing.
    rig.ack(3000);
    rig.flight(5);
    rig.pass(100);
    rig.sack(3000, &[(4000, 8000)]);
    assert_eq!(board(&rig), "fssss");
    assert_eq!(rig.timer(), Some(25));
}

#[test]
fn duplicates_told_widen_the_reordering_window_once_a_round_trip() {
    let mut rig = Rig::open();
    rig.flight(6);
    rig.pass(100);
    rig.sack(0, &[(2000, 6000)]);
    assert_eq!(rig.send(), [(0, 1000), (1000, 1000)]);
    rig.pass(10);
    // The originals arrive, then the retransmissions.
    rig.ack(6000);
    rig.flight(2);
    rig.sack(6000, &[(0, 1000)]);
    rig.sack(6000, &[(1000, 2000)]);
    rig.pass(100);
    rig.sack(6000, &[(7000, 8000)]);
    assert_eq!(rig.timer(), Some(50), "half of the least round trip");
}

#[test]
fn a_duplicate_of_a_tail_loss_probe_says_nothing_of_reordering() {
    let mut rig = Rig::open();
    rig.flight(3);
    rig.fire();
    assert_eq!(rig.send(), [(2000, 1000)]);
    rig.sack(3000, &[(2000, 3000)]);
    rig.flight(2);
    rig.pass(100);
    rig.sack(3000, &[(4000, 5000)]);
    assert_eq!(rig.timer(), Some(25));
}

#[test]
fn a_second_hole_is_found_while_the_first_is_being_repaired() {
    let mut rig = Rig::open();
    rig.flight(8);
    rig.pass(100);
    rig.sack(0, &[(1000, 4000)]);
    assert_eq!(rig.send()[0], (0, 1000));
    assert_eq!(board(&rig), "rsssffff");
    rig.sack(0, &[(5000, 6000), (1000, 4000)]);
    assert_eq!(board(&rig), "rsssLsff");
}

#[test]
fn blocks_out_of_order_are_no_reordering() {
    let mut rig = Rig::open();
    rig.flight(6);
    rig.pass(100);
    rig.sack(0, &[(4000, 5000), (1000, 2000)]);
    assert!(!rig.info().reordering);
}

#[test]
fn what_the_peer_has_no_room_for_any_more_is_not_sent_again() {
    let mut rig = Rig::open();
    rig.flight(6);
    rig.pass(100);
    rig.window = 2500;
    rig.peer += 1;
    rig.sack(0, &[(1000, 3000), (4000, 6000)]);
    assert_eq!(board(&rig), "LssLss");
    assert_eq!(rig.send(), [(0, 1000)]);
    rig.pass(100);
    rig.sack(3000, &[(4000, 6000)]);
    assert_eq!(rig.send(), [(3000, 1000)]);
}

#[test]
fn a_lost_retransmission_is_found_by_what_left_after_it() {
    let mut rig = Rig::open();
    rig.write(20 * MSS);
    rig.send();
    rig.pass(100);
    rig.sack(0, &[(1000, 10_000)]);
    let sent = rig.send();
    assert_eq!(sent[0], (0, 1000));
    assert!(sent.len() > 1, "new data follows the retransmission");
    rig.pass(100);
    rig.sack(0, &[(1000, 11_000)]);
    assert_eq!(rig.send()[0], (0, 1000), "lost again");
    assert_eq!(rig.counters.sack_recovery, 1, "but one recovery");
}

#[test]
fn blocks_that_lie_are_ignored() {
    let mut rig = Rig::open();
    rig.flight(5);
    rig.pass(100);
    for block in [
        (2000, 1000),
        (1000, 5001),
        (4000, 4_000_000_000),
        (3_000_000_000, 2000),
        (1500, 1500),
        (1001, 1999),
        (500, 1500),
    ] {
        rig.sack(0, &[(9000, 9000), block]);
        assert_eq!(board(&rig), "fffff", "{block:?}");
    }
    rig.sack(0, &[(1500, 3500), (1000, 2000), (1000, 2000)]);
    assert_eq!(board(&rig), "fssff", "overlapping blocks count once");
    assert_eq!(rig.info().sacked, 2);
}

#[test]
fn a_block_of_single_bytes_counts_once_it_covers_a_segment() {
    let mut rig = Rig::open();
    rig.flight(2);
    rig.pass(100);
    rig.sack(0, &[(1000, 1500)]);
    assert_eq!(board(&rig), "ff");
    rig.sack(0, &[(1000, 2000)]);
    assert_eq!(board(&rig), "fs");
}

#[test]
fn a_partly_acknowledged_segment_keeps_its_rest() {
    let mut rig = Rig::open();
    rig.flight(2);
    rig.pass(100);
    rig.ack(300);
    assert_eq!((rig.sender.una(), rig.info().unacked), (Rig::seq(300), 2));
    rig.sack(300, &[(1000, 2000)]);
    rig.pass(30);
    rig.fire();
    assert_eq!(rig.send(), [(300, 700)]);
}

#[test]
fn without_sack_three_duplicates_prove_a_loss_and_partial_acknowledgements_the_next() {
    let mut rig = Rig::opened(Config::default(), false);
    rig.write(30 * MSS);
    assert_eq!(rig.send().len(), 10);
    rig.pass(100);
    rig.ack(0);
    assert_eq!(rig.send(), [(10_000, 1000)], "limited transmit (RFC 3042)");
    rig.ack(0);
    assert_eq!(rig.send(), [(11_000, 1000)]);
    rig.ack(0);
    assert_eq!(rig.send(), [(0, 1000)]);
    assert_eq!(rig.counters.reno_recovery, 1);
    rig.pass(100);
    rig.ack(5000);
    assert_eq!(rig.send()[0], (5000, 1000), "the next hole");
    assert!(rig.info().in_recovery);
    rig.pass(100);
    rig.ack(12_000);
    assert!(!rig.info().in_recovery);
    assert_eq!(rig.info().cwnd, 7 * MSS);
}

#[test]
fn without_sack_duplicates_of_old_retransmissions_begin_no_recovery() {
    let mut rig = Rig::opened(Config::default(), false);
    rig.flight(10);
    rig.fire();
    rig.send();
    rig.pass(10);
    for _ in 0..5 {
        rig.ack(0);
    }
    rig.send();
    assert_eq!(rig.counters.reno_recovery, 0);
}

#[test]
fn without_sack_duplicates_after_a_timeout_are_echoes_of_its_retransmissions() {
    let mut rig = Rig::opened(Config::default(), false);
    rig.flight(10);
    rig.fire();
    rig.send();
    rig.pass(10);
    rig.ack(10_000);
    assert!(!rig.info().in_recovery);
    rig.flight(1);
    rig.flight(1);
    rig.write(5 * MSS);
    rig.send();
    for _ in 0..5 {
        rig.ack(10_000);
        rig.send();
    }
    assert_eq!(rig.counters.reno_recovery, 0);
}

#[test]
fn what_waited_behind_a_hole_gives_no_round_trip() {
    let mut rig = Rig::opened(Config::default(), false);
    rig.flight(5);
    rig.pass(100);
    for _ in 0..3 {
        rig.ack(0);
    }
    assert_eq!(rig.send()[0], (0, 1000));
    rig.pass(400);
    rig.ack(5000);
    assert_eq!(rig.info().rtt, Some(Duration::from_millis(100)));
}

#[test]
fn more_duplicates_than_segments_do_not_speed_us_up() {
    let mut rig = Rig::opened(Config::default(), false);
    rig.write(60 * MSS);
    rig.send();
    rig.pass(100);
    for _ in 0..1000 {
        rig.ack(0);
        rig.send();
    }
    assert!(rig.info().unacked < 30, "{}", rig.info().unacked);
}

#[test]
fn a_recovery_in_error_is_taken_back_by_duplicates_told() {
    let mut rig = Rig::open();
    rig.flight(5);
    rig.pass(100);
    rig.sack(0, &[(1000, 4000)]);
    rig.send();
    assert_eq!(rig.info().ssthresh, Some(7 * MSS));
    rig.pass(5);
    rig.ack(5000);
    rig.sack(5000, &[(0, 1000)]);
    assert_eq!((rig.info().cwnd, rig.info().ssthresh), (10 * MSS, None));
    assert_eq!(rig.counters.undo, 1);
}

#[test]
fn duplicates_that_we_did_not_make_take_nothing_back() {
    let mut rig = Rig::open();
    rig.flight(5);
    rig.pass(100);
    rig.sack(0, &[(1000, 4000)]);
    rig.send();
    rig.ack(1000);
    // Before the recovery began, and then none of ours.
    for _ in 0..3 {
        rig.sack(1000, &[(u32::MAX - 1000, 0)]);
    }
    assert_eq!(rig.counters.undo, 0);
    assert_eq!(rig.info().ssthresh, Some(7 * MSS));
}

#[test]
fn a_recovery_in_error_is_taken_back_by_an_old_echo() {
    let mut rig = Rig::open();
    let first = u64::from(rig.now.millis());
    rig.flight(5);
    rig.pass(100);
    rig.echo = Some(first);
    rig.sack(0, &[(1000, 4000)]);
    rig.send();
    rig.pass(20);
    // The original of the first segment arrives: its time is echoed.
    rig.ack(4000);
    assert_eq!(rig.counters.undo, 1);
    assert_eq!((rig.info().cwnd, rig.info().in_recovery), (10 * MSS, false));
}

#[test]
fn an_old_echo_takes_nothing_back_while_another_repair_is_on_its_way() {
    let mut rig = Rig::open();
    let first = u64::from(rig.now.millis());
    rig.flight(8);
    rig.pass(100);
    rig.echo = Some(first);
    rig.sack(0, &[(1000, 4000), (5000, 8000)]);
    assert_eq!(rig.send(), [(0, 1000), (4000, 1000)]);
    rig.pass(20);
    rig.sack(4000, &[(5000, 8000)]);
    assert_eq!((rig.counters.undo, board(&rig).as_str()), (0, "rsss"));
}

#[test]
fn an_old_echo_for_something_else_takes_nothing_back() {
    let mut rig = Rig::open();
    let first = u64::from(rig.now.millis());
    rig.flight(8);
    rig.pass(100);
    // The second is lost; the acknowledgement of the first is late.
    rig.echo = Some(first);
    rig.sack(1000, &[(2000, 5000)]);
    assert_eq!(rig.send()[0], (1000, 1000));
    rig.ack(1000);
    rig.pass(100);
    rig.echo = Some(u64::from(rig.now.millis()) - 100);
    rig.ack(8000);
    assert_eq!(rig.counters.undo, 0);
    // Behind the recovery an old echo is nothing either.
    rig.flight(1);
    rig.echo = Some(first);
    rig.ack(9000);
    assert_eq!(rig.counters.undo, 0);
}

#[test]
fn a_new_echo_takes_nothing_back() {
    let mut rig = Rig::open();
    rig.flight(5);
    rig.pass(100);
    rig.sack(0, &[(1000, 4000)]);
    rig.send();
    rig.echo = Some(u64::from(rig.now.millis()));
    rig.pass(100);
    rig.ack(5000);
    assert_eq!(rig.counters.undo, 0);
}
