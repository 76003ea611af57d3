//! What a moved socket begins with: the round trip and the congestion window of the connection before, as far as it can be told.

use std::time::Duration;

use lb_handover::{Options, Reinjector, Released, Repaired};

use crate::{
    Moment,
    dump::{self, Dumped},
    finish, move_out, prepare,
    world::{World, families},
};

/// Tells a new socket of the past, which must make nothing leave.
pub(crate) fn with_history(world: &World, dumped: &Dumped, options: &Options) -> Repaired {
    let sent = world.sent();
    let repaired = world.in_edge(|| {
        let reinjector = Reinjector::new().unwrap();
        let Dumped {
            key,
            snapshot,
            clock,
        } = dumped;
        Repaired::with_history(key, snapshot, *clock, options, &reinjector).unwrap()
    });
    assert_eq!(world.sent(), sent, "nothing leaves before the release");
    repaired
}

#[test]
fn a_moved_socket_knows_round_trip_and_window() {
    let world = World::new();
    for ip in families() {
        for (moment, segments, expected) in [
            (Moment::Idle, 1, 10),
            (Moment::Idle, 40, 40),
            (Moment::InFlight, 40, 40),
            (Moment::Idle, 10_000, 138),
        ] {
            eprintln!("{ip}, {moment:?}, {segments}");
            let mut ends = world.connect(ip);
            let rest = prepare(&world, &mut ends, moment);
            let client = ends.client.try_clone().unwrap();
            let mut dumped = move_out(&world, ends);
            let snapshot = &mut dumped.snapshot;
            snapshot.timestamps = Some((dump::clock(&client), 0));
            snapshot.srtt = Some(Duration::from_millis(25));
            snapshot.cwnd = segments * u32::from(snapshot.mss - 12);
            let repaired = with_history(&world, &dumped, &Options::default());
            let released = world.in_edge(|| repaired.release().unwrap());
            check(&released, &dumped, expected);
            world.unblock();
            finish(released, &dumped.snapshot.unread, client, rest);
        }
    }
}

fn check(released: &Released, dumped: &Dumped, cwnd: u32) {
    let info = dump::info(&released.socket);
    let snapshot = &dumped.snapshot;
    assert_eq!(info.tcpi_snd_cwnd, cwnd);
    // The socket's clock may have ticked meanwhile, and this thread have waited.
    assert!(
        (25_000..1_000_000).contains(&info.tcpi_rtt),
        "{}",
        info.tcpi_rtt
    );
    assert!(info.tcpi_rto < 3_000_000, "not that of a first SYN");
    let in_flight = snapshot.nxt.since(snapshot.una);
    let segments = in_flight.div_ceil(info.tcpi_snd_mss);
    // What is in flight is cut into segments anew, at most one of which for each write is not a full one.
    assert!(
        info.tcpi_unacked.abs_diff(segments) <= 1,
        "{}",
        info.tcpi_unacked
    );
}

#[test]
fn without_a_round_trip_or_timestamps_there_is_no_past() {
    let world = World::new();
    for ip in families() {
        let mut ends = world.connect(ip);
        let rest = prepare(&world, &mut ends, Moment::Idle);
        let client = ends.client.try_clone().unwrap();
        let mut dumped = move_out(&world, ends);
        dumped.snapshot.srtt = None;
        let repaired = with_history(&world, &dumped, &Options::default());
        let released = world.in_edge(|| repaired.release().unwrap());
        let info = dump::info(&released.socket);
        assert_eq!((info.tcpi_snd_cwnd, info.tcpi_rtt), (10, 0));
        world.unblock();
        finish(released, &dumped.snapshot.unread, client, rest);
    }
}
