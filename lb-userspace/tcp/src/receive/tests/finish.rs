//! The peer's FIN, in its order and out of it.

use super::*;

#[test]
fn a_fin_counts_as_a_number_and_not_as_a_byte() {
    let mut side = Side::new();
    let arrival = side.segment(0, 100, true);
    assert_eq!((arrival.readable, arrival.finished), (100, true));
    assert!(side.receiver.is_finished());
    assert_eq!(side.told(), (101, vec![]));
    assert_eq!(side.read(200), stream(0, 100));
    assert!(side.receiver.is_finished());
    assert_eq!(side.segment(0, 100, true), Arrival::default());
    assert_eq!(side.told(), (101, vec![(0, 101)]));
}

#[test]
fn a_fin_behind_a_gap_is_remembered() {
    let mut side = Side::new();
    side.segment(100, 200, true);
    assert_eq!(side.told(), (0, vec![(100, 201)]));
    assert!(!side.receiver.is_finished());
    let arrival = side.text(0, 100);
    assert_eq!((arrival.readable, arrival.finished), (200, true));
    assert_eq!(side.told(), (201, vec![]));
    // Without text of its own.
    let mut side = Side::new();
    side.segment(100, 100, true);
    assert_eq!(side.told(), (0, vec![(100, 101)]));
    side.text(0, 50);
    let arrival = side.text(50, 100);
    assert_eq!((arrival.readable, arrival.finished), (50, true));
    assert_eq!(side.read(200), stream(0, 100));
    assert_eq!(side.pool.lent(), 0);
}

#[test]
fn a_fin_after_old_text_counts() {
    let mut side = Side::new();
    side.text(0, 100);
    let arrival = side.segment(50, 100, true);
    assert_eq!((arrival.readable, arrival.finished), (0, true));
    assert_eq!(side.told(), (101, vec![(50, 100)]));
}

#[test]
fn a_fin_needs_no_window() {
    let mut side = Side::new();
    let edge = side.edge();
    let mut start = 0;
    while start < edge {
        let end = edge.min(start + 1448);
        side.text(start, end);
        start = end;
    }
    let full = side.edge();
    assert_eq!(side.receiver.wnd(), full - edge);
    side.text(edge, full);
    while side.receiver.wnd() > 0 {
        let (start, end) = (place(side.receiver.nxt()), side.edge());
        side.text(start, end);
    }
    let closed = side.edge();
    assert!(side.receiver.is_acceptable(seq(closed), 1));
    assert!(side.segment(closed, closed, true).finished);
    assert_eq!(side.edge(), closed + 1);
}

#[test]
fn a_second_end_and_text_behind_the_end_are_not_believed() {
    let mut side = Side::new();
    side.segment(100, 200, true);
    for (start, end, fin) in [
        (150, 250, false),
        (201, 250, true),
        (50, 80, true),
        (100, 201, true),
    ] {
        assert_eq!(side.segment(start, end, fin), Arrival::default());
    }
    let arrival = side.segment(0, 300, true);
    assert_eq!((arrival.readable, arrival.finished), (200, true));
    side.acknowledge();
    assert_eq!(side.text(201, 300), Arrival::default());
    assert!(
        side.receiver.ack_is_due(),
        "the peer may not know that we know"
    );
    assert_eq!(side.told().0, 201);
    assert_eq!(side.read(300), stream(0, 200));
    // Bytes that were kept are not given up for an end before them.
    let mut side = Side::new();
    side.text(100, 200);
    side.segment(0, 50, true);
    assert_eq!(side.told(), (50, vec![(100, 200)]));
    assert_eq!(side.segment(50, 200, true).readable, 150);
    assert!(side.receiver.is_finished());
}

#[test]
fn behind_the_end_no_window_needs_to_be_told() {
    let mut side = Side::new();
    side.segment(0, 60_000, true);
    side.acknowledge();
    assert_eq!(side.read(60_000).len(), 60_000);
    assert!(!side.receiver.ack_is_due());
}
