//! Limits on the wire: what is let in, what is refused and how, and that a refusal does no harm to what goes on.

#![allow(clippy::unwrap_used, reason = "a test that can't go on should stop")]

mod support;

use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use lb_proxy::{
    Access, BodyRate, ConnectionLimits, Exceeded, Kind, Prefix, Rate, RequestLimits, Service,
};
use support::iis::Iis;
use support::{Edge, Wire, forwarding, origin, run, service, until};
use tokio::sync::Notify;

/// A server that reads whole requests and says how large their bodies were; it never closes.
async fn counting() -> std::net::SocketAddr {
    origin(|mut wire, _| async move {
        loop {
            let size = wire.message().await?.body.len().to_string();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", size.len());
            wire.send(head + &size).await?;
        }
    })
    .await
}

fn count(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap()
}

/// So slow that no test sees a second token.
fn hourly(requests: u32) -> Rate {
    let requests = count(requests);
    Rate::new(requests, Duration::from_hours(1), requests)
}

async fn edge(change: impl FnOnce(&mut Service)) -> Edge {
    let mut service = service(&[counting().await]);
    change(&mut service);
    Edge::start(service).await
}

#[test]
fn a_head_with_too_many_lines_or_bytes_is_431() {
    run(async {
        let edge = edge(|service| {
            service.max_headers = Some(10);
            service.max_header_bytes = Some(1000);
        })
        .await;
        // `Host` is the tenth.
        let lines = "X-Some: line\r\n".repeat(9);
        assert_eq!(
            edge.client().await.get("/", &lines).await.unwrap().status(),
            200
        );
        let lines = "X-Some: line\r\n".repeat(10);
        assert_eq!(
            edge.client().await.get("/", &lines).await.unwrap().status(),
            431
        );
        let long = format!("X-Long: {}\r\n", "x".repeat(1000));
        assert_eq!(
            edge.client().await.get("/", &long).await.unwrap().status(),
            431
        );
        until(|| edge.counters().errors(Kind::HeaderTooLarge) == 2).await;
    });
}

#[test]
fn a_body_that_is_declared_too_large_reaches_no_server() {
    run(async {
        let edge = edge(|service| forwarding(service).body.max = Some(10)).await;
        let mut client = edge.client().await;
        let post = |length: usize| {
            format!(
                "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n{}",
                "x".repeat(length)
            )
        };
        client.send(post(10)).await.unwrap();
        assert_eq!(client.message().await.unwrap().text(), "10");
        client.send(post(11)).await.unwrap();
        assert_eq!(client.message().await.unwrap().status(), 413);
        // Not on a new connection, and not on the one that is kept.
        let counters = edge.counters();
        assert_eq!(
            (counters.upstream_opened.get(), counters.pool_reused.get()),
            (1, 0)
        );
        // What was sent of it is read over, and the connection goes on.
        client.send(post(9)).await.unwrap();
        assert_eq!(client.message().await.unwrap().text(), "9");
        assert_eq!(edge.counters().errors(Kind::BodyTooLarge), 1);
    });
}

#[test]
fn a_client_that_asks_first_is_told_413_and_sends_nothing() {
    run(async {
        let edge = edge(|service| forwarding(service).body.max = Some(10)).await;
        let mut client = edge.client().await;
        let ask =
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5000000\r\nExpect: 100-continue\r\n\r\n";
        client.send(ask).await.unwrap();
        let answer = client.message().await.unwrap();
        assert_eq!(answer.status(), 413, "and no 100 before it");
        assert_eq!(edge.counters().upstream_opened.get(), 0);
    });
}

#[test]
fn a_body_that_grows_too_large_is_cut_off() {
    run(async {
        let edge = edge(|service| forwarding(service).body.max = Some(10)).await;
        let mut client = edge.client().await;
        let post = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
        client
            .send(format!("{post}a\r\n0123456789\r\n0\r\n\r\n"))
            .await
            .unwrap();
        assert_eq!(client.message().await.unwrap().text(), "10");
        client
            .send(format!("{post}a\r\n0123456789\r\n"))
            .await
            .unwrap();
        client.send("1\r\nx\r\n").await.unwrap();
        assert_eq!(client.message().await.unwrap().status(), 413);
        // The rest of it is no request.
        client.send("0\r\n\r\n").await.unwrap();
        client
            .send(format!("{post}1\r\nx\r\n0\r\n\r\n"))
            .await
            .unwrap();
        assert_eq!(client.message().await.unwrap().text(), "1");
        assert_eq!(edge.counters().errors(Kind::BodyTooLarge), 1);
    });
}

/// Sends the head of a request whose body has begun.
async fn slow_body(edge: &Edge, method: &str) -> Wire {
    let mut client = edge.client().await;
    let head = format!("{method} / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\nx");
    client.send(head).await.unwrap();
    client
}

#[test]
fn a_body_that_comes_too_slowly_ends_its_connection_but_not_a_tunnel() {
    run(async {
        let edge = edge(|service| {
            forwarding(service).body.rate = Some(BodyRate {
                bytes_per_second: count(1000),
                grace: Duration::from_millis(50),
            });
        })
        .await;
        let mut tunnel = slow_body(&edge, "RPC_IN_DATA").await;
        let mut slow = slow_body(&edge, "POST").await;
        assert!(slow.at_end().await);
        assert_eq!(edge.counters().errors(Kind::SlowBody), 1);
        // It began before the other, and has been silent for as long.
        tunnel.send(vec![b'x'; 999]).await.unwrap();
        assert_eq!(tunnel.message().await.unwrap().text(), "1000");
        assert_eq!(edge.counters().errors(Kind::SlowBody), 1);
    });
}

#[test]
fn a_server_that_is_slow_to_take_a_body_is_not_the_clients_fault() {
    run(async {
        let server = origin(|mut wire, _| async move {
            wire.head().await?;
            // The client's bytes fill every buffer on the way meanwhile.
            tokio::time::sleep(Duration::from_millis(300)).await;
            wire.exactly(20_000_000).await?;
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                .await
        })
        .await;
        let mut service = service(&[server]);
        forwarding(&mut service).body.rate = Some(BodyRate {
            bytes_per_second: count(1000),
            grace: Duration::from_millis(100),
        });
        let edge = Edge::start(service).await;
        let mut client = edge.client().await;
        client
            .send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 20000000\r\n\r\n")
            .await
            .unwrap();
        client.send(vec![b'x'; 20_000_000]).await.unwrap();
        assert_eq!(client.message().await.unwrap().status(), 200);
    });
}

#[test]
fn a_client_that_waits_for_its_100_is_not_slow() {
    run(async {
        let server = origin(|mut wire, _| async move {
            wire.head().await?;
            tokio::time::sleep(Duration::from_millis(300)).await;
            wire.send("HTTP/1.1 100 Continue\r\n\r\n").await?;
            wire.exactly(4).await?;
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                .await
        })
        .await;
        let mut service = service(&[server]);
        forwarding(&mut service).body.rate = Some(BodyRate {
            bytes_per_second: count(1000),
            grace: Duration::from_millis(100),
        });
        let edge = Edge::start(service).await;
        let mut client = edge.client().await;
        client
            .send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
            .await
            .unwrap();
        assert_eq!(client.head().await.unwrap().status(), 100);
        client.send("body").await.unwrap();
        assert_eq!(client.message().await.unwrap().status(), 200);
    });
}

#[test]
fn a_connection_too_many_is_closed_and_counted() {
    run(async {
        for limits in [(Some(count(2)), None), (None, Some(count(2)))] {
            let limits = ConnectionLimits::new(limits.0, limits.1);
            let edge = edge(|service| service.entrance.connections = Some(limits)).await;
            let (mut first, mut second) = (edge.client().await, edge.client().await);
            assert_eq!(first.get("/", "").await.unwrap().status(), 200);
            assert_eq!(second.get("/", "").await.unwrap().status(), 200);
            assert!(edge.client().await.at_end().await);
            assert_eq!(edge.counters().errors(Kind::ConnectionLimit), 1);
            // The others go on, and the place of one that ends is free.
            assert_eq!(first.get("/", "").await.unwrap().status(), 200);
            drop(second);
            until(|| edge.ended.borrow().len() == 2).await;
            assert_eq!(
                edge.client().await.get("/", "").await.unwrap().status(),
                200
            );
        }
    });
}

#[test]
fn who_is_denied_is_closed_and_counted() {
    run(async {
        let all = |text: &str| Prefix::new(text.parse().unwrap(), 8).unwrap();
        let lists = [
            Access::new([], [all("127.0.0.0")]),
            Access::new([all("10.0.0.0")], []),
        ];
        for list in lists {
            let open = Arc::new(Access::default());
            let edge = edge(|service| service.entrance.access = vec![open, Arc::new(list)]).await;
            assert!(edge.client().await.at_end().await);
            assert_eq!(edge.counters().errors(Kind::Denied), 1);
        }
        let list = Arc::new(Access::new([all("127.0.0.0")], []));
        let edge = edge(|service| service.entrance.access = vec![list]).await;
        assert_eq!(
            edge.client().await.get("/", "").await.unwrap().status(),
            200
        );
    });
}

#[test]
fn requests_above_the_rate_are_429_and_say_when_to_come_again() {
    run(async {
        for per_client in [false, true] {
            let rate = Some(hourly(2));
            let (all, each) = if per_client {
                (None, rate)
            } else {
                (rate, None)
            };
            let limits = RequestLimits::new(None, all, each, Exceeded::TooManyRequests);
            let edge = edge(|service| service.requests = Some(limits)).await;
            let mut client = edge.client().await;
            for _ in 0..2 {
                assert_eq!(client.get("/", "").await.unwrap().status(), 200);
            }
            let refused = client.get("/", "").await.unwrap();
            assert_eq!(refused.status(), 429);
            let wait: u64 = refused.get("retry-after").unwrap().parse().unwrap();
            assert!((1..=1800).contains(&wait), "{wait}");
            // On another connection as well.
            assert_eq!(
                edge.client().await.get("/", "").await.unwrap().status(),
                429
            );
            assert_eq!(edge.counters().errors(Kind::RateLimited), 2);
        }
    });
}

#[test]
fn a_refusal_may_be_silence_or_503() {
    run(async {
        let limits = RequestLimits::new(None, Some(hourly(1)), None, Exceeded::Drop);
        let edge = edge(|service| forwarding(service).requests = Some(limits)).await;
        let mut client = edge.client().await;
        assert_eq!(client.get("/", "").await.unwrap().status(), 200);
        assert_eq!(client.get("/", "").await, None, "closed");
        assert_eq!(edge.counters().errors(Kind::RateDropped), 1);

        let limits = RequestLimits::new(None, Some(hourly(1)), None, Exceeded::Unavailable);
        let edge = self::edge(|service| forwarding(service).requests = Some(limits)).await;
        let mut client = edge.client().await;
        assert_eq!(client.get("/", "").await.unwrap().status(), 200);
        assert_eq!(client.get("/", "").await.unwrap().status(), 503);
    });
}

#[test]
fn a_request_is_under_way_until_its_response_ends() {
    run(async {
        let end = Rc::new(Notify::new());
        let told = Rc::clone(&end);
        let server = origin(move |mut wire, _| {
            let told = Rc::clone(&told);
            async move {
                loop {
                    let request = wire.message().await?;
                    wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nx")
                        .await?;
                    if request.path() == "/held" {
                        told.notified().await;
                    }
                    wire.send("x").await?;
                }
            }
        })
        .await;
        let mut service = service(&[server]);
        let limits = RequestLimits::new(Some(count(1)), None, None, Exceeded::Drop);
        forwarding(&mut service).requests = Some(limits);
        let edge = Edge::start(service).await;
        let mut held = edge.client().await;
        held.send("GET /held HTTP/1.1\r\nHost: h\r\n\r\n")
            .await
            .unwrap();
        held.head().await.unwrap();
        let mut client = edge.client().await;
        let refused = client.get("/", "").await.unwrap();
        assert_eq!(
            (refused.status(), refused.get("retry-after")),
            (503, Some("1"))
        );
        assert_eq!(edge.counters().errors(Kind::Full), 1);
        end.notify_one();
        assert_eq!(held.exactly(2).await.unwrap(), b"xx");
        assert_eq!(client.get("/", "").await.unwrap().status(), 200);
        assert_eq!(client.get("/", "").await.unwrap().status(), 200);
    });
}

#[test]
fn a_login_survives_a_refusal() {
    run(async {
        let (server, iis) = Iis::start().await;
        let mut service = service(&[server]);
        forwarding(&mut service).body.max = Some(10);
        // Two legs, and one request after them.
        let limits = RequestLimits::new(None, Some(hourly(5)), None, Exceeded::TooManyRequests);
        service.requests = Some(limits);
        let edge = Edge::start(service).await;
        let mut alice = edge.client().await;
        alice
            .get("/", "Authorization: NTLM T1-alice\r\n")
            .await
            .unwrap();
        alice
            .get("/", "Authorization: NTLM T3-alice\r\n")
            .await
            .unwrap();
        let large = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\n\r\n01234567890";
        alice.send(large).await.unwrap();
        assert_eq!(alice.message().await.unwrap().status(), 413);
        let answer = alice.get("/", "").await.unwrap();
        assert_eq!((answer.status(), answer.text()), (200, "alice"));
        alice.get("/", "").await.unwrap();
        assert_eq!(alice.get("/", "").await.unwrap().status(), 429);
        assert!(alice.silent().await, "and still open");
        assert_eq!((iis.opened.get(), iis.logins.get()), (1, 1));
    });
}
