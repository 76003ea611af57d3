//! Connections of the kernel's client that move to a repaired socket in the middle: with every option on and off, in both families, with
//! bytes in flight, unread, and behind gaps.
//!
//! What is moved comes from a kernel socket as well, which is taken apart (`repair/dump.rs`): so both ends' TCP is one that is
//! known to work, and what is judged is the move. Moves of our own TCP's connections are in `handover.rs`. Needs root.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers as well"
)]

#[path = "repair/dump.rs"]
mod dump;
#[path = "repair/first_flights.rs"]
mod first_flights;
#[path = "repair/selftest.rs"]
mod selftest;
#[path = "repair/start.rs"]
mod start;
#[path = "repair/world.rs"]
mod world;

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpStream},
    thread,
};

use dump::{Dumped, dump};
use lb_handover::{Options, Reinjector, Released, Repaired, out_of_order};
use lb_tests::tcp_server::pattern;
use world::{Ends, World, families};

/// What a connection has under way when it moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// Nothing.
    Idle,
    /// Bytes that the peer has not acknowledged, and more behind them that were not sent.
    InFlight,
    /// Bytes that the server has not read.
    Unread,
}

#[test]
fn a_moved_connection_loses_no_byte_in_either_direction() {
    let world = World::new();
    for off in [
        &[][..],
        &["tcp_timestamps"],
        &["tcp_sack"],
        &["tcp_window_scaling"],
        &["tcp_timestamps", "tcp_sack", "tcp_window_scaling"],
    ] {
        world.switch_off(off);
        for ip in families() {
            for moment in [Moment::Idle, Moment::InFlight, Moment::Unread] {
                eprintln!("{ip}, {moment:?}, without {off:?}");
                let mut ends = world.connect(ip);
                let rest = prepare(&world, &mut ends, moment);
                let client = ends.client.try_clone().unwrap();
                let dumped = move_out(&world, ends);
                check_in_flight(&dumped, moment);
                let released = move_in(&world, &dumped);
                check_mss(&released.socket, ip.is_ipv6(), off);
                assert!(dump::adapts_buffers(&released.socket));
                finish(released, &dumped.snapshot.unread, client, rest);
            }
        }
        world.switch_on(off);
    }
}

/// What is left of the pattern in each direction.
#[derive(Clone, Copy, Debug)]
struct Rest {
    /// From where on the server has to write.
    down: usize,
    /// From where on the client has to read.
    read_down: usize,
    /// From where on the client has to write.
    up: usize,
    /// From where on the server has to read.
    read_up: usize,
}

fn prepare(world: &World, ends: &mut Ends, moment: Moment) -> Rest {
    let text = pattern(LENGTH);
    // So that windows have opened.
    thread::scope(|scope| {
        let server = &mut ends.server;
        let writer = scope.spawn(|| server.write_all(&text[..WARM]).unwrap());
        expect(&mut ends.client, &text[..WARM]);
        writer.join().unwrap();
    });
    ends.client.write_all(&text[..SOME]).unwrap();
    expect(&mut ends.server, &text[..SOME]);
    let mut rest = Rest {
        down: WARM,
        read_down: WARM,
        up: SOME,
        read_up: SOME,
    };
    match moment {
        Moment::Idle => {}
        Moment::InFlight => {
            world.block();
            ends.server.set_nonblocking(true).unwrap();
            rest.down += ends.server.write(&text[WARM..]).unwrap();
        }
        Moment::Unread => {
            rest.up += SOME;
            ends.client.write_all(&text[SOME..rest.up]).unwrap();
            while ends.server.peek(&mut [0; SOME]).unwrap() < SOME {}
        }
    }
    rest
}

/// Takes a connection out of its socket, of which the client must not learn.
fn move_out(world: &World, ends: Ends) -> Dumped {
    world.block();
    dump(ends.server)
}

/// Makes the socket again and again: one that is dropped leaves no trace.
fn move_in(world: &World, dumped: &Dumped) -> Released {
    let sent = world.sent();
    for _ in 0..2 {
        drop(repaired(world, dumped));
    }
    let repaired = repaired(world, dumped);
    assert_eq!(world.sent(), sent, "nothing leaves before the release");
    world.unblock();
    let released = world.in_edge(|| repaired.release().unwrap());
    assert!(world.sent() > sent, "the probe of the window leaves");
    released
}

fn repaired(world: &World, dumped: &Dumped) -> Repaired {
    let options = Options::default();
    world.in_edge(|| Repaired::new(&dumped.key, &dumped.snapshot, dumped.clock, &options).unwrap())
}

fn check_in_flight(dumped: &Dumped, moment: Moment) {
    let in_flight = dumped.snapshot.nxt.since(dumped.snapshot.una);
    match moment {
        Moment::InFlight => assert!(in_flight >= MUCH, "a new socket's buffer would do"),
        Moment::Idle | Moment::Unread => assert_eq!(in_flight, 0),
    }
}

/// Segments are as large as before, from the first one on.
fn check_mss(socket: &TcpStream, is_ipv6: bool, off: &[&str]) {
    let expected = if is_ipv6 { 1440 } else { 1460 };
    let overhead = if off.contains(&"tcp_timestamps") {
        0
    } else {
        12
    };
    assert_eq!(dump::info(socket).tcpi_snd_mss, expected - overhead);
}

/// The rest in both directions at once, and FIN in both.
fn finish(released: Released, unread: &[u8], client: TcpStream, rest: Rest) {
    let text = pattern(LENGTH);
    let Released { socket, unsent } = released;
    socket.set_nonblocking(false).unwrap();
    let (mut server_reads, mut server_writes) = (socket.try_clone().unwrap(), socket);
    let (mut client_reads, mut client_writes) = (client.try_clone().unwrap(), client);
    let read_up = rest.read_up + unread.len();
    assert!(*unread == text[rest.read_up..read_up], "other bytes unread");
    thread::scope(|scope| {
        scope.spawn(|| {
            server_writes.write_all(&unsent).unwrap();
            server_writes.write_all(&text[rest.down..]).unwrap();
            server_writes.shutdown(Shutdown::Write).unwrap();
        });
        scope.spawn(|| {
            client_writes.write_all(&text[rest.up..]).unwrap();
            client_writes.shutdown(Shutdown::Write).unwrap();
        });
        scope.spawn(|| expect_end(&mut client_reads, &text[rest.read_down..]));
        expect_end(&mut server_reads, &text[read_up..]);
    });
}

fn expect(from: &mut TcpStream, text: &[u8]) {
    let mut got = vec![0; text.len()];
    from.read_exact(&mut got).unwrap();
    assert!(got == text, "other bytes");
}

/// These bytes and then FIN.
fn expect_end(from: &mut TcpStream, text: &[u8]) {
    let mut got = Vec::new();
    from.read_to_end(&mut got).unwrap();
    assert_eq!(got.len(), text.len());
    assert!(got == text, "other bytes");
}

/// The kernel lets a listener have the port of a connection only if both are willing, and leaving repair makes a socket unwilling.
#[test]
fn beside_a_moved_connection_there_can_be_a_new_listener() {
    let mut world = World::new();
    for ip in families() {
        let ends = world.connect(ip);
        let _client = ends.client.try_clone().unwrap();
        let dumped = move_out(&world, ends);
        let moved = move_in(&world, &dumped);
        world.listen_again();
        drop(moved);
    }
}

/// What was behind a gap is the socket's, and need not come again: the peer sends other bytes for it than those that the server reads.
#[test]
fn what_was_behind_a_gap_is_not_forgotten() {
    let world = World::new();
    for ip in families() {
        for with_fin in [false, true] {
            eprintln!("{ip}, FIN {with_fin}");
            let mut ends = world.connect(ip);
            ends.client.write_all(b"begin").unwrap();
            expect(&mut ends.server, b"begin");
            world.block();
            let mut dumped = dump(ends.server);
            // All of it is lost on its way.
            ends.client.write_all(&[b'a'; GAP]).unwrap();
            ends.client.write_all(&[b'b'; BEHIND]).unwrap();
            let start = dumped.snapshot.rcv_nxt + u32::try_from(GAP).unwrap();
            dumped.snapshot.out_of_order = vec![(start, vec![b'c'; BEHIND])];
            if with_fin {
                ends.client.shutdown(Shutdown::Write).unwrap();
                dumped.snapshot.fin = Some(start + u32::try_from(BEHIND).unwrap());
            }
            dumped.snapshot.timestamps = Some((dump::clock(&ends.client), 0));
            let repaired = repaired(&world, &dumped);
            let injected = world.in_edge(|| reinject(&dumped));
            assert_eq!(injected, BEHIND.div_ceil(1448) + usize::from(with_fin));
            let released = world.in_edge(|| repaired.release().unwrap());
            world.unblock();
            let mut server = released.socket;
            server.set_nonblocking(false).unwrap();
            let expected = [vec![b'a'; GAP], vec![b'c'; BEHIND]].concat();
            if with_fin {
                expect_end(&mut server, &expected);
            } else {
                expect(&mut server, &expected);
                ends.client.write_all(b"end").unwrap();
                expect(&mut server, b"end");
            }
            server.write_all(b"answer").unwrap();
            expect(&mut ends.client, b"answer");
        }
    }
}

fn reinject(dumped: &Dumped) -> usize {
    let reinjector = Reinjector::new().unwrap();
    let segments = out_of_order(&dumped.snapshot)
        .map(|(header, payload)| reinjector.inject(&dumped.key, &header, payload).unwrap());
    segments.count()
}

/// Bytes in each direction.
const LENGTH: usize = 4 << 20;
/// Bytes before the move.
const WARM: usize = 1 << 20;
/// More than a new socket's buffer takes.
const MUCH: u32 = 50_000;
/// A request's worth.
const SOME: usize = 4000;
/// Bytes of a segment that is lost, and of those behind it.
const GAP: usize = 1000;
const BEHIND: usize = 5000;
