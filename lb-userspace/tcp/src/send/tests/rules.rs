//! Handshake, windows, buffers, segments.

use super::*;

/// Sends as fast as the window allows for ten round trips.
fn grow(rig: &mut Rig) {
    for _ in 0..10 {
        let room = rig.sender.room(&world!(rig));
        rig.write(u32::try_from(room).unwrap());
        rig.send();
        rig.pass(100);
        rig.ack(rig.sender.nxt().since(Rig::seq(0)));
    }
    while rig.sender.queued() > 0 {
        rig.send();
        rig.ack(rig.sender.nxt().since(Rig::seq(0)));
    }
}

#[test]
fn the_handshake_opens_the_initial_window() {
    let mut rig = Rig::open();
    assert_eq!(rig.info().rtt, Some(Duration::from_millis(100)));
    rig.write(30 * MSS);
    assert_eq!(rig.send().len(), 10);
    rig.pass(100);
    rig.ack(2000);
    assert_eq!(rig.send().len(), 4, "slow start: two for each");
}

#[test]
fn data_waits_for_the_handshake() {
    let mut rig = Rig::closed(Config::default());
    rig.write(10);
    assert!(rig.poll().is_some_and(|t| t.syn));
    assert_eq!(rig.send(), []);
    assert_eq!((rig.sender.unsent(), rig.sender.unacked()), (10, 0));
    rig.sender.negotiated(MSS as usize, true, 0);
    rig.ack(0);
    assert_eq!(rig.send(), [(0, 10)]);
    assert_eq!((rig.sender.unsent(), rig.sender.unacked()), (0, 10));
}

#[test]
fn a_cookie_needs_no_syn() {
    let mut rig = Rig::closed(Config::default());
    rig.sender = Sender::new(ISS, MSS as usize, false, &world!(rig));
    rig.sender.negotiated(MSS as usize, true, 0);
    rig.write(10);
    assert_eq!(rig.send(), [], "the window is not known");
    rig.ack(0);
    assert_eq!(rig.send(), [(0, 10)]);
}

#[test]
fn the_last_segment_is_pushed_and_carries_the_fin() {
    let mut rig = Rig::open();
    rig.write(2500);
    rig.sender.close();
    assert_eq!(rig.sender.room(&world!(rig)), 0);
    let sent: Vec<_> = core::iter::from_fn(|| rig.poll()).collect();
    let flags: Vec<_> = sent.iter().map(|t| (t.len, t.push, t.fin)).collect();
    assert_eq!(
        flags,
        [
            (1000, false, false),
            (1000, false, false),
            (500, true, true)
        ]
    );
    rig.ack(2500);
    assert!(!rig.sender.fin_is_acked());
    assert_eq!(rig.sender.queued(), 0);
    rig.ack(2501);
    assert!(rig.sender.fin_is_acked() && rig.sender.is_idle());
    assert_eq!(rig.timer(), None);
}

#[test]
fn a_fin_alone_is_sent_and_sent_again() {
    let mut rig = Rig::open();
    rig.sender.close();
    assert!(rig.poll().is_some_and(|t| t.fin && t.len == 0));
    while rig.send().is_empty() {
        rig.fire();
    }
    assert_eq!(rig.counters.retrans_segs, 1);
    rig.ack(1);
    assert!(rig.sender.fin_is_acked());
}

#[test]
fn a_full_segment_with_a_fin_is_repeated_as_one() {
    let mut rig = Rig::open();
    rig.write(MSS);
    rig.sender.close();
    assert!(rig.poll().is_some_and(|t| t.fin && t.len == 1000));
    rig.fire();
    assert!(rig.poll().is_some_and(|t| t.fin && t.len == 1000 && t.push));
    assert_eq!(rig.poll(), None);
}

#[test]
fn all_memory_goes_back_when_all_is_acknowledged() {
    let mut rig = Rig::open();
    rig.flight(10);
    assert!(rig.pool.lent() > 0);
    rig.pass(100);
    rig.ack(10_000);
    assert_eq!(rig.pool.lent(), 0);
    rig.write(5);
    rig.sender.clear(&mut world!(rig));
    assert_eq!((rig.pool.lent(), rig.timer()), (0, None));
    assert_eq!(rig.sender.una(), Rig::seq(10_000));
}

#[test]
fn the_buffer_grows_with_the_window_unless_memory_is_scarce() {
    let mut rig = Rig::open();
    assert_eq!(rig.sender.room(&world!(rig)), MIN_SEND_BUFFER);
    grow(&mut rig);
    assert!(rig.info().cwnd > 40 * MSS);
    let cwnd = rig.info().cwnd as usize;
    assert_eq!(rig.sender.room(&world!(rig)), 2 * cwnd);
    rig.pool = Pool::new(1 << 16);
    rig.write(40_000);
    assert_eq!(rig.sender.room(&world!(rig)), MIN_SEND_BUFFER - 40_000);
    rig.config.max_send_buffer = 41_000;
    assert_eq!(rig.sender.room(&world!(rig)), 1000);
}

#[test]
fn the_peer_can_neither_make_segments_tiny_nor_larger_than_the_way() {
    let mut rig = Rig::closed(Config::default());
    rig.sender.negotiated(1, true, 12);
    assert_eq!(rig.sender.mss(), MIN_MSS);
    let mut rig = Rig::closed(Config::default());
    rig.sender.negotiated(65_535, true, 12);
    assert_eq!(rig.sender.mss(), MSS as usize - 12);
}

#[test]
fn the_peers_window_is_not_exceeded_and_small_openings_are_waited_out() {
    let mut rig = Rig::open();
    rig.window = 2500;
    rig.peer += 1;
    rig.ack(0);
    rig.write(5000);
    assert_eq!(rig.send(), [(0, 1000), (1000, 1000)], "500 bytes are silly");
    rig.ack(1000);
    assert_eq!(rig.send(), [(2000, 1000)]);
    rig.window = 0;
    rig.ack(3000);
    assert_eq!(rig.send(), []);
}

#[test]
fn small_segments_count_like_full_ones() {
    let mut rig = Rig::open();
    for _ in 0..20 {
        rig.write(10);
        rig.send();
    }
    assert_eq!(rig.info().unacked, 10, "not 20, though they are 200 bytes");
    rig.pass(100);
    rig.ack(10);
    assert_eq!(rig.send(), [(100, 100)], "what waited goes together");
}

#[test]
fn a_narrower_way_cuts_what_is_in_flight_again_without_a_response() {
    let mut rig = Rig::open();
    rig.flight(3);
    let cwnd = rig.info().cwnd;
    rig.sender.reduce_mss(600, &mut world!(rig));
    assert_eq!(
        rig.send(),
        [
            (0, 600),
            (600, 400),
            (1000, 600),
            (1600, 400),
            (2000, 600),
            (2600, 400)
        ]
    );
    assert_eq!((rig.info().cwnd, rig.info().in_recovery), (cwnd, false));
    rig.write(1000);
    assert_eq!(rig.send(), [(3000, 600), (3600, 400)]);
    rig.sender.reduce_mss(900, &mut world!(rig));
    assert_eq!(rig.sender.mss(), 600, "never up again");
}

#[test]
fn an_idle_connection_starts_slowly_again() {
    let mut rig = Rig::open();
    grow(&mut rig);
    assert!(rig.info().cwnd > 40 * MSS);
    rig.pass(2000);
    rig.write(60_000);
    assert_eq!(rig.send().len(), 10);
}

#[test]
fn a_window_that_is_not_used_does_not_grow() {
    let mut rig = Rig::open();
    for n in 1..50 {
        rig.flight(1);
        rig.pass(100);
        rig.ack(n * MSS);
    }
    assert_eq!(rig.info().cwnd, 10 * MSS);
}

#[test]
fn acknowledgements_of_what_was_never_sent_change_nothing() {
    let mut rig = Rig::open();
    rig.flight(2);
    rig.window = 1;
    rig.peer += 1;
    rig.ack(2001);
    rig.ack(u32::MAX - 10);
    assert_eq!(rig.sender.una(), Rig::seq(0));
    assert_eq!(rig.sender.wnd(), 1 << 24);
}

#[test]
fn pacing_spreads_a_window() {
    let config = Config {
        pacing: true,
        ..Config::default()
    };
    let mut rig = Rig::opened(config, true);
    rig.write(30 * MSS);
    let mut left = rig.send().len();
    assert!(left < 10, "not all at once");
    let start = rig.now;
    while left < 10 {
        rig.fire();
        left += rig.send().len();
    }
    let took = rig.now.since(start);
    // 10 segments at 200 % of 10 per 100 ms.
    assert!(took > Duration::from_millis(40) && took < Duration::from_millis(50));
    assert!(rig.timer().is_some_and(|ms| ms > 100), "the window is full");
}
