//! `Expect: 100-continue`: rules E1 to E4, and what .NET does to a server that wants NTLM.

#![allow(clippy::unwrap_used, reason = "a test that can't go on should stop")]

mod support;

use std::cell::Cell;
use std::rc::Rc;

use std::net::SocketAddr;
use std::time::Duration;

use lb_proxy::{ExpectMode, Kind, Service, tls};
use support::{Edge, Wire, forwarding, origin, run, service};

const EXPECTING: &str =
    "POST /ews HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n";
const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";
const DONE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

async fn expecting(client: &mut Wire, lines: &str) {
    client
        .send(format!("{EXPECTING}{lines}\r\n"))
        .await
        .unwrap();
}

/// E1: the head goes to the server without the body, and the client gets a 100 when the server sends one.
#[test]
fn the_servers_100_is_relayed_and_none_invented() {
    run(async {
        let permits = Rc::new(Cell::new(false));
        let permitted = Rc::clone(&permits);
        let server = origin(move |mut wire, _| {
            let permits = Rc::clone(&permits);
            async move {
                loop {
                    let mut request = wire.head().await?;
                    assert_eq!(request.all("expect"), ["100-continue"]);
                    support::until(|| permits.get()).await;
                    permits.set(false);
                    wire.send(CONTINUE).await?;
                    wire.body(&mut request).await?;
                    assert_eq!(request.text(), "hello");
                    wire.send(DONE).await?;
                }
            }
        })
        .await;
        let edge = Edge::start(service(&[server])).await;
        let mut client = edge.client().await;
        for round in 1..=3 {
            expecting(&mut client, "").await;
            assert!(client.silent().await, "100 invented");
            permitted.set(true);
            assert_eq!(client.head().await.unwrap().status(), 100);
            client.send("hello").await.unwrap();
            assert_eq!(client.message().await.unwrap().status(), 200);
            assert_eq!(edge.counters().continues_relayed.get(), round);
        }
    });
}

/// E3: a body that doesn't wait is forwarded, and a server that sends no 100 stops nothing.
#[test]
fn an_early_body_is_forwarded_and_no_100_is_needed() {
    run(async {
        let server = origin(|mut wire, _| async move {
            loop {
                let request = wire.message().await?;
                assert_eq!(request.text(), "hello");
                wire.send(DONE).await?;
            }
        })
        .await;
        let edge = Edge::start(service(&[server])).await;
        let mut client = edge.client().await;
        for _ in 0..2 {
            expecting(&mut client, "").await;
            client.send("hello").await.unwrap();
            assert_eq!(client.message().await.unwrap().status(), 200);
        }
        assert_eq!(edge.counters().continues_relayed.get(), 0);
    });
}

/// E2: the whole sequence of .NET. The body that follows the 401 is that request's, whatever it looks like.
#[test]
fn an_early_401_leaves_the_connection_fit_for_ntlm() {
    run(async {
        let server = origin(|mut wire, number| async move {
            assert_eq!(number, 0, "a second connection");
            for (credential, challenge) in [(None, "NTLM"), (Some("NTLM T1"), "NTLM T2")] {
                let mut request = wire.head().await?;
                assert_eq!(request.get("authorization"), credential);
                let refusal =
                    format!("WWW-Authenticate: {challenge}\r\nContent-Length: 2\r\n\r\nno");
                wire.send(format!("HTTP/1.1 401 Unauthorized\r\n{refusal}"))
                    .await?;
                wire.body(&mut request).await?;
            }
            let mut request = wire.head().await?;
            assert_eq!(request.get("authorization"), Some("NTLM T3"));
            wire.send(CONTINUE).await?;
            wire.body(&mut request).await?;
            assert_eq!(request.text(), "hello");
            wire.send(DONE).await
        })
        .await;
        let edge = Edge::start(service(&[server])).await;
        let mut client = edge.client().await;

        expecting(&mut client, "").await;
        // No 100 before it.
        assert_eq!(client.message().await.unwrap().status(), 401);
        client.send("GET /").await.unwrap();

        client.send("POST /ews HTTP/1.1\r\nHost: h\r\nAuthorization: NTLM T1\r\nContent-Length: 0\r\n\r\n")
            .await
            .unwrap();
        assert_eq!(client.message().await.unwrap().status(), 401);

        expecting(&mut client, "Authorization: NTLM T3\r\n").await;
        assert_eq!(client.head().await.unwrap().status(), 100);
        client.send("hello").await.unwrap();
        assert_eq!(client.message().await.unwrap().status(), 200);
        assert_eq!(edge.counters().requests.get(), 3);
        assert_eq!(edge.counters().upstream_opened.get(), 1);
    });
}

/// RFC 9110 section 10.1.1: the expectation of an HTTP/1.0 client, or without a body, means nothing.
#[test]
fn a_meaningless_expectation_goes_no_further() {
    run(async {
        let server = origin(|mut wire, _| async move {
            loop {
                let request = wire.message().await?;
                assert_eq!(request.get("expect"), None);
                wire.send(DONE).await?;
            }
        })
        .await;
        let edge = Edge::start(service(&[server])).await;
        for request in [
            EXPECTING.replace("1.1", "1.0") + "\r\nhello",
            EXPECTING.replace(": 5", ": 0") + "\r\n",
        ] {
            let mut client = edge.client().await;
            client.send(&request).await.unwrap();
            assert_eq!(client.message().await.unwrap().status(), 200, "{request}");
        }
    });
}

/// The same to the letter (dotnet/corefx issue 30760): a mailbox move's 64 MB body comes after the 401 only to keep the
/// connection, the first leg is empty, and the body goes with the third one, once the server has said 100.
#[test]
fn a_mailbox_move_of_dotnet_logs_in_and_sends_its_body() {
    const SIZE: usize = 64 << 20;
    const BLOCK: usize = 64 << 10;
    run(async {
        let server = origin(|mut wire, number| async move {
            assert_eq!(number, 0, "a second connection");
            let request = wire.head().await?;
            assert_eq!(request.all("expect"), ["100-continue"]);
            let offers = "WWW-Authenticate: Negotiate\r\nWWW-Authenticate: NTLM\r\nContent-Length: 0\r\n\r\n";
            wire.send(format!("HTTP/1.1 401 Unauthorized\r\n{offers}")).await?;
            discard(&mut wire, SIZE).await?;
            let first = wire.message().await?;
            assert_eq!((first.get("authorization"), first.get("content-length")), (Some("NTLM T1"), Some("0")));
            let challenge = "WWW-Authenticate: NTLM T2\r\nContent-Length: 0\r\n\r\n";
            wire.send(format!("HTTP/1.1 401 Unauthorized\r\n{challenge}")).await?;
            let third = wire.head().await?;
            assert_eq!((third.get("authorization"), third.get("expect")), (Some("NTLM T3"), Some("100-continue")));
            wire.send(CONTINUE).await?;
            discard(&mut wire, SIZE).await?;
            wire.send(DONE).await
        })
        .await;
        let edge = Edge::start(service(&[server])).await;
        let mut client = edge.client().await;
        let head = |lines: &str| {
            format!(
                "POST /EWS/mrsproxy.svc HTTP/1.1\r\nHost: h\r\nContent-Type: text/xml\r\n{lines}\r\n"
            )
        };
        let with_body = format!("Expect: 100-continue\r\nContent-Length: {SIZE}\r\n");

        client.send(head(&with_body)).await.unwrap();
        let refused = client.message().await.unwrap();
        assert_eq!(
            (refused.status(), refused.all("www-authenticate").len()),
            (401, 2)
        );
        fill(&mut client, SIZE, BLOCK).await;
        client
            .send(head("Authorization: NTLM T1\r\nContent-Length: 0\r\n"))
            .await
            .unwrap();
        assert_eq!(
            client.message().await.unwrap().get("www-authenticate"),
            Some("NTLM T2")
        );
        client
            .send(head(&format!("Authorization: NTLM T3\r\n{with_body}")))
            .await
            .unwrap();
        assert_eq!(client.message().await.unwrap().status(), 100);
        fill(&mut client, SIZE, BLOCK).await;
        assert_eq!(client.message().await.unwrap().status(), 200);
        assert_eq!(edge.counters().requests.get(), 3);
    });
}

/// Sends a body that looks like requests.
async fn fill(wire: &mut Wire, size: usize, block: usize) {
    let block = b"GET / HTTP/1.1\r\n".repeat(block / 16);
    for _ in 0..size / block.len() {
        wire.send(&block).await.unwrap();
    }
}

async fn discard(wire: &mut Wire, size: usize) -> Option<()> {
    for _ in 0..size >> 16 {
        wire.exactly(1 << 16).await?;
    }
    Some(())
}

fn with(mode: ExpectMode, server: SocketAddr) -> Service {
    let mut service = service(&[server]);
    forwarding(&mut service).expect = mode;
    service
}

const REFUSED: &str =
    "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: NTLM T2\r\nContent-Length: 0\r\n\r\n";

/// A server that refuses the first request of a connection before it has its body, and takes the second one; `expected`
/// is what it sees of `Expect`.
async fn refuses_first(expected: &'static [&'static str]) -> SocketAddr {
    origin(move |mut wire, number| async move {
        assert_eq!(number, 0, "a second connection");
        let mut request = wire.head().await?;
        assert_eq!(request.all("expect"), expected);
        wire.send(REFUSED).await?;
        wire.body(&mut request).await?;
        assert_eq!(request.text(), "GET /");
        let mut request = wire.head().await?;
        if !expected.is_empty() {
            wire.send(CONTINUE).await?;
        }
        wire.body(&mut request).await?;
        assert_eq!(request.text(), "hello");
        wire.send(DONE).await
    })
    .await
}

/// E4, local: the client has its 100 before the server has anything, and the server never hears of it.
#[test]
fn local_answers_at_once() {
    run(async {
        let server = origin(|mut wire, _| async move {
            loop {
                let request = wire.message().await?;
                assert_eq!((request.get("expect"), request.text()), (None, "hello"));
                // Nobody asked for it, and nobody gets it.
                wire.send(CONTINUE).await?;
                wire.send(DONE).await?;
            }
        })
        .await;
        let edge = Edge::start(with(ExpectMode::Local, server)).await;
        let mut client = edge.client().await;
        for _ in 0..2 {
            expecting(&mut client, "").await;
            assert_eq!(client.head().await.unwrap().status(), 100);
            client.send("hello").await.unwrap();
            assert_eq!(client.message().await.unwrap().status(), 200);
        }
        // A body that doesn't wait is forwarded; the client gets its one 100 all the same.
        expecting(&mut client, "").await;
        client.send("hello").await.unwrap();
        assert_eq!(client.head().await.unwrap().status(), 100);
        assert_eq!(client.message().await.unwrap().status(), 200);
        assert_eq!(edge.counters().continues_relayed.get(), 0);
    });
}

/// E4, local: also before there is a connection to a server.
#[test]
fn local_waits_for_no_server() {
    run(async {
        // Never answers the TLS handshake.
        let server = origin(|wire, _| async move {
            let _kept = wire;
            std::future::pending().await
        })
        .await;
        let mut settings = with(ExpectMode::Local, server);
        let tls = tls::upstream(&tls::Verify::Nobody, "h".try_into().unwrap());
        forwarding(&mut settings).upstream_tls = Some(tls.unwrap());
        let edge = Edge::start(settings).await;
        let mut client = edge.client().await;
        expecting(&mut client, "").await;
        assert_eq!(client.head().await.unwrap().status(), 100);
        assert_eq!(edge.counters().upstream_opened.get(), 0);
    });
}

#[test]
fn local_survives_an_early_401() {
    run(async {
        let edge = Edge::start(with(ExpectMode::Local, refuses_first(&[]).await)).await;
        let mut client = edge.client().await;
        expecting(&mut client, "").await;
        assert_eq!(client.head().await.unwrap().status(), 100);
        assert_eq!(client.message().await.unwrap().status(), 401);
        client.send("GET /").await.unwrap();
        expecting(&mut client, "Authorization: NTLM T3\r\n").await;
        assert_eq!(client.head().await.unwrap().status(), 100);
        client.send("hello").await.unwrap();
        assert_eq!(client.message().await.unwrap().status(), 200);
    });
}

/// E4, strip: neither side hears of it, also not when the server says 100 of its own accord.
#[test]
fn strip_says_nothing_to_anybody() {
    run(async {
        let server = origin(|mut wire, _| async move {
            loop {
                let mut request = wire.head().await?;
                assert_eq!(request.get("expect"), None);
                wire.send(CONTINUE).await?;
                wire.body(&mut request).await?;
                wire.send(DONE).await?;
            }
        })
        .await;
        let edge = Edge::start(with(ExpectMode::Strip, server)).await;
        let mut client = edge.client().await;
        for _ in 0..2 {
            expecting(&mut client, "").await;
            assert!(client.silent().await, "a 100 that nobody may send");
            client.send("hello").await.unwrap();
            assert_eq!(client.message().await.unwrap().status(), 200);
        }
        assert_eq!(edge.counters().continues_relayed.get(), 0);
    });
}

#[test]
fn strip_survives_an_early_401() {
    run(async {
        let edge = Edge::start(with(ExpectMode::Strip, refuses_first(&[]).await)).await;
        let mut client = edge.client().await;
        expecting(&mut client, "").await;
        assert_eq!(client.message().await.unwrap().status(), 401);
        client.send("GET /").await.unwrap();
        expecting(&mut client, "Authorization: NTLM T3\r\n").await;
        client.send("hello").await.unwrap();
        assert_eq!(client.message().await.unwrap().status(), 200);
    });
}

/// E4, require: a body that doesn't wait is made to.
#[test]
fn require_holds_the_body_until_the_servers_100() {
    run(async {
        let server = origin(|mut wire, _| async move {
            loop {
                let mut request = wire.head().await?;
                assert_eq!(request.all("expect"), ["100-continue"]);
                assert!(wire.silent().await, "a body that wasn't asked for");
                wire.send(CONTINUE).await?;
                wire.body(&mut request).await?;
                assert_eq!(request.text(), "hello");
                wire.send(DONE).await?;
            }
        })
        .await;
        let edge = Edge::start(with(ExpectMode::Require, server)).await;
        let mut client = edge.client().await;
        for round in 1..=2 {
            expecting(&mut client, "").await;
            client.send("hello").await.unwrap();
            assert_eq!(client.head().await.unwrap().status(), 100);
            assert_eq!(client.message().await.unwrap().status(), 200);
            assert_eq!(edge.counters().continues_relayed.get(), round);
        }
        // A request that expects nothing is held by nothing.
        expecting(&mut client, "").await;
        assert_eq!(client.head().await.unwrap().status(), 100);
        client.send("hello").await.unwrap();
        assert_eq!(client.message().await.unwrap().status(), 200);
    });
}

#[test]
fn require_survives_an_early_401() {
    run(async {
        let server = refuses_first(&["100-continue"]).await;
        let edge = Edge::start(with(ExpectMode::Require, server)).await;
        let mut client = edge.client().await;
        expecting(&mut client, "").await;
        assert_eq!(client.message().await.unwrap().status(), 401);
        client.send("GET /").await.unwrap();
        expecting(&mut client, "Authorization: NTLM T3\r\n").await;
        assert_eq!(client.head().await.unwrap().status(), 100);
        client.send("hello").await.unwrap();
        assert_eq!(client.message().await.unwrap().status(), 200);
        assert_eq!(edge.counters().upstream_opened.get(), 1);
    });
}

/// E4, require: no 100 and no response is what the response's timeout is for, although the request isn't finished.
#[test]
fn require_gives_up_on_a_server_that_says_nothing() {
    run(async {
        let server = origin(|mut wire, _| async move {
            wire.head().await?;
            assert!(wire.at_end().await);
            Some(())
        })
        .await;
        let mut settings = with(ExpectMode::Require, server);
        forwarding(&mut settings).timeouts.response_head = Duration::from_millis(100);
        let edge = Edge::start(settings).await;
        let mut client = edge.client().await;
        expecting(&mut client, "").await;
        assert_eq!(client.message().await.unwrap().status(), 504);
        assert_eq!(edge.counters().errors(Kind::ResponseTimeout), 1);
        client.send("hello").await.unwrap();
        // The body was that request's.
        expecting(&mut client, "").await;
        assert_eq!(client.message().await.unwrap().status(), 504);
    });
}
