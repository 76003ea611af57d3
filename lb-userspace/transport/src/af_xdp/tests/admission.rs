//! Who gets a connection, and what the others get.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use lb_tcp::{Config, Flags};
use smoltcp::socket::tcp::State;
use smoltcp::wire::TcpControl;
use tokio::io::AsyncWriteExt as _;

use super::wire::{Client, raw_segment, read_frame};
use super::{Bench, CLIENT, SERVER, address, run};
use crate::Listener as _;
use crate::af_xdp::{BURST, EngineConfig};

#[test]
fn segments_of_no_connection_get_what_they_deserve() {
    run(async || {
        let mut bench = Bench::start(EngineConfig::default());
        let (from, to) = (address(CLIENT), bench.server);
        let ack = raw_segment(from, to, TcpControl::None, (7, Some(4711)));
        let answers = bench.exchange(ack).await;
        assert_eq!(answers.len(), 1);
        let answer = read_frame(&answers[0]);
        assert_eq!((answer.flags, answer.seq.0), (Flags::RST, 4711));

        let fin = raw_segment(from, to, TcpControl::Fin, (7, None));
        let answers = bench.exchange(fin).await;
        let answer = read_frame(&answers[0]);
        assert_eq!(answer.flags, Flags::RST | Flags::ACK);
        assert_eq!((answer.seq.0, answer.ack.0), (0, 8));

        let rst = raw_segment(from, to, TcpControl::Rst, (7, None));
        assert!(bench.exchange(rst).await.is_empty());
        let counters = bench.handle.counters();
        assert_eq!((counters.tcp.out_rsts, counters.tcp.no_listener), (2, 0));

        for elsewhere in ["10.203.1.100:444", "10.203.1.101:443"] {
            let syn = raw_segment(from, address(elsewhere), TcpControl::Syn, (7, None));
            assert!(bench.exchange(syn).await.is_empty());
        }
        assert_eq!(bench.handle.counters().tcp.no_listener, 2);
        assert_eq!(bench.handle.counters().flows, 0);
    });
}

#[test]
fn answers_wait_for_frames_instead_of_getting_lost() {
    run(async || {
        let mut bench = Bench::with_addresses(EngineConfig::default(), SERVER, CLIENT, 2);
        bench.wire.slow_down();
        let ack = raw_segment(
            address(CLIENT),
            bench.server,
            TcpControl::None,
            (7, Some(4711)),
        );
        for _ in 0..9 {
            bench.wire.inject(ack.clone());
        }
        assert_eq!(bench.exchange(ack).await.len(), 10);
        let counters = bench.handle.counters();
        assert_eq!((counters.tcp.out_rsts, counters.lost_output), (10, 0));
    });
}

#[test]
fn more_than_a_burst_is_received_although_its_arrival_is_told_once() {
    run(async || {
        let mut bench = Bench::with_addresses(EngineConfig::default(), SERVER, CLIENT, 1024);
        let ack = raw_segment(
            address(CLIENT),
            bench.server,
            TcpControl::None,
            (7, Some(4711)),
        );
        for _ in 1..5 * BURST {
            bench.wire.inject(ack.clone());
        }
        assert_eq!(bench.exchange(ack).await.len(), 5 * BURST);
    });
}

#[test]
fn damaged_frames_are_dropped_and_counted() {
    run(async || {
        let mut bench = Bench::start(EngineConfig::default());
        let mut syn = raw_segment(address(CLIENT), bench.server, TcpControl::Syn, (7, None));
        *syn.last_mut().unwrap() ^= 1;
        assert!(bench.exchange(syn).await.is_empty());
        assert_eq!(bench.handle.counters().dropped_checksum, 1);
    });
}

fn with(tcp: Config) -> EngineConfig {
    EngineConfig {
        tcp,
        ..EngineConfig::default()
    }
}

/// Answers to SYNs from five clients that say nothing else.
async fn flood(bench: &mut Bench) -> Vec<usize> {
    let to = bench.server;
    let mut answers = Vec::new();
    for port in 0..5_u16 {
        let from = SocketAddr::new(address(CLIENT).ip(), 50_000 + port);
        let syn = raw_segment(from, to, TcpControl::Syn, (7, None));
        answers.push(bench.exchange(syn).await.len());
    }
    answers
}

/// Half-open connections go silently: a forged SYN must not make us send RST to its alleged sender.
async fn check_half_open_ones_go(bench: &mut Bench, count: usize) {
    assert_eq!(bench.handle.counters().flows, count);
    tokio::time::sleep(Duration::from_mins(2)).await;
    let counters = bench.handle.counters();
    assert_eq!(counters.flows, 0);
    assert_eq!(counters.tcp.attempt_fails, count as u64);
    assert_eq!(counters.tcp.out_rsts, 0);
    while bench.wire.take().is_some() {}
    bench.connect().await;
}

#[test]
fn syns_above_the_flow_limit_are_ignored() {
    run(async || {
        let mut bench = Bench::start(with(Config {
            max_flows: 3,
            ..Config::default()
        }));
        assert_eq!(flood(&mut bench).await, [1, 1, 1, 0, 0]);
        assert_eq!(bench.handle.counters().tcp.memory_drops, 2);
        check_half_open_ones_go(&mut bench, 3).await;
    });
}

#[test]
fn syns_above_half_of_the_backlog_get_cookies_and_keep_no_state() {
    run(async || {
        let mut bench = Bench::start(with(Config {
            backlog: 6,
            ..Config::default()
        }));
        assert_eq!(flood(&mut bench).await, [1; 5]);
        assert_eq!(bench.handle.counters().tcp.syncookies_sent, 2);
        // The flood goes on; a client that answers gets through.
        bench.connect().await;
        assert_eq!(bench.handle.counters().tcp.syncookies_received, 1);
        assert_eq!(bench.handle.counters().flows, 4);
    });
}

#[test]
fn half_open_connections_are_forgotten() {
    run(async || {
        let mut bench = Bench::start(EngineConfig::default());
        flood(&mut bench).await;
        check_half_open_ones_go(&mut bench, 5).await;
    });
}

#[test]
fn established_but_unaccepted_connections_count_for_the_backlog() {
    run(async || {
        let mut bench = Bench::start(with(Config {
            backlog: 1,
            ..Config::default()
        }));
        let first = bench.client.connect(bench.server);
        let done = |c: &mut Client| (c.socket(first).state() == State::Established).then_some(());
        bench.client.until(done).await;
        let second = bench.client.connect(bench.server);
        bench
            .until_counters(|counters| counters.tcp.listen_overflows > 0)
            .await;
        let _first = bench.listener.as_mut().unwrap().accept().await.unwrap();
        // The client's next SYN finds room.
        let done = |c: &mut Client| (c.socket(second).state() == State::Established).then_some(());
        bench.client.until(done).await;
    });
}

#[test]
fn dropping_the_listener_resets_only_what_was_not_accepted() {
    run(async || {
        let mut bench = Bench::start(EngineConfig::default());
        let (kept, mut stream) = bench.connect().await;
        let waiting = bench.client.connect(bench.server);
        bench
            .until_counters(|counters| counters.tcp.passive_opens == 2)
            .await;
        bench.listener = None;
        let done = |c: &mut Client| (c.socket(waiting).state() == State::Closed).then_some(());
        bench.client.until(done).await;
        stream.write_all(b"still here").await.unwrap();
        let done = |c: &mut Client| (c.socket(kept).recv_queue() == 10).then_some(());
        bench.client.until(done).await;
        assert!(
            bench.handle.listen(bench.server).is_ok(),
            "the address is free again"
        );
    });
}

#[test]
fn wildcards_and_duplicates_are_refused() {
    run(async || {
        let bench = Bench::start(EngineConfig::default());
        let check = |text: &str, kind: ErrorKind| {
            let error = bench
                .handle
                .listen(address(text))
                .err()
                .map(|error| error.kind());
            assert_eq!(error, Some(kind), "{text}");
        };
        check(SERVER, ErrorKind::AddrInUse);
        check("0.0.0.0:443", ErrorKind::InvalidInput);
        check("10.203.1.100:0", ErrorKind::InvalidInput);
    });
}
