//! Where no more connections can move: each has a socket, and a process has only so many. Those that can't move stay, and go on.

use std::{fs, net::TcpStream, sync::Barrier, thread};

use lb_tests::moves::{
    Conditions,
    client::{PATIENCE, carry, end},
    request::{Kind, Order, Request},
    while_serving,
};
use lb_transport::af_xdp::MoveLimits;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Connections at a time.
const CONNECTIONS: usize = 20;
/// Of them, those for which there is room.
const ROOM: usize = 5;

#[test]
fn out_of_descriptors_connections_stay_and_go_on() {
    let (moved, counted) = transfers(Conditions::default(), true);
    assert!(0 < moved && moved <= ROOM, "{moved} moved");
    let failed = usize::try_from(counted.failed).unwrap();
    assert_eq!(failed + moved, CONNECTIONS, "{counted:?}");
}

#[test]
fn above_the_budget_connections_stay_and_go_on() {
    let conditions = Conditions {
        limits: MoveLimits {
            per_second: 1_000_000,
            connections: ROOM,
        },
        ..Conditions::default()
    };
    let (moved, counted) = transfers(conditions, false);
    assert_eq!(moved, ROOM);
    assert_eq!(counted.refused_connections, (CONNECTIONS - ROOM) as u64);
}

#[test]
fn above_the_rate_connections_stay_and_go_on() {
    let conditions = Conditions {
        limits: MoveLimits {
            per_second: 1,
            connections: 1000,
        },
        ..Conditions::default()
    };
    let (moved, counted) = transfers(conditions, false);
    assert!(0 < moved && moved < CONNECTIONS, "{moved} moved");
    let refused = usize::try_from(counted.refused_rate).unwrap();
    assert_eq!(moved + refused, CONNECTIONS, "{counted:?}");
}

/// Transfers on connections that are open at once, from before the first of them moves to after the last: how many did.
fn transfers(
    conditions: Conditions<'_>,
    short_of_descriptors: bool,
) -> (usize, lb_transport::af_xdp::MoveCounters) {
    let (moved, served) = while_serving(conditions, |running| {
        let address = running.addresses[0];
        let connect = || TcpStream::connect(address).unwrap();
        let streams = running.in_client(|| [(); CONNECTIONS].map(|()| connect()))?;
        let limit = short_of_descriptors.then(|| Limit::leaving(ROOM));
        let all_asked = Barrier::new(CONNECTIONS);
        thread::scope(|scope| {
            for stream in &streams {
                scope.spawn(|| {
                    carry(stream, REQUEST).unwrap();
                    // Nobody makes room for another.
                    all_asked.wait();
                    end(stream, REQUEST).unwrap();
                });
            }
        });
        let outcomes = streams.iter().map(|_| {
            let outcome = running.outcomes.recv_timeout(PATIENCE).unwrap();
            assert_eq!(outcome.result, Ok(()), "{outcome:?}");
            outcome.moved
        });
        let moved = outcomes.filter(|moved| *moved).count();
        drop(limit);
        Ok(moved)
    })
    .unwrap();
    assert_eq!(served.resets(), 0, "{served:?}");
    (moved, served.engine.moves)
}

const REQUEST: Request = Request {
    kind: Kind::Echo,
    order: Order::Right,
    server_closes: false,
    length: 2_000_000,
    move_at: 200_000,
};

/// A lower limit of open files, until dropped. Other tests of this program wait for the lab meanwhile, and open none.
struct Limit {
    soft: u64,
    hard: u64,
}

impl Limit {
    /// Leaves so many that may still be opened.
    fn leaving(room: usize) -> Self {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        let open: Vec<u64> = fs::read_dir("/proc/self/fd")
            .unwrap()
            .map(|entry| {
                entry
                    .unwrap()
                    .file_name()
                    .to_str()
                    .unwrap()
                    .parse()
                    .unwrap()
            })
            .collect();
        // Without that of the directory, which is closed now.
        let is_open =
            |fd: &u64| open.contains(fd) && fs::read_link(format!("/proc/self/fd/{fd}")).is_ok();
        // The kernel gives the least that is free, below the limit.
        let mut free = (0..soft).filter(|fd| !is_open(fd));
        let limit = free.nth(room).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, limit, hard).unwrap();
        Self { soft, hard }
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        setrlimit(Resource::RLIMIT_NOFILE, self.soft, self.hard).unwrap();
    }
}
