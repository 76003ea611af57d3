//! How connections end: in order, by reset, by nobody's patience.

use std::io::ErrorKind;
use std::time::Duration;

use lb_tcp::Flags;
use smoltcp::socket::tcp::State;
use smoltcp::wire::TcpControl;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::wire::{Client, raw_segment, read_frame};
use super::{Bench, CLIENT, address, run};
use crate::Listener as _;
use crate::af_xdp::EngineConfig;

#[test]
fn client_may_close_its_half_and_still_receive() {
    run(async || {
        let mut bench = Bench::start(EngineConfig::default());
        let (socket, mut stream) = bench.connect().await;
        bench.client.socket(socket).close();
        let done = |c: &mut Client| (c.socket(socket).state() == State::FinWait2).then_some(());
        bench.client.until(done).await;
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
        stream.write_all(b"late answer").await.unwrap();
        drop(stream);
        let mut answer = [0; 11];
        let done = |c: &mut Client| (c.socket(socket).recv_queue() == 11).then_some(());
        bench.client.until(done).await;
        bench.client.socket(socket).recv_slice(&mut answer).unwrap();
        assert_eq!(&answer, b"late answer");
        // The client closed first, so it keeps the TIME-WAIT.
        bench.until_counters(|counters| counters.flows == 0).await;
        assert_eq!(bench.handle.counters().time_wait, 0);
        assert_eq!(bench.handle.counters().tcp.out_rsts, 0);
    });
}

#[test]
fn engine_may_close_its_half_and_keeps_time_wait() {
    run(async || {
        let mut bench = Bench::start(EngineConfig::default());
        let (socket, mut stream) = bench.connect().await;
        stream.shutdown().await.unwrap();
        assert_eq!(
            stream.write(b"x").await.unwrap_err().kind(),
            ErrorKind::BrokenPipe
        );
        let done = |c: &mut Client| (!c.socket(socket).may_recv()).then_some(());
        bench.client.until(done).await;
        bench.client.socket(socket).send_slice(b"question").unwrap();
        bench.client.socket(socket).close();
        let reader = tokio::task::spawn_local(async move {
            let mut question = Vec::new();
            stream.read_to_end(&mut question).await.unwrap();
            question
        });
        bench
            .until_counters(|counters| (counters.flows, counters.time_wait) == (0, 1))
            .await;
        assert_eq!(reader.await.unwrap(), b"question");
        bench.client.poll();
        assert_eq!(
            bench.client.socket(socket).state(),
            State::Closed,
            "our ACK came at once"
        );
        tokio::time::sleep(Duration::from_secs(59)).await;
        assert_eq!(bench.handle.counters().time_wait, 1);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(bench.handle.counters().time_wait, 0);
    });
}

#[test]
fn time_wait_answers_late_segments_and_lets_a_new_connection_in() {
    run(async || {
        let mut bench = Bench::start(EngineConfig::default());
        let (from, to) = (address(CLIENT), bench.server);
        let answers = bench
            .exchange(raw_segment(from, to, TcpControl::Syn, (100, None)))
            .await;
        let isn = read_frame(&answers[0]).seq.0.cast_signed();
        let next = isn.wrapping_add(1);
        bench
            .exchange(raw_segment(from, to, TcpControl::None, (101, Some(next))))
            .await;
        drop(
            bench
                .listener
                .as_mut()
                .unwrap()
                .accept()
                .await
                .unwrap()
                .stream,
        );
        tokio::time::sleep(Duration::from_millis(1)).await;
        let fin = raw_segment(from, to, TcpControl::Fin, (101, Some(next.wrapping_add(1))));
        bench.exchange(fin.clone()).await;
        assert_eq!(
            (
                bench.handle.counters().flows,
                bench.handle.counters().time_wait
            ),
            (0, 1)
        );

        let answers = bench.exchange(fin).await;
        assert_eq!(answers.len(), 1);
        let answer = read_frame(&answers[0]);
        assert_eq!((answer.flags, answer.ack.0), (Flags::ACK, 102));
        assert_eq!(answer.seq.0.cast_signed(), next.wrapping_add(1));

        // RFC 1337: an RST must not end the wait.
        assert!(
            bench
                .exchange(raw_segment(from, to, TcpControl::Rst, (102, None)))
                .await
                .is_empty()
        );
        assert_eq!(bench.handle.counters().time_wait, 1);
        let old_syn = raw_segment(from, to, TcpControl::Syn, (50, None));
        assert_eq!(
            read_frame(&bench.exchange(old_syn).await[0]).flags,
            Flags::ACK
        );
        let answers = bench
            .exchange(raw_segment(from, to, TcpControl::Syn, (9000, None)))
            .await;
        let answer = read_frame(&answers[0]);
        assert_eq!(answer.flags, Flags::SYN | Flags::ACK);
        assert_eq!(answer.ack.0, 9001);
        assert_eq!(
            (
                bench.handle.counters().flows,
                bench.handle.counters().time_wait
            ),
            (1, 0)
        );
    });
}

#[test]
fn answers_follow_the_peer_to_another_router() {
    run(async || {
        let mut bench = Bench::start(EngineConfig::default());
        let (from, to) = (address(CLIENT), bench.server);
        let syn = raw_segment(from, to, TcpControl::Syn, (100, None));
        let isn = read_frame(&bench.exchange(syn).await[0])
            .seq
            .0
            .cast_signed();
        let next = isn.wrapping_add(1);
        let mut fin = raw_segment(from, to, TcpControl::Fin, (101, Some(next)));
        fin[6..12].copy_from_slice(b"\x02other");
        let answers = bench.exchange(fin).await;
        assert_eq!(answers[0][..6], *b"\x02other");
    });
}

#[test]
fn reset_by_the_client_is_an_error_for_reader_and_writer() {
    run(async || {
        let mut bench = Bench::start(EngineConfig::default());
        let (socket, mut stream) = bench.connect().await;
        bench.client.socket(socket).abort();
        bench
            .until_counters(|counters| counters.tcp.estab_resets == 1)
            .await;
        assert_eq!(
            stream.read(&mut [0; 8]).await.unwrap_err().kind(),
            ErrorKind::ConnectionReset
        );
        assert_eq!(
            stream.write(b"x").await.unwrap_err().kind(),
            ErrorKind::ConnectionReset
        );
        drop(stream);
        bench.until_counters(|counters| counters.flows == 0).await;
        assert_eq!(bench.handle.counters().tcp.out_rsts, 0);
    });
}

#[test]
fn reader_that_waits_learns_of_the_reset() {
    run(async || {
        let mut bench = Bench::start(EngineConfig::default());
        let (socket, mut stream) = bench.connect().await;
        let reader = tokio::task::spawn_local(async move { stream.read(&mut [0; 8]).await });
        tokio::task::yield_now().await;
        bench.client.socket(socket).abort();
        bench
            .until_counters(|counters| counters.tcp.estab_resets == 1)
            .await;
        assert_eq!(
            reader.await.unwrap().unwrap_err().kind(),
            ErrorKind::ConnectionReset
        );
    });
}

#[test]
fn dropping_a_stream_with_unread_bytes_resets_without_fin() {
    run(async || {
        let mut bench = Bench::start(EngineConfig::default());
        let (socket, stream) = bench.connect().await;
        bench
            .client
            .socket(socket)
            .send_slice(b"never read")
            .unwrap();
        let done = |c: &mut Client| (c.socket(socket).send_queue() == 0).then_some(());
        bench.client.until(done).await;
        let sent_before = bench.handle.counters().tcp.out_segs;
        drop(stream);
        let done = |c: &mut Client| (c.socket(socket).state() == State::Closed).then_some(());
        bench.client.until(done).await;
        let counters = bench.handle.counters();
        assert_eq!((counters.tcp.out_rsts, counters.flows), (1, 0));
        assert_eq!(counters.tcp.out_segs, sent_before + 1);
    });
}

#[test]
fn bytes_for_a_dropped_stream_reset_it() {
    run(async || {
        let mut bench = Bench::start(EngineConfig::default());
        let (socket, stream) = bench.connect().await;
        drop(stream);
        let done = |c: &mut Client| (c.socket(socket).state() == State::CloseWait).then_some(());
        bench.client.until(done).await;
        assert_eq!(bench.handle.counters().tcp.out_rsts, 0);
        bench.client.socket(socket).send_slice(b"too late").unwrap();
        let done = |c: &mut Client| (c.socket(socket).state() == State::Closed).then_some(());
        bench.client.until(done).await;
        let counters = bench.handle.counters();
        assert_eq!(
            (
                counters.tcp.out_rsts,
                counters.tcp.abort_on_linger,
                counters.flows
            ),
            (1, 0, 0)
        );
    });
}

#[test]
fn peer_that_never_finishes_is_reset_after_the_orphan_timeout() {
    run(async || {
        let mut bench = Bench::start(EngineConfig::default());
        let (socket, stream) = bench.connect().await;
        drop(stream);
        let done = |c: &mut Client| (c.socket(socket).state() == State::CloseWait).then_some(());
        bench.client.until(done).await;
        assert_eq!(bench.handle.counters().flows, 1);
        bench.until_counters(|counters| counters.flows == 0).await;
        let counters = bench.handle.counters();
        assert_eq!(
            (counters.tcp.abort_on_linger, counters.tcp.out_rsts),
            (1, 1)
        );
        let done = |c: &mut Client| (c.socket(socket).state() == State::Closed).then_some(());
        bench.client.until(done).await;
    });
}

#[test]
fn after_a_stop_connections_finish_and_what_is_left_is_reset() {
    run(async || {
        let mut bench = Bench::start(EngineConfig::default());
        let (busy, mut stream) = bench.connect().await;
        let (idle, _held) = bench.connect().await;
        bench.handle.stop();
        let late = raw_segment(address(CLIENT), bench.server, TcpControl::Syn, (7, None));
        assert!(bench.exchange(late).await.is_empty(), "a new client");
        stream.write_all(b"answer").await.unwrap();
        drop(stream);
        let done = |c: &mut Client| (c.socket(busy).state() == State::CloseWait).then_some(());
        bench.client.until(done).await;
        assert_eq!(bench.client.socket(busy).recv_queue(), 6);
        bench.client.socket(busy).close();
        bench.until_counters(|counters| counters.flows == 1).await;

        bench.handle.reset_all();
        assert!(bench.handle.has_output());
        let done = |c: &mut Client| (c.socket(idle).state() == State::Closed).then_some(());
        bench.client.until(done).await;
        assert!(!bench.handle.has_output());
    });
}

/// However it ends: dropped with its worker's runtime, or by a panic.
#[test]
fn an_engine_that_ends_resets_its_clients() {
    run(async || {
        let mut bench = Bench::start(EngineConfig::default());
        let (socket, _held) = bench.connect().await;
        bench.engine.abort();
        let done = |c: &mut Client| (c.socket(socket).state() == State::Closed).then_some(());
        bench.client.until(done).await;
    });
}

#[test]
fn flows_are_told_with_their_ends_and_states() {
    run(async || {
        let mut bench = Bench::start(EngineConfig::default());
        let (_, _stream) = bench.connect().await;
        let mut flows = Vec::new();
        bench
            .handle
            .for_each_flow(|key, info| flows.push((key.local, info.state)));
        assert_eq!(flows, [(bench.server, lb_tcp::State::Established)]);
    });
}
