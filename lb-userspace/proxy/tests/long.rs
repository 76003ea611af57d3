//! Long and large: requests that are held for an hour, bodies of a gibibyte, streams in both directions, half-closed ends.
//!
//! Hours pass on tokio's clock, which is stopped and set forward while the sockets are at rest.

#![allow(clippy::unwrap_used, reason = "a test that can't go on should stop")]

mod support;

use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use lb_proxy::Kind;
use support::{Edge, Wire, forwarding, origin, run, service, until};
use tokio::io::AsyncWriteExt;
use tokio::task::LocalSet;
use tokio::time;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Like [`run`], without its limit, which is on the same clock.
fn run_for_hours(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, test);
}

/// Lets minutes pass in which nothing happens.
async fn silence(minutes: u64) {
    time::pause();
    for _ in 0..minutes {
        time::advance(Duration::from_mins(1)).await;
    }
    time::resume();
}

/// Whether something that a server waits for has happened, and how often.
#[derive(Clone, Default)]
struct Count(Rc<Cell<usize>>);

impl Count {
    fn add(&self, count: usize) {
        self.0.set(self.0.get() + count);
    }

    async fn reaches(&self, count: usize) {
        until(|| self.0.get() >= count).await;
    }
}

/// MS-ASCMD 2.2.3.88.1: a server answers a Ping after up to 59 minutes.
#[test]
fn a_ping_may_be_held_for_59_minutes() {
    run_for_hours(async {
        let (asked, passed) = (Count::default(), Count::default());
        let (ask, pass) = (asked.clone(), passed.clone());
        let server = origin(move |mut wire, _| {
            let (ask, pass) = (ask.clone(), pass.clone());
            async move {
                for round in 1.. {
                    wire.message().await?;
                    ask.add(1);
                    pass.reaches(round).await;
                    wire.send(OK).await?;
                }
                Some(())
            }
        })
        .await;
        let edge = Edge::start(service(&[server])).await;
        let mut phone = edge.client().await;
        let ping = "POST /Microsoft-Server-ActiveSync?Cmd=Ping HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nping";
        for round in 1..=2 {
            phone.send(ping).await.unwrap();
            asked.reaches(round).await;
            silence(59).await;
            passed.add(1);
            assert_eq!(phone.message().await.unwrap().text(), "ok");
        }
        phone.send(ping).await.unwrap();
        asked.reaches(3).await;
        silence(61).await;
        assert_eq!(
            phone.message().await.unwrap().status(),
            504,
            "there is a limit"
        );
    });
}

/// A phone that hangs up must not keep a server busy for the rest of the hour.
#[test]
fn a_ping_ends_when_the_phone_hangs_up() {
    run(async {
        let (asked, ended) = (Count::default(), Count::default());
        let (ask, end) = (asked.clone(), ended.clone());
        let server = origin(move |mut wire, _| {
            let (ask, end) = (ask.clone(), end.clone());
            async move {
                wire.message().await?;
                ask.add(1);
                assert!(wire.at_end().await);
                end.add(1);
                Some(())
            }
        })
        .await;
        let edge = Edge::start(service(&[server])).await;
        let mut phone = edge.client().await;
        phone
            .send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            .await
            .unwrap();
        asked.reaches(1).await;
        drop(phone);
        ended.reaches(1).await;
    });
}

/// EWS `GetStreamingEvents` and MAPI's PENDING: a chunk, a long silence, a chunk; each reaches the client at once.
#[test]
fn a_stream_survives_silence_and_each_chunk_leaves_at_once() {
    run_for_hours(async {
        let read = Count::default();
        let reads = read.clone();
        let server = origin(move |mut wire, _| {
            let reads = reads.clone();
            async move {
                wire.message().await?;
                wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                    .await?;
                for chunk in 1.. {
                    wire.send("7\r\nPENDING\r\n").await?;
                    // The next one isn't sent before the client has this one.
                    reads.reaches(chunk).await;
                }
                Some(())
            }
        })
        .await;
        let edge = Edge::start(service(&[server])).await;
        let mut client = edge.client().await;
        client
            .send("POST /mapi/emsmdb HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")
            .await
            .unwrap();
        assert_eq!(client.head().await.unwrap().status(), 200);
        for minutes in [0, 30, 39, 39] {
            silence(minutes).await;
            assert_eq!(client.chunk().await.unwrap(), b"PENDING");
            read.add(1);
        }
        assert_eq!(client.chunk().await.unwrap(), b"PENDING");
        silence(41).await;
        assert!(client.at_end().await);
        assert_eq!(edge.counters().errors(Kind::Idle), 1);
    });
}

/// RPC over HTTP (MS-RPCH 2.1.2.1): two connections; the body of one is declared as a gibibyte, the response of the other
/// as well, and both go on for as long as the tunnel lives.
#[test]
fn rpc_channels_stream_both_ways() {
    const GIB: usize = 1 << 30;
    run(async {
        let arrived = Count::default();
        let arriving = arrived.clone();
        let server = origin(move |mut wire, _| {
            let arriving = arriving.clone();
            async move {
                let request = wire.head().await?;
                if request.start.starts_with("RPC_OUT_DATA") {
                    wire.exactly(76).await?;
                    wire.send(format!(
                        "HTTP/1.1 200 Success\r\nContent-Length: {GIB}\r\n\r\n"
                    ))
                    .await?;
                    for count in 1.. {
                        arriving.reaches(count * 20).await;
                        wire.send([7; 28]).await?;
                    }
                }
                assert_eq!(request.get("content-length"), Some(&*GIB.to_string()));
                // The response comes while the request has just begun.
                wire.send("HTTP/1.1 200 Success\r\nContent-Length: 0\r\n\r\n")
                    .await?;
                while let Some(packet) = wire.exactly(20).await {
                    arriving.add(packet.len());
                }
                Some(())
            }
        })
        .await;
        let edge = Edge::start(service(&[server])).await;
        let (mut out, mut inward) = (edge.client().await, edge.client().await);
        let head = |method, length| {
            format!(
                "{method} /rpc/rpcproxy.dll?ex:6001 HTTP/1.1\r\nHost: h\r\nAuthorization: Negotiate t\r\nContent-Length: {length}\r\n\r\n"
            )
        };
        out.send(head("RPC_OUT_DATA", 76)).await.unwrap();
        out.send([1; 76]).await.unwrap();
        inward.send(head("RPC_IN_DATA", GIB)).await.unwrap();
        assert_eq!(inward.message().await.unwrap().status(), 200);
        assert_eq!(
            out.head().await.unwrap().get("content-length"),
            Some(&*GIB.to_string())
        );
        for count in 1..=50 {
            inward.send([2; 20]).await.unwrap();
            arrived.reaches(count * 20).await;
            assert_eq!(out.exactly(28).await.unwrap(), [7; 28]);
        }
        // The client ends one channel; the server learns of it, and the other one is as it was.
        drop(inward);
        until(|| edge.ended.borrow().len() == 1).await;
        assert!(out.silent().await);
    });
}

/// `MaxTokenSize` of Windows is 65,535 bytes, which base64 makes a header line of 87,380.
#[test]
fn the_largest_kerberos_ticket_fits() {
    run(async {
        let ticket = "Y".repeat(87_380);
        let expected = format!("Negotiate {ticket}");
        let server = origin(move |mut wire, _| {
            let expected = expected.clone();
            async move {
                let request = wire.message().await?;
                assert_eq!(request.get("authorization"), Some(&*expected));
                wire.send(OK).await
            }
        })
        .await;
        let edge = Edge::start(service(&[server])).await;
        let line = format!("Authorization: Negotiate {ticket}\r\n");
        let answer = edge.client().await.get("/owa", &line).await;
        assert_eq!(answer.unwrap().text(), "ok");
    });
}

/// Idle is silence in both directions: one that speaks is enough.
#[test]
fn one_direction_keeps_a_connection_alive() {
    const STEP: Duration = Duration::from_millis(100);
    run(async {
        let server = origin(|mut wire, _| async move {
            let request = wire.head().await?;
            if request.start.starts_with("PUT") {
                wire.exactly(10).await?;
                return wire.send(OK).await;
            }
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
                .await?;
            for _ in 0..10 {
                time::sleep(STEP).await;
                wire.send("x").await?;
            }
            Some(())
        })
        .await;
        let mut settings = service(&[server]);
        forwarding(&mut settings).timeouts.idle = STEP * 4;
        let edge = Edge::start(settings).await;
        let mut client = edge.client().await;
        assert_eq!(client.get("/", "").await.unwrap().text(), "xxxxxxxxxx");
        client
            .send("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n")
            .await
            .unwrap();
        for _ in 0..10 {
            time::sleep(STEP).await;
            client.send("x").await.unwrap();
        }
        assert_eq!(client.message().await.unwrap().status(), 200);
        assert_eq!(edge.counters().errors(Kind::Idle), 0);
    });
}

/// A client that has asked for all it wants may say so, and still gets the rest of what it asked for.
#[test]
fn a_half_closed_client_gets_its_response() {
    for (framing, end) in [
        ("Content-Length: 8\r\n\r\n", ""),
        ("Transfer-Encoding: chunked\r\n\r\n8\r\n", "\r\n0\r\n\r\n"),
    ] {
        run(async move {
            let (closed, ended) = (Count::default(), Count::default());
            let (close, end_seen) = (closed.clone(), ended.clone());
            let server = origin(move |mut wire, _| {
                let (close, end_seen) = (close.clone(), end_seen.clone());
                async move {
                    wire.message().await?;
                    wire.send(format!("HTTP/1.1 200 OK\r\n{framing}half"))
                        .await?;
                    close.reaches(1).await;
                    // Time for the proxy to see it.
                    time::sleep(Duration::from_millis(50)).await;
                    wire.send(format!("rest{end}")).await?;
                    let next = wire.message().await;
                    end_seen.add(1);
                    next.map(drop)
                }
            })
            .await;
            let edge = Edge::start(service(&[server])).await;
            let mut client = edge.client().await;
            client
                .send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
                .await
                .unwrap();
            let mut answer = client.head().await.unwrap();
            client.0.shutdown().await.unwrap();
            closed.add(1);
            client.body(&mut answer).await.unwrap();
            assert_eq!(answer.text(), "halfrest");
            assert!(client.at_end().await);
            until(|| edge.ended.borrow().len() == 1).await;
            assert!(edge.ended.borrow()[0].is_ok(), "{:?}", edge.ended.borrow());
            // The server's connection is as good as any.
            edge.client()
                .await
                .send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
                .await
                .unwrap();
            ended.reaches(1).await;
            assert_eq!(edge.counters().pool_reused.get(), 1);
        });
    }
}

/// In the middle of a body an end is an end: the server must not wait for the rest.
#[test]
fn a_client_that_ends_in_its_body_is_gone() {
    run(async {
        let broken = Count::default();
        let breaks = broken.clone();
        let server = origin(move |mut wire, _| {
            let breaks = breaks.clone();
            async move {
                let mut request = wire.head().await?;
                wire.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
                    .await?;
                if wire.body(&mut request).await.is_none() {
                    breaks.add(1);
                }
                Some(())
            }
        })
        .await;
        let edge = Edge::start(service(&[server])).await;
        let mut client = edge.client().await;
        client
            .send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nhalf")
            .await
            .unwrap();
        client.head().await.unwrap();
        client.0.shutdown().await.unwrap();
        broken.reaches(1).await;
        until(|| edge.ended.borrow().len() == 1).await;
    });
}

/// A server that closes its sending side after a response has said all it will; the client's next request goes elsewhere.
#[test]
fn a_half_closed_server_is_not_used_again() {
    run(async {
        let server = origin(|mut wire, _| async move {
            wire.message().await?;
            wire.send(OK).await?;
            wire.0.shutdown().await.ok()?;
            assert!(wire.at_end().await, "a request that nobody will answer");
            Some(())
        })
        .await;
        let edge = Edge::start(service(&[server])).await;
        let mut client = edge.client().await;
        for opened in 1..=10 {
            assert_eq!(client.get("/", "").await.unwrap().text(), "ok");
            assert_eq!(edge.counters().upstream_opened.get(), opened);
            time::sleep(Duration::from_millis(5)).await;
        }
    });
}

/// What the client sends after its last request's end is nobody's.
#[test]
fn silence_after_a_half_close_ends_the_connection() {
    run(async {
        let server = origin(|mut wire, _| async move {
            wire.message().await?;
            wire.send(OK).await?;
            wire.message().await.map(drop)
        })
        .await;
        let edge = Edge::start(service(&[server])).await;
        let mut client: Wire = edge.client().await;
        assert_eq!(client.get("/", "").await.unwrap().text(), "ok");
        client.0.shutdown().await.unwrap();
        assert!(client.at_end().await);
        until(|| edge.ended.borrow().len() == 1).await;
        assert!(edge.ended.borrow()[0].is_ok());
    });
}
