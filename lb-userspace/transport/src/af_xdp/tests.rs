//! The whole engine against an independent TCP, without a kernel: the driver and its tasks run on tokio with
//! stopped time, which jumps ahead whenever everybody waits. So minutes cost nothing and no test is a race.

mod wire;

use std::cell::Cell;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::State;
use smoltcp::wire::TcpControl;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::LocalSet;

use self::wire::{Client, MTU, Wire, raw_segment, read_frame};
use super::packet::{ACK, RST, SYN};
use super::{Counters, Engine, EngineConfig, Handle, Listener, PortConfig, RxChecksums, Stream};
use crate::Listener as _;

const SERVER: &str = "10.203.1.100:443";
const CLIENT: &str = "10.203.1.10:50000";
const MEGABYTE: usize = 1 << 20;

/// An engine that listens, and a client, on a wire.
struct Bench {
    wire: Wire,
    client: Client,
    server: SocketAddr,
    listener: Option<Listener>,
    handle: Handle,
}

impl Bench {
    fn start(config: EngineConfig) -> Self {
        Self::with_addresses(config, SERVER, CLIENT, 64)
    }

    fn with_addresses(config: EngineConfig, server: &str, client: &str, tx_frames: usize) -> Self {
        let (server, client) = (address(server), address(client));
        let wire = Wire::default();
        let port = PortConfig {
            mtu: MTU,
            rx_checksums: RxChecksums::Verify,
        };
        let engine = Engine::with_frames(vec![(wire.port(tx_frames), port)], config);
        let handle = engine.handle();
        let listener = Some(handle.listen(server).unwrap());
        tokio::task::spawn_local(engine.run());
        let client = Client::new(&wire, client.ip());
        Self {
            wire,
            client,
            server,
            listener,
            handle,
        }
    }

    /// An established connection.
    async fn connect(&mut self) -> (SocketHandle, Stream) {
        let socket = self.client.connect(self.server);
        self.client
            .until(|c| (c.socket(socket).state() == State::Established).then_some(()))
            .await;
        let accepted = self.listener.as_mut().unwrap().accept().await.unwrap();
        assert_eq!(accepted.local, self.server);
        assert_eq!(
            accepted.peer.port(),
            self.client.socket(socket).local_endpoint().unwrap().port
        );
        (socket, accepted.stream)
    }

    async fn until_counters(&mut self, done: impl Fn(&Counters) -> bool) {
        let handle = self.handle.clone();
        self.client
            .until(|_| done(&handle.counters()).then_some(()))
            .await;
    }

    /// Lets the engine take what was injected, and returns its answers.
    async fn exchange(&mut self, frame: Vec<u8>) -> Vec<Vec<u8>> {
        self.wire.inject(frame);
        tokio::time::sleep(Duration::from_millis(50)).await;
        std::iter::from_fn(|| self.wire.take()).collect()
    }
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Runs `test` with stopped time.
fn run(test: impl AsyncFnOnce()) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build();
    LocalSet::new().block_on(&runtime.unwrap(), test());
}

/// Bytes that tell their place: the pattern repeats after a prime number of bytes.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

/// Sends `expected` from a new client, echoes it in the engine, and compares what comes back.
async fn check_echo(bench: &mut Bench, expected: &[u8]) {
    let (socket, stream) = bench.connect().await;
    let echo = tokio::task::spawn_local(async move {
        let (mut read, mut write) = tokio::io::split(stream);
        let count = tokio::io::copy(&mut read, &mut write).await.unwrap();
        write.shutdown().await.unwrap();
        count
    });
    let (mut sent, mut got) = (0, Vec::new());
    bench
        .client
        .until(|client| {
            let socket = client.socket(socket);
            if sent < expected.len() {
                sent += socket.send_slice(&expected[sent..]).unwrap();
                if sent == expected.len() {
                    socket.close();
                }
            }
            let _ = socket.recv(|bytes| {
                got.extend_from_slice(bytes);
                (bytes.len(), ())
            });
            (!socket.may_recv() && got.len() >= expected.len()).then_some(())
        })
        .await;
    assert!(
        got == expected,
        "{} of {} bytes are equal",
        equal_prefix(&got, expected),
        got.len()
    );
    assert_eq!(echo.await.unwrap(), expected.len() as u64);
}

fn equal_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[test]
fn a_megabyte_survives_both_directions() {
    for (server, client) in [
        (SERVER, CLIENT),
        ("[fd00:203::64]:443", "[fd00:203::a]:50000"),
    ] {
        run(async || {
            let mut bench = Bench::with_addresses(EngineConfig::default(), server, client, 64);
            check_echo(&mut bench, &pattern(MEGABYTE)).await;
            bench.until_counters(|counters| counters.flows == 0).await;
            let counters = bench.handle.counters();
            assert_eq!((counters.established, counters.resets_sent), (1, 0));
            assert_eq!((counters.dropped_checksum, counters.lost_output), (0, 0));
        });
    }
}

#[test]
fn lost_frames_are_sent_again() {
    run(async || {
        let mut bench = Bench::start(EngineConfig::default());
        bench.wire.lose_every(50);
        check_echo(&mut bench, &pattern(MEGABYTE)).await;
    });
}

#[test]
fn few_tx_frames_delay_but_lose_nothing() {
    run(async || {
        let mut bench = Bench::with_addresses(EngineConfig::default(), SERVER, CLIENT, 2);
        check_echo(&mut bench, &pattern(MEGABYTE)).await;
        let counters = bench.handle.counters();
        assert!(counters.waits_for_frames > 0, "{counters:?}");
        assert_eq!(counters.lost_output, 0);
    });
}

#[test]
fn many_connections_do_not_mix() {
    run(async || {
        let mut bench = Bench::start(EngineConfig::default());
        let mut pairs = Vec::new();
        for n in 0..200_u16 {
            let (socket, mut stream) = bench.connect().await;
            tokio::task::spawn_local(async move {
                let mut question = [0; 2];
                stream.read_exact(&mut question).await.unwrap();
                stream.write_all(&question).await.unwrap();
            });
            pairs.push((socket, n.to_be_bytes()));
        }
        assert_eq!(bench.handle.counters().flows, 200);
        for (socket, number) in &pairs {
            bench.client.socket(*socket).send_slice(number).unwrap();
        }
        for (socket, number) in pairs {
            let mut answer = [0; 2];
            let done = |c: &mut Client| {
                let socket = c.socket(socket);
                (socket.recv_queue() == 2).then(|| socket.recv_slice(&mut answer).unwrap())
            };
            bench.client.until(done).await;
            assert_eq!(answer, number);
        }
    });
}

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
        assert_eq!(bench.handle.counters().resets_sent, 0);
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
        let isn = read_frame(&answers[0]).seq.cast_signed();
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
        assert_eq!((answer.flags, answer.ack), (ACK, 102));
        assert_eq!(answer.seq.cast_signed(), next.wrapping_add(1));

        // RFC 1337: an RST must not end the wait.
        assert!(
            bench
                .exchange(raw_segment(from, to, TcpControl::Rst, (102, None)))
                .await
                .is_empty()
        );
        assert_eq!(bench.handle.counters().time_wait, 1);
        let old_syn = raw_segment(from, to, TcpControl::Syn, (50, None));
        assert_eq!(read_frame(&bench.exchange(old_syn).await[0]).flags, ACK);
        let answers = bench
            .exchange(raw_segment(from, to, TcpControl::Syn, (9000, None)))
            .await;
        let answer = read_frame(&answers[0]);
        assert_eq!((answer.flags, answer.ack), (SYN | ACK, 9001));
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
fn reset_by_the_client_is_an_error_for_reader_and_writer() {
    run(async || {
        let mut bench = Bench::start(EngineConfig::default());
        let (socket, mut stream) = bench.connect().await;
        bench.client.socket(socket).abort();
        bench
            .until_counters(|counters| counters.resets_received == 1)
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
        assert_eq!(bench.handle.counters().resets_sent, 0);
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
            .until_counters(|counters| counters.resets_received == 1)
            .await;
        assert_eq!(
            reader.await.unwrap().unwrap_err().kind(),
            ErrorKind::ConnectionReset
        );
    });
}

#[test]
fn dropping_a_stream_with_unread_bytes_resets() {
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
        drop(stream);
        let done = |c: &mut Client| (c.socket(socket).state() == State::Closed).then_some(());
        bench.client.until(done).await;
        assert_eq!(
            (
                bench.handle.counters().resets_sent,
                bench.handle.counters().flows
            ),
            (1, 0)
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
        assert_eq!((counters.orphan_timeouts, counters.resets_sent), (1, 1));
        let done = |c: &mut Client| (c.socket(socket).state() == State::Closed).then_some(());
        bench.client.until(done).await;
    });
}

#[test]
fn segments_of_no_connection_get_what_they_deserve() {
    run(async || {
        let mut bench = Bench::start(EngineConfig::default());
        let (from, to) = (address(CLIENT), bench.server);
        let ack = raw_segment(from, to, TcpControl::None, (7, Some(4711)));
        let answers = bench.exchange(ack).await;
        assert_eq!(answers.len(), 1);
        let answer = read_frame(&answers[0]);
        assert_eq!((answer.flags & RST, answer.seq), (RST, 4711));

        let fin = raw_segment(from, to, TcpControl::Fin, (7, None));
        let answers = bench.exchange(fin).await;
        let answer = read_frame(&answers[0]);
        assert_eq!((answer.flags, answer.seq, answer.ack), (RST | ACK, 0, 8));

        let rst = raw_segment(from, to, TcpControl::Rst, (7, None));
        assert!(bench.exchange(rst).await.is_empty());
        let counters = bench.handle.counters();
        assert_eq!(
            (counters.resets_sent, counters.dropped_unknown_address),
            (2, 0)
        );

        for elsewhere in ["10.203.1.100:444", "10.203.1.101:443"] {
            let syn = raw_segment(from, address(elsewhere), TcpControl::Syn, (7, None));
            assert!(bench.exchange(syn).await.is_empty());
        }
        assert_eq!(bench.handle.counters().dropped_unknown_address, 2);
        assert_eq!(bench.handle.counters().flows, 0);
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

async fn check_ignored_syn(config: EngineConfig, count: impl Fn(&Counters) -> u64) {
    let mut bench = Bench::start(config);
    let to = bench.server;
    for port in 0..5_u16 {
        let from = SocketAddr::new(address(CLIENT).ip(), 50_000 + port);
        let answers = bench
            .exchange(raw_segment(from, to, TcpControl::Syn, (7, None)))
            .await;
        assert_eq!(answers.len(), usize::from(port < 3), "SYN {port}");
    }
    assert_eq!(count(&bench.handle.counters()), 2);
    assert_eq!(bench.handle.counters().flows, 3);
    // Half-open connections go silently: a forged SYN must not make us send to its alleged sender.
    tokio::time::sleep(Duration::from_secs(11)).await;
    let counters = bench.handle.counters();
    assert_eq!((counters.flows, counters.handshake_timeouts), (0, 3));
    assert_eq!(counters.resets_sent, 0);
    bench.connect().await;
}

#[test]
fn syns_above_the_backlog_or_the_flow_limit_are_ignored() {
    run(async || {
        let config = EngineConfig {
            backlog: 3,
            ..EngineConfig::default()
        };
        check_ignored_syn(config, |counters| counters.syns_ignored_backlog).await;
        let config = EngineConfig {
            max_flows: 3,
            ..EngineConfig::default()
        };
        check_ignored_syn(config, |counters| counters.syns_ignored_flows).await;
    });
}

#[test]
fn established_but_unaccepted_connections_count_for_the_backlog() {
    run(async || {
        let config = EngineConfig {
            backlog: 1,
            ..EngineConfig::default()
        };
        let mut bench = Bench::start(config);
        let first = bench.client.connect(bench.server);
        let done = |c: &mut Client| (c.socket(first).state() == State::Established).then_some(());
        bench.client.until(done).await;
        let second = bench.client.connect(bench.server);
        bench
            .until_counters(|counters| counters.syns_ignored_backlog > 0)
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
            .until_counters(|counters| counters.established == 2)
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

#[test]
fn writer_waits_for_a_slow_reader_and_is_woken() {
    run(async || {
        let mut bench = Bench::start(EngineConfig::default());
        let (socket, mut stream) = bench.connect().await;
        let written = Rc::new(Cell::new(0));
        let progress = Rc::clone(&written);
        tokio::task::spawn_local(async move {
            for chunk in pattern(MEGABYTE).chunks(1000) {
                stream.write_all(chunk).await.unwrap();
                progress.set(progress.get() + chunk.len());
            }
        });
        let client_buffer = bench.client.socket(socket).recv_capacity();
        let done = |c: &mut Client| (c.socket(socket).recv_queue() == client_buffer).then_some(());
        bench.client.until(done).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(
            written.get() <= client_buffer + 64 * 1024 + 1000,
            "{}",
            written.get()
        );
        let mut got = Vec::new();
        let done = |c: &mut Client| {
            let _ = c
                .socket(socket)
                .recv(|bytes| (bytes.len(), got.extend_from_slice(bytes)));
            (got.len() == MEGABYTE).then_some(())
        };
        bench.client.until(done).await;
        assert!(got == pattern(MEGABYTE));
    });
}
