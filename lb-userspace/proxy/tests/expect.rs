//! `Expect: 100-continue`: rules E1 to E3, and what .NET does to a server that wants NTLM.

#![allow(clippy::unwrap_used, reason = "a test that can't go on should stop")]

mod support;

use std::cell::Cell;
use std::rc::Rc;

use support::{Edge, Wire, origin, run, service};

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
