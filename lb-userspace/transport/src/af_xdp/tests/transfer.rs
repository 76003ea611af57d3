//! Bytes arrive, whatever the wire and the device do.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;

use super::wire::Client;
use super::{Bench, CLIENT, MEGABYTE, SERVER, pattern, run};
use crate::af_xdp::EngineConfig;

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
            assert_eq!((counters.tcp.passive_opens, counters.tcp.out_rsts), (1, 0));
            assert_eq!((counters.dropped_checksum, counters.lost_output), (0, 0));
        });
    }
}

#[test]
fn a_device_that_cuts_gets_super_segments() {
    for (server, client) in [
        (SERVER, CLIENT),
        ("[fd00:203::64]:443", "[fd00:203::a]:50000"),
    ] {
        run(async || {
            let mut bench = Bench::with_addresses(EngineConfig::default(), server, client, 64);
            bench.wire.cut();
            check_echo(&mut bench, &pattern(MEGABYTE)).await;
            let counters = bench.handle.counters();
            assert!(counters.super_segments > 20, "{counters:?}");
            assert_eq!((counters.dropped_checksum, counters.lost_output), (0, 0));
        });
    }
}

#[test]
fn super_segments_wait_for_a_busy_device_and_survive_losses() {
    run(async || {
        let mut bench = Bench::with_addresses(EngineConfig::default(), SERVER, CLIENT, 3);
        bench.wire.cut();
        bench.wire.slow_down();
        bench.wire.lose_every(50);
        check_echo(&mut bench, &pattern(MEGABYTE)).await;
        let counters = bench.handle.counters();
        assert!(counters.super_segments > 20, "{counters:?}");
        assert_eq!(counters.lost_output, 0);
    });
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
fn few_tx_frames_and_a_busy_device_delay_but_lose_nothing() {
    run(async || {
        let mut bench = Bench::with_addresses(EngineConfig::default(), SERVER, CLIENT, 2);
        bench.wire.slow_down();
        check_echo(&mut bench, &pattern(MEGABYTE)).await;
        let counters = bench.handle.counters();
        assert!(counters.waits_for_frames > 0, "{counters:?}");
        assert_eq!(counters.lost_output, 0);
    });
}

#[test]
fn bytes_written_out_of_the_blue_leave_at_once() {
    run(async || {
        let mut bench = Bench::start(EngineConfig::default());
        let (socket, mut stream) = bench.connect().await;
        // Long enough that no delayed acknowledgement is due any more; the next timer is far away.
        tokio::time::sleep(Duration::from_secs(5)).await;
        let written = Instant::now();
        stream.write_all(b"news").await.unwrap();
        let done = |c: &mut Client| (c.socket(socket).recv_queue() == 4).then_some(());
        bench.client.until(done).await;
        assert!(
            written.elapsed() < Duration::from_millis(100),
            "{:?}",
            written.elapsed()
        );
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
fn writer_waits_for_a_slow_reader_and_is_woken() {
    run(async || {
        let mut config = EngineConfig::default();
        config.tcp.max_send_buffer = 64 * 1024;
        let mut bench = Bench::start(config);
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
