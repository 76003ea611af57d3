//! `Upgrade` and `CONNECT`, where a route allows them.

#![allow(clippy::unwrap_used, reason = "a test that can't go on should stop")]

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use lb_proxy::{Kind, Service, Tunnels};
use support::{Edge, Wire, forwarding, origin, run, service, until};
use tokio::io::AsyncWriteExt;

const HANDSHAKE: &str =
    "Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\n";
const GRANTED: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";

fn open(servers: &[SocketAddr]) -> Service {
    let mut service = service(servers);
    forwarding(&mut service).tunnels = Tunnels {
        upgrade: vec!["websocket".to_owned()],
        connect: true,
    };
    service
}

async fn ask(client: &mut Wire, early: &str) {
    let request = format!("GET /ws HTTP/1.1\r\nHost: h\r\n{HANDSHAKE}\r\n{early}");
    client.send(request).await.unwrap();
}

/// Grants an upgrade and answers each word with itself, twice.
async fn echo(mut wire: Wire) -> Option<()> {
    let request = wire.head().await?;
    assert_eq!(request.all("connection"), ["Upgrade"]);
    assert_eq!(request.all("upgrade"), ["WebSocket"]);
    assert_eq!(request.get("sec-websocket-version"), Some("13"));
    // The first bytes of the other protocol come together with the head.
    wire.send(format!("{GRANTED}hello")).await?;
    while let Some(word) = wire.exactly(4).await {
        wire.send([&word[..], &word[..]].concat()).await?;
    }
    // The client has nothing more to say; the server has.
    wire.send("bye").await?;
    wire.0.shutdown().await.ok()
}

#[test]
fn bytes_pass_both_ways_once_the_server_says_101() {
    run(async {
        let server = origin(|wire, _| echo(wire)).await;
        let edge = Edge::start(open(&[server])).await;
        for early in ["", "earl"] {
            let mut client = edge.client().await;
            ask(&mut client, early).await;
            let granted = client.head().await.unwrap();
            assert_eq!(granted.status(), 101);
            assert_eq!(granted.all("connection"), ["Upgrade"]);
            assert_eq!(granted.all("upgrade"), ["WebSocket"]);
            assert_eq!(granted.get("content-length"), None);
            assert_eq!(client.exactly(5).await.unwrap(), b"hello");
            // Bytes that came before the 101 are the other protocol's, too.
            assert_eq!(
                client.exactly(early.len() * 2).await.unwrap(),
                early.repeat(2).as_bytes()
            );
            for word in ["ping", "GET ", "\r\n\r\n"] {
                client.send(word).await.unwrap();
                assert_eq!(client.exactly(8).await.unwrap(), word.repeat(2).as_bytes());
            }
            // One direction ends, the other goes on.
            client.0.shutdown().await.unwrap();
            assert_eq!(client.exactly(3).await.unwrap(), b"bye");
            assert!(client.at_end().await);
        }
        until(|| edge.ended.borrow().len() == 2).await;
        assert!(edge.ended.borrow().iter().all(Result::is_ok));
        let counters = edge.counters();
        assert_eq!(counters.tunnels.get(), 2);
        assert_eq!(counters.tunnel_bytes_received.get(), 12 + 16);
        assert_eq!(
            counters.tunnel_bytes_sent.get(),
            (5 + 24 + 3) + (5 + 32 + 3)
        );
        assert_eq!(
            (counters.upstream_opened.get(), counters.pool_reused.get()),
            (2, 0)
        );
        assert_eq!(counters.upstream_pinned.get(), 2);
    });
}

/// Egorov 2019: what the client sends after a refusal is a request, and goes by the rules for requests.
#[test]
fn without_a_101_there_is_no_tunnel() {
    run(async {
        let server = origin(|mut wire, _| async move {
            let request = wire.head().await?;
            assert_eq!(request.get("upgrade"), Some("WebSocket"));
            wire.send(
                "HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n",
            )
            .await?;
            let next = wire.message().await?;
            assert_eq!(next.lines, ["Host: h"], "the client's own words");
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                .await
        })
        .await;
        let edge = Edge::start(open(&[server])).await;
        let mut client = edge.client().await;
        ask(
            &mut client,
            "GET /next HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 1\r\n\r\n",
        )
        .await;
        let refused = client.message().await.unwrap();
        assert_eq!((refused.status(), refused.get("upgrade")), (426, None));
        assert_eq!(client.message().await.unwrap().status(), 200);
        assert_eq!(edge.counters().tunnels.get(), 0);
    });
}

#[test]
fn a_101_to_something_else_is_an_error() {
    run(async {
        let server = origin(|mut wire, _| async move {
            wire.head().await?;
            wire.send(GRANTED.replace("websocket", "h2c")).await?;
            assert!(wire.at_end().await);
            Some(())
        })
        .await;
        let edge = Edge::start(open(&[server])).await;
        let mut client = edge.client().await;
        ask(&mut client, "").await;
        assert_eq!(client.message().await.unwrap().status(), 502);
        assert_eq!(edge.counters().errors(Kind::UpstreamBroken), 1);
    });
}

#[test]
fn connect_is_passed_on_where_allowed() {
    run(async {
        let server = origin(|mut wire, _| async move {
            let request = wire.head().await?;
            assert_eq!(request.lines, ["Host: h:443"]);
            if request.start != "CONNECT h:443 HTTP/1.1" {
                return wire
                    .send("HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")
                    .await;
            }
            wire.send("HTTP/1.1 200 Fine\r\n\r\n").await?;
            let word = wire.exactly(4).await?;
            wire.send(word).await
        })
        .await;
        let edge = Edge::start(open(&[server])).await;
        let mut client = edge.client().await;
        client
            .send("CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n")
            .await
            .unwrap();
        let granted = client.head().await.unwrap();
        assert_eq!((granted.status(), granted.lines.len()), (200, 0));
        client.send("ping").await.unwrap();
        assert_eq!(client.exactly(4).await.unwrap(), b"ping");
        assert!(client.at_end().await);
        assert_eq!(edge.counters().tunnels.get(), 1);
    });
}

/// A login lives on its connection, and so does what is upgraded on it.
#[test]
fn an_upgrade_goes_on_the_clients_own_connection() {
    run(async {
        let server = origin(|mut wire, number| async move {
            assert_eq!(number, 0, "a second connection");
            wire.message().await?;
            wire.send("HTTP/1.1 200 OK\r\nPersistent-Auth: true\r\nContent-Length: 0\r\n\r\n")
                .await?;
            echo(wire).await
        })
        .await;
        let edge = Edge::start(open(&[server])).await;
        let mut client = edge.client().await;
        let login = client
            .get("/", "Authorization: Negotiate ONE\r\n")
            .await
            .unwrap();
        assert_eq!(login.status(), 200);
        ask(&mut client, "").await;
        assert_eq!(client.head().await.unwrap().status(), 101);
        assert_eq!(client.exactly(5).await.unwrap(), b"hello");
    });
}

#[test]
fn a_silent_tunnel_is_closed_and_a_busy_one_is_not() {
    run(async {
        let server = origin(|wire, _| echo(wire)).await;
        let mut settings = open(&[server]);
        forwarding(&mut settings).timeouts.idle = Duration::from_millis(300);
        let edge = Edge::start(settings).await;
        let mut client = edge.client().await;
        ask(&mut client, "").await;
        assert_eq!(client.head().await.unwrap().status(), 101);
        assert_eq!(client.exactly(5).await.unwrap(), b"hello");
        for _ in 0..8 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            client.send("ping").await.unwrap();
            assert_eq!(client.exactly(8).await.unwrap(), b"pingping");
        }
        assert!(client.at_end().await);
        assert_eq!(edge.counters().errors(Kind::Idle), 1);
    });
}

#[test]
fn draining_ends_tunnels() {
    run(async {
        let server = origin(|wire, _| echo(wire)).await;
        let edge = Edge::start(open(&[server])).await;
        let mut client = edge.client().await;
        ask(&mut client, "").await;
        assert_eq!(client.head().await.unwrap().status(), 101);
        assert_eq!(client.exactly(5).await.unwrap(), b"hello");
        edge.proxy.drain();
        assert!(client.at_end().await);
        until(|| edge.ended.borrow().len() == 1).await;
        assert!(edge.ended.borrow()[0].is_ok());
    });
}
