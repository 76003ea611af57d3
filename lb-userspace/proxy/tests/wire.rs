//! What passes on the wire: headers as they were, bodies as they come, framing that can't be misread.

#![allow(clippy::unwrap_used, reason = "a test that can't go on should stop")]

mod support;

use std::cell::Cell;
use std::rc::Rc;

use support::{Edge, origin, run, service, until};

/// Case, order and duplicates of headers, both ways.
#[test]
fn headers_pass_as_they_are() {
    run(async {
        let server = origin(|mut wire, _| async move {
            let request = wire.message().await?;
            let expected = [
                "hOsT: Mail.Example",
                "uSeR-aGeNt: Outlook",
                "X-AnchorMailbox: a@b",
                "Cookie: a=1",
                "Cookie: B=2",
                "aCCEPT: */*",
            ];
            assert_eq!(request.start, "GET /OWA/?Q=%20 HTTP/1.1");
            assert_eq!(request.lines, expected);
            let lines = "set-cookie: A=1; path=/\r\nSet-Cookie: b=2\r\nX-FEServer: EX1\r\nrequest-id: 7\r\n\
                         WWW-Authenticate: Negotiate\r\nWWW-Authenticate: NTLM\r\nKeep-Alive: timeout=5\r\n";
            wire.send(format!("HTTP/1.1 401 No Way\r\n{lines}Content-Length: 0\r\n\r\n")).await
        })
        .await;
        let edge = Edge::start(service(&[server])).await;
        let mut client = edge.client().await;
        let lines = "hOsT: Mail.Example\r\nConnection: keep-alive\r\nuSeR-aGeNt: Outlook\r\nX-AnchorMailbox: a@b\r\n\
                     Cookie: a=1\r\nCookie: B=2\r\naCCEPT: */*\r\n";
        client
            .send(format!("GET /OWA/?Q=%20 HTTP/1.1\r\n{lines}\r\n"))
            .await
            .unwrap();
        let answer = client.message().await.unwrap();
        let expected = [
            "set-cookie: A=1; path=/",
            "Set-Cookie: b=2",
            "X-FEServer: EX1",
            "request-id: 7",
            "WWW-Authenticate: Negotiate",
            "WWW-Authenticate: NTLM",
            "Content-Length: 0",
        ];
        assert_eq!(answer.lines, expected);
        assert_eq!(answer.start, "HTTP/1.1 401 No Way");
    });
}

/// A chunk arrives while the response is still open, as EWS streaming and MAPI need.
#[test]
fn chunks_arrive_before_the_end() {
    run(async {
        let read = Rc::new(Cell::new(0));
        let reader = Rc::clone(&read);
        let server = origin(move |mut wire, _| {
            let read = Rc::clone(&read);
            async move {
                wire.message().await?;
                wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                    .await?;
                for count in 1..=3 {
                    wire.send("7\r\nPENDING\r\n").await?;
                    until(|| read.get() == count).await;
                }
                wire.send("0\r\n\r\n").await
            }
        })
        .await;
        let edge = Edge::start(service(&[server])).await;
        let mut client = edge.client().await;
        client
            .send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            .await
            .unwrap();
        assert_eq!(
            client.head().await.unwrap().get("transfer-encoding"),
            Some("chunked")
        );
        for count in 1..=3 {
            assert_eq!(client.chunk().await.unwrap(), b"PENDING");
            reader.set(count);
        }
        assert_eq!(client.chunk().await, None);
    });
}

/// 64 MB towards a server that stops reading: what the proxy takes from the client is bounded, not the body.
#[test]
fn uploads_stream_with_back_pressure() {
    const SIZE: usize = 64 << 20;
    const BLOCK: usize = 64 << 10;
    run(async {
        let seen = Rc::new(Cell::new(0));
        let received = Rc::clone(&seen);
        let server = origin(move |mut wire, _| {
            let seen = Rc::clone(&seen);
            async move {
                wire.head().await?;
                seen.set(wire.exactly(BLOCK).await?.len());
                std::future::pending().await
            }
        })
        .await;
        let edge = Edge::start(service(&[server])).await;
        let mut client = edge.client().await;
        let head = format!("POST /ews HTTP/1.1\r\nHost: h\r\nContent-Length: {SIZE}\r\n\r\n");
        client.send(head).await.unwrap();
        let block = vec![7; BLOCK];
        let mut sent = 0;
        // Until the sockets' buffers and the proxy's are full, and nothing moves for a while.
        while sent < SIZE {
            let block_sent = client.send(&block);
            match tokio::time::timeout(std::time::Duration::from_millis(500), block_sent).await {
                Ok(outcome) => outcome.unwrap(),
                Err(_elapsed) => break,
            }
            sent += BLOCK;
        }
        until(|| received.get() == BLOCK).await;
        assert!(sent < SIZE / 2, "{sent} bytes went into something");
    });
    // The other half: with a server that reads, all of it arrives.
    run(async {
        let server = origin(|mut wire, _| async move {
            let request = wire.message().await?;
            let length = request.body.len().to_string();
            let lines = format!("Content-Length: {}\r\n\r\n{length}", length.len());
            wire.send(format!("HTTP/1.1 200 OK\r\n{lines}")).await
        })
        .await;
        let edge = Edge::start(service(&[server])).await;
        let mut client = edge.client().await;
        let head = format!("POST /ews HTTP/1.1\r\nHost: h\r\nContent-Length: {SIZE}\r\n\r\n");
        client.send(head).await.unwrap();
        for _ in 0..SIZE / BLOCK {
            client.send(vec![7; BLOCK]).await.unwrap();
        }
        assert_eq!(client.message().await.unwrap().text(), SIZE.to_string());
    });
}

/// RPC over HTTP: the response comes, and goes on, while the request's body is still on its way.
#[test]
fn both_bodies_flow_at_once() {
    run(async {
        let server = origin(|mut wire, _| async move {
            wire.head().await?;
            wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                .await?;
            for _ in 0..3 {
                let echo = wire.exactly(4).await?;
                wire.send("4\r\n").await?;
                wire.send(echo).await?;
                wire.send("\r\n").await?;
            }
            std::future::pending().await
        })
        .await;
        let edge = Edge::start(service(&[server])).await;
        let mut client = edge.client().await;
        let head = "RPC_IN_DATA /rpc HTTP/1.1\r\nHost: h\r\nContent-Length: 1073741824\r\n\r\n";
        client.send(head).await.unwrap();
        assert_eq!(client.head().await.unwrap().status(), 200);
        for word in ["ping", "pong", "peng"] {
            client.send(word).await.unwrap();
            assert_eq!(client.chunk().await.unwrap(), word.as_bytes());
        }
    });
}

/// Requests whose framing could be read in two ways: refused, or sent on with one meaning.
#[test]
fn framing_has_one_meaning() {
    const CHUNKS: &str = "\r\n3\r\nabc\r\n0\r\n\r\n";
    let chunked = "Transfer-Encoding: chunked\r\n";
    let check = |method, lines: &str, body: &str, expected| {
        let request = format!("{method} / HTTP/1.1\r\nHost: h\r\n{lines}{body}");
        check_framing(request, expected);
    };
    check(
        "POST",
        "Content-Length: 3\r\n",
        "\r\nabc",
        Ok("[] [\"3\"] abc"),
    );
    check("POST", "Content-Length: 0\r\n", "\r\n", Ok("[] [\"0\"] "));
    check("POST", chunked, CHUNKS, Ok("[\"chunked\"] [] abc"));
    check("GET", chunked, CHUNKS, Ok("[\"chunked\"] [] abc"));
    // RFC 9112 section 6.3: Transfer-Encoding overrides Content-Length, which doesn't go further.
    for lines in [
        format!("Content-Length: 30\r\n{chunked}"),
        format!("{chunked}Content-Length: 3\r\n"),
    ] {
        check("POST", &lines, CHUNKS, Ok("[\"chunked\"] [] abc"));
    }
    for lines in [
        "Content-Length: 3\r\nContent-Length: 4\r\n",
        "Content-Length: +3\r\n",
        "Transfer-Encoding: chunked, gzip\r\n",
        "Host: other\r\nContent-Length: 3\r\n",
        "X: a\r\n folded\r\nContent-Length: 3\r\n",
    ] {
        check("POST", lines, "\r\nabcd", Err(400));
    }
    check_framing("GET / HTTP/1.1\r\n\r\n".to_owned(), Err(400));
    check_framing(
        "CONNECT h:443 HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(),
        Err(501),
    );
}

/// Expects the server to get these framing headers and this body, or the client to get a status.
fn check_framing(request: String, expected: Result<&'static str, u16>) {
    run(async move {
        let server = origin(|mut wire, _| async move {
            let got = wire.message().await?;
            let (coding, size) = (got.all("transfer-encoding"), got.all("content-length"));
            let text = format!("{coding:?} {size:?} {}", got.text());
            let lines = format!("Content-Length: {}\r\n\r\n{text}", text.len());
            wire.send(format!("HTTP/1.1 200 OK\r\n{lines}")).await
        })
        .await;
        let edge = Edge::start(service(&[server])).await;
        let mut client = edge.client().await;
        client.send(&request).await.unwrap();
        let answer = client.message().await.unwrap();
        let got = match answer.status() {
            200 => Ok(answer.text()),
            status => Err(status),
        };
        assert_eq!(got, expected, "{request:?}");
    });
}

/// Responses without a body, and those that end with the connection.
#[test]
fn responses_keep_their_framing() {
    let table = [
        (
            "HEAD",
            "200 OK\r\nContent-Length: 999\r\n\r\n",
            Some("999"),
            "",
        ),
        ("GET", "304 Not Modified\r\nETag: x\r\n\r\n", None, ""),
        ("GET", "204 No Content\r\n\r\n", None, ""),
        (
            "GET",
            "200 OK\r\nConnection: close\r\n\r\nto the end",
            None,
            "to the end",
        ),
    ];
    for (method, response, length, body) in table {
        run(async move {
            let server = origin(move |mut wire, _| async move {
                wire.message().await?;
                wire.send(format!("HTTP/1.1 {response}")).await
            })
            .await;
            let edge = Edge::start(service(&[server])).await;
            let mut client = edge.client().await;
            for _ in 0..2 {
                client
                    .send(format!("{method} / HTTP/1.1\r\nHost: h\r\n\r\n"))
                    .await
                    .unwrap();
                let mut answer = client.head().await.unwrap();
                assert_eq!(answer.get("content-length"), length, "{response:?}");
                assert_eq!(answer.get("connection"), None, "{response:?}");
                if method != "HEAD" {
                    client.body(&mut answer).await.unwrap();
                }
                assert_eq!(answer.text(), body, "{response:?}");
            }
        });
    }
}

/// An upgrade ends at the proxy: the server gets a plain request.
#[test]
fn upgrades_are_not_asked_for() {
    run(async {
        let server = origin(|mut wire, _| async move {
            let request = wire.message().await?;
            assert_eq!(request.lines, ["Host: h"]);
            wire.send("HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n")
                .await
        })
        .await;
        let edge = Edge::start(service(&[server])).await;
        let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
        let answer = edge.client().await.get("/", upgrade).await.unwrap();
        assert_eq!(answer.status(), 426);
    });
}
