//! Our TCP against the kernel's over veth: both families, both directions, loss, every way to close, options off in turn.
//!
//! The client is the kernel, so every byte crosses two independent implementations, and every byte is looked at. Needs
//! root and the objects that `cargo xtask build-ebpf` built. Loss is by segment and seed, not by time, and no figure is
//! judged: how fast ours is says `cargo xtask bench tcp`. Not here: rules of RFC 9293 that no kernel client can provoke
//! (scripts of the engine's own package).
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers as well"
)]

#[path = "tcp/edge.rs"]
mod edge;

use std::{
    fs,
    io::{ErrorKind, Read as _, Write as _},
    net::{IpAddr, Shutdown, SocketAddr, TcpStream},
    process::Command,
    thread,
    time::Duration,
};

use edge::{Conditions, Running, Service, Wires, families, while_serving, while_serving_under};
use lb_tests::tcp_server::{pattern, pattern_at};
use socket2::SockRef;

/// Transfers at a time: each direction, several times.
const AT_ONCE: usize = 8;

#[test]
fn without_loss_every_byte_arrives() {
    let wires = transfers(0, 1 << 20, &[]);
    assert_eq!((wires.to_client.lost, wires.to_edge.lost), (0, 0));
}

#[test]
fn at_one_percent_loss_every_byte_arrives() {
    let wires = transfers(10, 4 << 20, &[]);
    assert!(wires.to_client.lost > 0 && wires.to_edge.lost > 0);
}

#[test]
fn at_five_percent_loss_every_byte_arrives() {
    let wires = transfers(50, 1 << 20, &[]);
    assert!(wires.to_client.lost > 0 && wires.to_edge.lost > 0);
}

#[test]
fn without_timestamps_every_byte_arrives() {
    transfers(10, 1 << 20, &["tcp_timestamps"]);
}

#[test]
fn without_sack_every_byte_arrives() {
    transfers(10, 1 << 20, &["tcp_sack"]);
}

#[test]
fn without_window_scaling_every_byte_arrives() {
    transfers(10, 1 << 20, &["tcp_window_scaling"]);
}

#[test]
fn without_any_option_every_byte_arrives() {
    let all = ["tcp_timestamps", "tcp_sack", "tcp_window_scaling"];
    transfers(10, 1 << 20, &all);
}

/// In the middle of uploads, downloads and echoes, at full rate and all at once: each moves, and no client notices.
#[test]
fn connections_that_move_to_the_kernel_lose_nothing() {
    let wires = moving(MOVES, 20);
    assert_eq!(moved(&wires), 2 * 20 * AT_ONCE, "{wires:?}");
}

#[test]
fn at_one_percent_loss_connections_that_move_lose_nothing() {
    let conditions = Conditions {
        permille: 10,
        ..MOVES
    };
    let wires = moving(conditions, 5);
    assert_eq!(moved(&wires), 2 * 5 * AT_ONCE, "{wires:?}");
    assert!(wires.to_client.lost > 0 && wires.to_edge.lost > 0);
}

/// What the engine has taken and not sent is more than the socket has room for, and nobody writes again: it leaves all the same.
#[test]
fn a_connection_that_moves_with_more_unsent_than_fits_sends_it_all() {
    let conditions = Conditions {
        move_at: Some(LENGTH),
        ..MOVES
    };
    let wires = while_serving_under(conditions, |running| {
        let shrink = || fs::write("/proc/sys/net/ipv4/tcp_wmem", "4096 4096 4096").unwrap();
        lb_tests::lab::Namespace::edge().run(shrink).unwrap();
        for ip in families() {
            in_client(running, || {
                let mut stream = connect(Service::Download.at(ip));
                ask(&mut stream, LENGTH);
                // The client's window is smaller than that, and does not grow while nobody reads.
                thread::sleep(SHORT);
                expect_pattern(&mut stream, LENGTH);
            });
        }
    });
    assert_eq!(moved(&wires), 2, "{wires:?}");
}

#[test]
fn connections_that_may_not_move_stay_and_lose_nothing() {
    let conditions = Conditions {
        moved_at_most: 0,
        ..MOVES
    };
    let wires = moving(conditions, 1);
    assert_eq!(moved(&wires), 0);
    let moves = wires.counters.moves;
    assert!(moves.refused_connections >= 2 * AT_ONCE as u64, "{moves:?}");
    assert_eq!(moves.reinjected, 0, "{moves:?}");
}

/// A kernel socket can't be bound to an address that is none of this host.
#[test]
fn connections_whose_move_fails_stay_and_lose_nothing() {
    let wires = while_serving_under(MOVES, |running| {
        let edge = lb_tests::lab::Namespace::edge();
        for ip in families() {
            // So that both know each other's hardware address: without its own, the edge doesn't tell it any more.
            in_client(running, || upload(ip, 1));
            edge.run(|| ip_tool(&["address", "del", &host(ip), "dev", lb_tests::front::FRONT]))
                .unwrap();
            in_client(running, || mixed(ip));
        }
    });
    assert_eq!(moved(&wires), 0);
    let moves = wires.counters.moves;
    assert!(moves.failed >= 2 * AT_ONCE as u64, "{moves:?}");
    assert_eq!(moves.reinjected, 0, "{moves:?}");
}

#[test]
fn a_moved_connection_closes_as_any_other() {
    let conditions = Conditions {
        move_at: Some(LENGTH / 2),
        ..MOVES
    };
    let wires = while_serving_under(conditions, |running| {
        for ip in families() {
            for client in [client_closes_at_last, server_closes, client_half_closes] {
                let (service, count) = in_client(running, || client(ip));
                let outcome = running.outcomes.recv_timeout(PATIENCE).unwrap();
                assert_eq!(outcome, (service, Ok(count)), "{ip}");
            }
        }
    });
    // Whether the third moves depends on whether its FIN is there first: a connection that is half closed stays.
    assert!(moved(&wires) >= 2 * 2, "{wires:?}");
}

#[test]
fn a_moved_connection_with_unread_bytes_resets_its_client() {
    let wires = while_serving_under(MOVES, abandon);
    assert_eq!(moved(&wires), 2, "{wires:?}");
}

/// So many rounds of connections in each family, which ask to move.
fn moving(conditions: Conditions, rounds: usize) -> Wires {
    let wires = while_serving_under(conditions, |running| {
        for ip in (0..rounds).flat_map(|_| families()) {
            in_client(running, || mixed(ip));
            for _ in 0..AT_ONCE {
                let (service, outcome) = running.outcomes.recv_timeout(PATIENCE).unwrap();
                assert!(outcome.is_ok(), "{ip}, {service:?}: {outcome:?}");
            }
        }
    });
    eprintln!("{:?}", wires.counters.moves);
    wires
}

/// How many connections have moved; none got lost.
fn moved(wires: &Wires) -> usize {
    let moves = wires.counters.moves;
    assert_eq!(moves.lost, 0, "{moves:?}");
    usize::try_from(moves.moved.iter().sum::<u64>()).unwrap()
}

/// Uploads, downloads and echoes of a megabyte at once.
fn mixed(ip: IpAddr) {
    let start = |number: usize| {
        thread::spawn(move || match number % 3 {
            0 => upload(ip, MEGABYTE),
            1 => {
                let mut stream = connect(Service::Download.at(ip));
                ask(&mut stream, MEGABYTE);
                expect_pattern(&mut stream, MEGABYTE);
            }
            _ => echo(ip, MEGABYTE),
        })
    };
    let clients: Vec<_> = (0..AT_ONCE).map(start).collect();
    for client in clients {
        client.join().unwrap();
    }
}

/// Sends and receives at the same time.
fn echo(ip: IpAddr, length: usize) {
    let mut stream = connect(Service::Echo.at(ip));
    let mut writer = stream.try_clone().unwrap();
    let writing = thread::spawn(move || {
        writer.write_all(&pattern(length)).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    expect_pattern(&mut stream, length);
    writing.join().unwrap();
}

/// The wire of these tests does lose: a handshake gets through, and then nothing does.
#[test]
fn where_all_data_is_lost_none_arrives() {
    let wires = while_serving(1000, |running| {
        let attempt = |ip| {
            let mut stream = connect(Service::Hello.at(ip));
            stream.write_all(&[0]).unwrap();
            stream.set_read_timeout(Some(SHORT)).unwrap();
            let read = stream.read(&mut [0]);
            assert_eq!(
                read.unwrap_err().kind(),
                ErrorKind::WouldBlock,
                "{ip}: read something"
            );
        };
        in_client(running, || families().into_iter().for_each(attempt));
        assert!(running.outcomes.try_recv().is_err(), "a service got FIN");
    });
    for traffic in [wires.to_client, wires.to_edge] {
        assert!(
            traffic.seen > 0 && traffic.lost == traffic.seen,
            "{traffic:?}"
        );
    }
}

#[test]
fn the_client_may_close_first() {
    closing(client_closes);
}

#[test]
fn the_server_may_close_first() {
    closing(server_closes);
}

#[test]
fn a_half_closed_client_still_gets_all() {
    closing(client_half_closes);
}

#[test]
fn a_half_closed_server_still_gets_all() {
    closing(|ip| {
        let mut stream = connect(Service::Hello.at(ip));
        let mut greeting = Vec::new();
        stream.read_to_end(&mut greeting).unwrap();
        assert_eq!(greeting, b"h", "{ip}: one byte, then FIN");
        stream.write_all(&pattern(LENGTH)).unwrap();
        (Service::Hello, LENGTH)
    });
}

#[test]
fn a_reset_by_the_client_is_an_error_of_the_service() {
    while_serving(0, |running| {
        for ip in families() {
            in_client(running, || {
                let mut stream = connect(Service::Echo.at(ip));
                stream.write_all(b"ping").unwrap();
                stream.read_exact(&mut [0; 4]).unwrap();
                // RFC 9293 §3.10.5: with nothing to linger for, close is abort.
                SockRef::from(&stream)
                    .set_linger(Some(Duration::ZERO))
                    .unwrap();
            });
            let outcome = running.outcomes.recv_timeout(PATIENCE).unwrap();
            assert_eq!(
                outcome,
                (Service::Echo, Err(ErrorKind::ConnectionReset)),
                "{ip}"
            );
        }
    });
}

#[test]
fn a_service_that_abandons_bytes_resets_the_client() {
    while_serving(0, abandon);
}

fn abandon(running: &Running<'_>) {
    in_client(running, || {
        for ip in families() {
            let mut stream = connect(Service::Abandon.at(ip));
            stream.write_all(&pattern(1000)).unwrap();
            let read = stream.read(&mut [0]);
            assert_eq!(read.unwrap_err().kind(), ErrorKind::ConnectionReset, "{ip}");
        }
    });
}

/// FIN in each direction is answered by the other's; `Echo` sends its own last.
fn client_closes(ip: IpAddr) -> (Service, usize) {
    let mut stream = connect(Service::Echo.at(ip));
    stream.write_all(&pattern(LENGTH)).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    expect_pattern(&mut stream, LENGTH);
    (Service::Echo, LENGTH)
}

/// As [`client_closes`], but FIN leaves when every byte has come back: the connection has moved by then.
fn client_closes_at_last(ip: IpAddr) -> (Service, usize) {
    let mut stream = connect(Service::Echo.at(ip));
    stream.write_all(&pattern(LENGTH)).unwrap();
    let mut back = vec![0; LENGTH];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(back, pattern(LENGTH), "{ip}");
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0, "{ip}: FIN, nothing more");
    (Service::Echo, LENGTH)
}

fn server_closes(ip: IpAddr) -> (Service, usize) {
    let mut stream = connect(Service::Download.at(ip));
    ask(&mut stream, LENGTH);
    expect_pattern(&mut stream, LENGTH);
    drop(stream);
    (Service::Download, 0)
}

fn client_half_closes(ip: IpAddr) -> (Service, usize) {
    let mut stream = connect(Service::Download.at(ip));
    ask(&mut stream, LENGTH);
    stream.shutdown(Shutdown::Write).unwrap();
    expect_pattern(&mut stream, LENGTH);
    (Service::Download, 0)
}

/// Uploads and downloads of `length` bytes at once, in each family, with these options of the client off.
fn transfers(permille: u32, length: usize, off: &[&str]) -> Wires {
    let wires = while_serving(permille, |running| {
        for option in off {
            let path = format!("/proc/sys/net/ipv4/{option}");
            in_client(running, || fs::write(&path, "0").unwrap());
        }
        for ip in families() {
            in_client(running, || at_once(ip, length));
        }
        let wanted = families().len() * AT_ONCE;
        for _ in 0..wanted {
            let (service, outcome) = running.outcomes.recv_timeout(PATIENCE).unwrap();
            let expected = match service {
                Service::Download => 0,
                _ => length,
            };
            assert_eq!(outcome, Ok(expected), "{service:?}");
        }
    });
    eprintln!("{wires:?}");
    wires
}

/// Half of them upload, the others download.
fn at_once(ip: IpAddr, length: usize) {
    let start = |number: usize| {
        thread::spawn(move || {
            if number.is_multiple_of(2) {
                upload(ip, length);
            } else {
                let mut stream = connect(Service::Download.at(ip));
                ask(&mut stream, length);
                expect_pattern(&mut stream, length);
            }
        })
    };
    let clients: Vec<_> = (0..AT_ONCE).map(start).collect();
    for client in clients {
        client.join().unwrap();
    }
}

fn upload(ip: IpAddr, length: usize) {
    let mut stream = connect(Service::Upload.at(ip));
    stream.write_all(&pattern(length)).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, (length as u64).to_be_bytes(), "{ip}");
}

/// One connection of each family at a time, each of which ends for its service as `client` says.
fn closing(client: impl Fn(IpAddr) -> (Service, usize) + Sync) {
    while_serving(0, |running| {
        for ip in families() {
            let (service, count) = in_client(running, || client(ip));
            let outcome = running.outcomes.recv_timeout(PATIENCE).unwrap();
            assert_eq!(outcome, (service, Ok(count)), "{ip}");
        }
    });
}

/// An address with the length of its own prefix.
fn host(ip: IpAddr) -> String {
    format!("{ip}/{}", if ip.is_ipv4() { 32 } else { 128 })
}

fn ip_tool(arguments: &[&str]) {
    let status = Command::new("ip").args(arguments).status().unwrap();
    assert!(status.success(), "{arguments:?}");
}

fn in_client<T: Send>(running: &Running<'_>, work: impl FnOnce() -> T + Send) -> T {
    running.lab.client().run(work).unwrap()
}

fn connect(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn ask(stream: &mut TcpStream, length: usize) {
    stream.write_all(&(length as u64).to_be_bytes()).unwrap();
}

/// The pattern, and then FIN.
fn expect_pattern(stream: &mut TcpStream, length: usize) {
    let mut got = Vec::new();
    stream.read_to_end(&mut got).unwrap();
    assert_eq!(got.len(), length);
    let wrong = (0..length).find(|&place| got[place] != pattern_at(place));
    assert_eq!(wrong, None);
}

/// Bytes of a connection whose end is what matters: more than a window.
const LENGTH: usize = 100_000;
/// Bytes of a connection that moves.
const MEGABYTE: usize = 1 << 20;
/// Each connection moves in the first third of them.
const MOVES: Conditions = Conditions {
    permille: 0,
    move_at: Some(300_000),
    moved_at_most: 1000,
};
/// Longer than any retransmission takes; only a connection that is stuck runs into it.
const PATIENCE: Duration = Duration::from_secs(30);
/// Long enough for what isn't lost.
const SHORT: Duration = Duration::from_millis(500);
