//! What whoever carries a connection is told of it, on the wire: when, of what, and that it is told once.
//!
//! Relays and streams of HTTP/2 are in `relay` and `http2`.

#![allow(clippy::unwrap_used, reason = "a test that can't go on should stop")]

mod support;

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use lb_proxy::{Bulk, BulkThresholds, Carriage, ClientAddr, Proxy, Service, Tunnels};
use support::{Carrier, Edge, Told, forwarding, origin, run, service, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::spawn_local;

const THRESHOLDS: BulkThresholds = BulkThresholds {
    response: 40_000,
    upload: 50_000,
    streamed: 60_000,
    repeated: 20_000,
};

/// A proxy for a service with these thresholds.
async fn start(mut service: Service) -> Edge {
    service.bulk = Some(THRESHOLDS);
    Edge::start(service).await
}

#[track_caller]
fn check(edge: &Edge, expected: &[(usize, Bulk)]) {
    assert_eq!(*edge.told.borrow(), expected);
}

/// A server whose answer is as long as the last part of the path says: `/sized/N`, `/chunked/N`, `/close/N`. Bodies of
/// requests are read before it answers.
async fn server() -> SocketAddr {
    origin(|mut wire, _| async move {
        loop {
            let request = wire.message().await?;
            let mut parts = request.path().split('/').skip(1);
            let (kind, length) = (parts.next()?, parts.next()?.parse().unwrap());
            let body = vec![b'x'; length];
            match kind {
                "sized" => {
                    wire.send(format!(
                        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"
                    ))
                    .await?;
                    wire.send(body).await?;
                }
                "chunked" => {
                    wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                        .await?;
                    for chunk in body.chunks(1000) {
                        wire.send(format!("{:x}\r\n", chunk.len())).await?;
                        wire.send([chunk, b"\r\n"].concat()).await?;
                    }
                    wire.send("0\r\n\r\n").await?;
                }
                "close" => {
                    wire.send("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
                        .await?;
                    wire.send(body).await?;
                    return None;
                }
                other => panic!("{other}"),
            }
        }
    })
    .await
}

#[test]
fn a_response_that_announces_its_length() {
    run(async {
        let edge = start(service(&[server().await])).await;
        let mut client = edge.client().await;
        for path in ["/sized/39999", "/sized/0", "/chunked/59999", "/chunked/0"] {
            client.get(path, "").await.unwrap();
        }
        check(&edge, &[]);
        client.get("/sized/40000", "").await.unwrap();
        check(&edge, &[(0, Bulk::Response(40_000))]);
        // Once is enough, whatever comes after.
        client.get("/sized/50000", "").await.unwrap();
        client.get("/chunked/70000", "").await.unwrap();
        check(&edge, &[(0, Bulk::Response(40_000))]);
    });
}

/// None of them is big, and one move serves all that come after.
#[test]
fn several_responses_that_are_big_enough_on_average() {
    run(async {
        let edge = start(service(&[server().await])).await;
        let mut small = edge.client().await;
        for _ in 0..10 {
            small.get("/sized/19999", "").await.unwrap();
        }
        check(&edge, &[]);
        let mut client = edge.client().await;
        for path in ["/sized/100", "/chunked/39900", "/sized/20000"] {
            client.get(path, "").await.unwrap();
        }
        check(&edge, &[]);
        client.get("/sized/20000", "").await.unwrap();
        check(&edge, &[(1, Bulk::Repeated(20_000))]);
        client.get("/sized/50000", "").await.unwrap();
        check(&edge, &[(1, Bulk::Repeated(20_000))]);
    });
}

/// Only then is the client silent, and the cut without loss.
#[test]
fn the_carrier_learns_of_a_response_before_the_client_does() {
    run(async {
        let server = origin(|mut wire, _| async move {
            wire.head().await?;
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
                .await?;
            // The body never comes.
            wire.head().await.map(drop)
        })
        .await;
        let mut service = service(&[server]);
        service.bulk = Some(THRESHOLDS);
        let (proxy, told) = (Proxy::new(Arc::new(service)), Told::default());
        let (near, far) = tokio::io::duplex(1 << 20);
        let watched = Watched {
            stream: far,
            told: Rc::clone(&told),
        };
        let carrier: Rc<dyn Carriage> = Rc::new(Carrier {
            number: 0,
            told: Rc::clone(&told),
        });
        let client = ClientAddr {
            peer: "192.0.2.1:1".parse().unwrap(),
            local: "192.0.2.2:80".parse().unwrap(),
        };
        spawn_local(proxy.serve_on(Some(carrier), watched, client));
        let (mut read, mut write) = tokio::io::split(near);
        let request = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
        write.write_all(request).await.unwrap();
        let mut first = [0; 15];
        read.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200 OK");
        assert_eq!(*told.borrow(), [(0, Bulk::Response(1_000_000))]);
    });
}

#[test]
fn bodies_of_unknown_length_once_enough_has_passed() {
    run(async {
        for kind in ["chunked", "close"] {
            let edge = start(service(&[server().await])).await;
            for (length, expected) in [(59_999, 0), (60_000, 1)] {
                let mut client = edge.client().await;
                let path = format!("/{kind}/{length}");
                client.get(&path, "Connection: close\r\n").await.unwrap();
                let mut rest = Vec::new();
                client.0.read_to_end(&mut rest).await.unwrap();
                assert_eq!(edge.told.borrow().len(), expected, "{kind} {length}");
            }
            check(&edge, &[(1, Bulk::Streamed(60_000))]);
        }
    });
}

#[test]
fn an_upload_is_told_of_before_any_of_it_is_asked_for() {
    run(async {
        let edge = start(service(&[server().await])).await;
        let mut client = edge.client().await;
        let put = |length: usize| {
            format!("PUT /sized/0 HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n")
        };
        client.send(put(49_999)).await.unwrap();
        client.send(vec![b'x'; 49_999]).await.unwrap();
        assert_eq!(client.message().await.unwrap().status(), 200);
        check(&edge, &[]);
        client.send(put(50_000)).await.unwrap();
        until(|| !edge.told.borrow().is_empty()).await;
        check(&edge, &[(0, Bulk::Upload(50_000))]);
        client.send(vec![b'x'; 50_000]).await.unwrap();
        assert_eq!(client.message().await.unwrap().status(), 200);
        check(&edge, &[(0, Bulk::Upload(50_000))]);
    });
}

#[test]
fn a_chunked_upload_once_enough_has_passed() {
    run(async {
        let edge = start(service(&[server().await])).await;
        for (length, expected) in [(59_999, 0), (60_000, 1)] {
            let mut client = edge.client().await;
            let head = "PUT /sized/0 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
            client.send(head).await.unwrap();
            let body = vec![b'x'; length];
            for chunk in body.chunks(1000) {
                let line = format!("{:x}\r\n", chunk.len());
                let chunk = [line.as_bytes(), chunk, b"\r\n"].concat();
                client.send(chunk).await.unwrap();
            }
            client.send("0\r\n\r\n").await.unwrap();
            assert_eq!(client.message().await.unwrap().status(), 200);
            assert_eq!(edge.told.borrow().len(), expected, "{length}");
        }
        check(&edge, &[(1, Bulk::Streamed(60_000))]);
    });
}

/// A request that no server gets has a body that nobody reads.
#[test]
fn a_refused_upload_is_no_reason() {
    run(async {
        let mut service = service(&[server().await]);
        forwarding(&mut service).body.max = Some(100_000);
        let edge = start(service).await;
        let mut client = edge.client().await;
        client
            .send("PUT /sized/0 HTTP/1.1\r\nHost: h\r\nContent-Length: 100001\r\n\r\n")
            .await
            .unwrap();
        assert_eq!(client.message().await.unwrap().status(), 413);
        check(&edge, &[]);
    });
}

/// What Outlook Anywhere announces is how much its session may say, not how much it will.
#[test]
fn a_session_of_outlook_anywhere_is_what_it_says() {
    run(async {
        let passed = Rc::new(Cell::new(false));
        let tell = Rc::clone(&passed);
        let server = origin(move |mut wire, _| {
            let passed = Rc::clone(&tell);
            async move {
                wire.head().await?;
                wire.exactly(59_999).await?;
                passed.set(true);
                wire.exactly(1).await?;
                wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                    .await
            }
        })
        .await;
        let edge = start(service(&[server])).await;
        let mut client = edge.client().await;
        client
            .send("RPC_IN_DATA /rpc/rpcproxy.dll HTTP/1.1\r\nHost: h\r\nContent-Length: 1073741824\r\n\r\n")
            .await
            .unwrap();
        client.send(vec![b'x'; 59_999]).await.unwrap();
        until(|| passed.get()).await;
        check(&edge, &[]);
        client.send("x").await.unwrap();
        assert_eq!(client.head().await.unwrap().status(), 200);
        check(&edge, &[(0, Bulk::Streamed(60_000))]);
    });
}

#[test]
fn a_connection_that_leaves_http_and_only_then() {
    run(async {
        let server = origin(|mut wire, number| async move {
            wire.head().await?;
            if number == 0 {
                return wire
                    .send("HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n")
                    .await;
            }
            wire.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
                .await?;
            wire.head().await.map(drop)
        })
        .await;
        let mut service = service(&[server]);
        forwarding(&mut service).tunnels = Tunnels {
            upgrade: vec!["websocket".to_owned()],
            connect: false,
        };
        let edge = start(service).await;
        let handshake = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
        let mut client = edge.client().await;
        assert_eq!(client.get("/", handshake).await.unwrap().status(), 426);
        check(&edge, &[]);
        let mut client = edge.client().await;
        assert_eq!(client.get("/", handshake).await.unwrap().status(), 101);
        check(&edge, &[(1, Bulk::Tunnel)]);
    });
}

/// A stream that fails the test if it is written to before the carrier was told.
struct Watched {
    stream: tokio::io::DuplexStream,
    told: Told,
}

mod watched {
    use std::io;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    use super::Watched;

    impl AsyncRead for Watched {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_read(cx, buf)
        }
    }

    impl AsyncWrite for Watched {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            assert!(!self.told.borrow().is_empty(), "written before it was told");
            Pin::new(&mut self.stream).poll_write(cx, buf)
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_shutdown(cx)
        }
    }
}
