//! How much the peer may send.

use super::*;

/// Fills the window with full segments that nobody reads; the right edges that were told, each beside what had come.
fn fill(side: &mut Side) -> Vec<u32> {
    let mut edges = vec![side.edge()];
    while side.receiver.wnd() > 0 {
        let (start, edge) = (place(side.receiver.nxt()), side.edge());
        side.text(start, edge.min(start + 1448));
        edges.push(side.edge());
    }
    edges
}

/// A pool of which more than `parts` of eight are lent elsewhere.
fn lend(side: &mut Side, parts: usize) -> Vec<crate::pool::Chunk> {
    let count = side.pool.available() / 8 * parts + 1;
    (0..count).filter_map(|_| side.pool.take()).collect()
}

#[test]
fn the_first_window_is_that_of_the_rules_and_a_syn_has_no_scale() {
    let mut side = Side::new();
    assert_eq!(side.receiver.wnd(), 65_535, "as far as a SYN can say");
    assert_eq!(side.edge(), 65_536);
    side.config.receive_window = 10_000;
    let mut small = Side::with(side.config, Pool::new(1 << 20));
    assert_eq!(small.receiver.wnd(), 10_000);
    assert_eq!(
        small.edge(),
        10_240,
        "rounded up, since it was told in a SYN"
    );
}

#[test]
fn a_window_smaller_than_its_unit_is_one_unit() {
    let config = Config {
        receive_window: 100,
        ..Config::default()
    };
    let mut side = Side::with(config, Pool::new(1 << 20));
    for _ in 0..10 {
        let start = place(side.receiver.nxt());
        let edge = side.edge();
        assert_eq!(edge - start, 1024);
        side.text(start, edge);
        side.read(1024);
    }
}

#[test]
fn a_window_that_was_rounded_down_to_nothing_is_told_when_it_is_read() {
    let config = Config {
        receive_window: 1024,
        max_receive_window: 1024,
        ..Config::default()
    };
    let mut side = Side::with(config, Pool::new(1 << 20));
    let mut start = 0;
    // What is unread is more than twice the window then, or rounding would go up.
    while side.acknowledge().window > 0 {
        side.text(start, start + 1);
        start += 1;
    }
    assert!(side.receiver.wnd() > 0, "it is what was told before");
    side.read(2048);
    assert!(side.receiver.ack_is_due());
    assert_eq!(side.acknowledge().window, 1);
}

#[test]
fn without_a_scale_the_field_is_in_bytes_and_bounds_the_window() {
    let config = Config {
        window_scale: 0,
        receive_window: 1 << 20,
        ..Config::default()
    };
    let mut side = Side::with(config, Pool::new(16 << 20));
    assert_eq!(side.acknowledge().window, 65_535);
    side.text(0, 100);
    assert_eq!(side.acknowledge().window, 65_435);
    side.read(100);
    assert_eq!(side.acknowledge().window, 65_435, "too little to tell");
    side.text(100, 1548);
    side.read(1448);
    assert_eq!(side.acknowledge().window, 65_535);
}

#[test]
fn an_unread_window_runs_down_to_nothing_and_its_edge_never_retreats() {
    let mut side = Side::new();
    let edges = fill(&mut side);
    assert!(edges.is_sorted(), "{edges:?}");
    assert_eq!(
        (side.acknowledge().window, side.counters.to_zero_window),
        (0, 1)
    );
    let unread = side.receiver.readable();
    assert!(unread <= 2 * side.config.receive_window, "{unread}");
    assert_eq!(side.read(1 << 20).len(), unread);
}

#[test]
fn rounding_up_ends_where_a_peer_could_widen_its_window_with_it() {
    let mut side = Side::new();
    let mut told = side.edge();
    for start in 0.. {
        let most = 2 * side.config.receive_window;
        assert!(side.receiver.readable() <= most);
        if side.receiver.wnd() == 0 {
            break;
        }
        side.text(start, start + 1);
        let edge = side.edge();
        assert!(edge >= told || side.receiver.readable() > most - (1 << 10) - 65_536);
        assert!(edge + (1 << side.config.window_scale) > told);
        told = told.max(edge);
    }
    assert_eq!(side.acknowledge().window, 0);
}

#[test]
fn a_window_opens_by_enough_or_not_at_all() {
    let mut side = Side::new();
    fill(&mut side);
    let (edge, unread) = (side.edge(), side.receiver.readable());
    // What is unread has grown beyond the size by rounding, so the first bytes read open nothing.
    let mut read = 0;
    while !side.receiver.ack_is_due() {
        read += side.read(100).len();
        assert!(read < unread);
        if !side.receiver.ack_is_due() {
            assert_eq!(side.edge(), edge);
        }
    }
    let opened = side.edge() - edge;
    assert!((1448..1448 + 1024 + 100).contains(&opened), "{opened}");
    // It must double before it is worth another segment.
    let mut window = opened;
    for _ in 0..3 {
        while !side.receiver.ack_is_due() {
            side.read(100);
        }
        let doubled = side.edge() - edge;
        assert!(
            (2 * window..2 * window + 1024 + 1448).contains(&doubled),
            "{doubled}"
        );
        window = doubled;
    }
}

#[test]
fn the_window_grows_as_fast_as_a_reader_keeps_up() {
    let mut side = Side::new();
    let (mut start, mut flight) = (0, 14_480);
    for _ in 0..12 {
        let edge = side.edge();
        let end = edge.min(start + flight);
        while start < end {
            let next = end.min(start + 1448);
            side.text(start, next);
            side.read(1 << 16);
            side.acknowledge();
            start = next;
        }
        side.now += Duration::from_millis(20);
        side.receiver.on_round_trip(Duration::from_millis(20));
        // A sender in slow start.
        flight *= 2;
        let window = side.edge() - start;
        let wanted = flight.min(u32::try_from(side.config.max_receive_window).unwrap());
        assert!(window >= wanted, "{window} for {wanted}");
    }
    assert_eq!(
        side.receiver.space() as usize,
        side.config.max_receive_window
    );
}

/// Sends and reads `len` bytes by full segments, and acknowledges the last.
fn flow(side: &mut Side, len: u32) {
    let start = place(side.receiver.nxt());
    let end = start + len;
    for start in (start..end).step_by(1448) {
        side.text(start, end.min(start + 1448));
        side.read(1448);
    }
    side.acknowledge();
}

#[test]
fn a_peer_that_waits_for_window_tells_a_round_trip_without_timestamps() {
    let mut side = Side::new();
    for flight in [65_536, 65_536, 65_536] {
        side.now += Duration::from_millis(10);
        flow(&mut side, flight);
    }
    assert_eq!(side.receiver.round_trip(), Some(Duration::from_millis(10)));
    assert!(side.receiver.space() > 100_000);
}

#[test]
fn what_could_be_sent_before_tells_no_round_trip() {
    let mut side = Side::new();
    let first = side.receiver.wnd();
    side.acknowledge();
    side.now += Duration::from_millis(50);
    // Up to the edge that the SYN told, but not a byte further.
    flow(&mut side, first);
    assert_eq!(side.receiver.round_trip(), None);
    side.now += Duration::from_millis(10);
    flow(&mut side, 1);
    assert_eq!(side.receiver.round_trip(), Some(Duration::from_millis(60)));
}

/// A receiver that knows a round trip of 10 ms.
fn with_round_trip() -> Side {
    let mut side = Side::new();
    side.receiver.on_round_trip(Duration::from_millis(10));
    side
}

/// What flows in each of `count` round trips of 10 ms.
fn steadily(side: &mut Side, flight: u32, count: u32) {
    for _ in 0..count {
        side.now += Duration::from_millis(10);
        flow(side, flight);
    }
}

#[test]
fn a_steady_flow_gets_a_few_times_what_it_uses_and_keeps_it() {
    let mut side = with_round_trip();
    steadily(&mut side, 60_000, 50);
    let space = side.receiver.space();
    assert!((120_000..300_000).contains(&space), "{space}");
    // A little more would be worth less than it has.
    steadily(&mut side, 61_000, 5);
    assert_eq!(side.receiver.space(), space);
    steadily(&mut side, 1000, 50);
    assert_eq!(side.receiver.space(), space);
}

#[test]
fn a_slow_reader_or_a_slow_peer_gets_no_more() {
    let mut side = with_round_trip();
    for _ in 0..500 {
        side.now += Duration::from_millis(1);
        flow(&mut side, 1448);
    }
    assert_eq!(side.receiver.space(), 65_536);
}

#[test]
fn a_reader_that_comes_seldom_gets_no_more() {
    let mut side = with_round_trip();
    for _ in 0..20 {
        side.now += Duration::from_millis(100);
        flow(&mut side, 60_000);
    }
    assert_eq!(side.receiver.space(), 65_536);
}

#[test]
fn the_least_round_trip_counts_most() {
    let mut side = Side::new();
    let mut after = |millis| {
        side.receiver.on_round_trip(Duration::from_millis(millis));
        side.receiver.round_trip().unwrap().as_millis()
    };
    assert_eq!((after(100), after(20), after(100)), (100, 20, 30));
    assert!(after(u64::MAX / 4) < 600_000);
}

#[test]
fn scarce_memory_lets_windows_run_down_and_not_grow() {
    let mut side = Side::with(Config::default(), Pool::new(8 << 20));
    let lent = lend(&mut side, 5);
    side.receiver.on_round_trip(Duration::from_millis(1));
    let mut edge = side.edge();
    flow(&mut side, 40_000);
    side.now += Duration::from_millis(1);
    let mut start = 40_000;
    let mut least = edge;
    for _ in 0..200 {
        side.text(start, start + 1448);
        start += 1448;
        side.read(1448);
        let told = side.edge();
        assert!(told >= edge, "what was told is good");
        assert!(told - start < least || told - start <= 4 * 1448 + 1024);
        (edge, least) = (told, told - start);
    }
    assert!((2 * 1448..4 * 1448 + 1024).contains(&least), "{least}");
    assert_eq!(side.receiver.space(), 65_536);
    for chunk in lent {
        side.pool.give_back(chunk);
    }
    assert_eq!(side.edge() - start, 65_536, "memory is there again");
}

#[test]
fn scarce_memory_closes_no_window_for_good() {
    let config = Config {
        window_scale: 14,
        ..Config::default()
    };
    let mut side = Side::with(config, Pool::new(8 << 20));
    let _lent = lend(&mut side, 5);
    let mut start = 0;
    for _ in 0..50 {
        let edge = side.edge();
        assert!(edge > start, "a unit of 16 KiB is more than four segments");
        while start < edge {
            let next = edge.min(start + 1448);
            side.text(start, next);
            side.read(1448);
            start = next;
        }
    }
}
