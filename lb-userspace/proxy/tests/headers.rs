//! Headers on the wire: what passes keeps its case, order and duplicates in every framing; what is for one hop ends
//! here, in both directions; and what servers are told of the client.

#![allow(clippy::unwrap_used, reason = "a test that can't go on should stop")]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;

use http::HeaderValue;
use lb_proxy::tls::{self, ServerOptions, ServerTls, Verify};
use lb_proxy::{ClientAddr, HeaderPolicy, Proxy, Service, Tell};
use rustls_pki_types::ServerName;
use support::{Edge, Message, Wire, forwarding, origin, run, service};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::spawn_local;
use tokio_rustls::TlsConnector;

/// Numbers that look random and are the same in every run (MMIX's generator).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        const FACTOR: u64 = 6_364_136_223_846_793_005;
        self.0 = self
            .0
            .wrapping_mul(FACTOR)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }

    /// `name` with letters in any case.
    fn case(&mut self, name: &str) -> String {
        let letters = name.chars().map(|letter| match self.below(2) {
            0 => letter.to_ascii_uppercase(),
            _ => letter.to_ascii_lowercase(),
        });
        letters.collect()
    }

    /// Lines of these names and of any others: duplicates, odd case, any order.
    fn lines(&mut self, names: &[&str]) -> Vec<String> {
        let mut names = names.to_vec();
        for _ in 0..self.below(20) {
            let others = [
                "x-a",
                "x-b",
                "X-FEServer",
                "request-id",
                "x_under",
                "cache-control",
                "x",
            ];
            names.push(others[self.below(others.len())]);
        }
        for place in (1..names.len()).rev() {
            names.swap(place, self.below(place + 1));
        }
        let line = |(number, name): (usize, &&str)| {
            let values = ["", "a,b", "\"q\\\"\"", "NTLM", "a=1; path=/; HttpOnly"];
            let value = match *name {
                "host" => ".example",
                _ => values[self.below(values.len())],
            };
            format!("{}: {number}{value}", self.case(name))
        };
        names.iter().enumerate().map(line).collect()
    }
}

/// As the proxy writes them: lines of one name together, in their order, where the first of them was.
fn grouped(lines: &[String]) -> Vec<String> {
    let name = |line: &String| line.split_once(':').unwrap().0.to_ascii_lowercase();
    let mut grouped = Vec::new();
    for (place, line) in lines.iter().enumerate() {
        if !lines[..place]
            .iter()
            .any(|earlier| name(earlier) == name(line))
        {
            let same = lines[place..]
                .iter()
                .filter(|other| name(other) == name(line));
            grouped.extend(same.cloned());
        }
    }
    grouped
}

fn text(lines: &[String]) -> String {
    lines.join("\r\n") + "\r\n"
}

/// Without what says where a message ends, which is of each hop.
fn unframed(message: &Message) -> Vec<String> {
    let is_framing = |line: &&String| {
        let line = line.to_ascii_lowercase();
        line.starts_with("content-length:") || line.starts_with("transfer-encoding:")
    };
    let kept = message.lines.iter().filter(|line| !is_framing(line));
    kept.cloned().collect()
}

/// A server that answers every connection's one request with `answer`, and whether the request was `expected`.
async fn answering(answer: String, expected: Vec<String>) -> SocketAddr {
    origin(move |mut wire, _| {
        let (answer, expected) = (answer.clone(), expected.clone());
        async move {
            let request = wire.message().await?;
            assert_eq!(unframed(&request), expected);
            wire.send(answer).await
        }
    })
    .await
}

const CHALLENGES: [&str; 8] = [
    "www-authenticate",
    "www-authenticate",
    "www-authenticate",
    "set-cookie",
    "set-cookie",
    "set-cookie",
    "set-cookie",
    "set-cookie",
];

#[test]
fn case_order_and_duplicates_pass_in_every_framing() {
    const FRAMINGS: [(&str, &str, &str); 6] = [
        ("GET", "200 OK", "Content-Length: 4\r\n\r\nbody"),
        ("GET", "401 Unauthorized", "Content-Length: 0\r\n\r\n"),
        (
            "GET",
            "200 OK",
            "Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
        ),
        ("GET", "200 OK", "\r\nto the end"),
        ("GET", "304 Not Modified", "\r\n"),
        ("HEAD", "200 OK", "Content-Length: 4\r\n\r\n"),
    ];
    let mut dice = Dice(1);
    for round in 0..60 {
        let (method, status, rest) = FRAMINGS[round % FRAMINGS.len()];
        let asked = dice.lines(&["host", "cookie", "cookie", "accept", "x-anchormailbox"]);
        let answered = dice.lines(&CHALLENGES);
        run(async {
            let answer = format!("HTTP/1.1 {status}\r\n{}{rest}", text(&answered));
            let server = answering(answer, grouped(&asked)).await;
            let edge = Edge::start(service(&[server])).await;
            let mut client = edge.client().await;
            let head = format!("{method} / HTTP/1.1\r\n{}\r\n", text(&asked));
            client.send(head).await.unwrap();
            let got = client.head().await.unwrap();
            assert_eq!(unframed(&got), grouped(&answered), "{method} {rest:?}");
            assert_eq!(got.all("www-authenticate").len(), 3);
            assert_eq!(got.all("set-cookie").len(), 5);
        });
    }
}

/// RFC 9110 section 7.6.1, in both directions.
#[test]
fn what_is_for_one_hop_ends_here() {
    const HOP: &str = "Connection: close, X-Foo\r\nconnection: x-BAR , , keep-alive\r\nX-Foo: 1\r\nx-bar: 2\r\nX-Foo: 3\r\n\
                       Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: trailers\r\nUpgrade: h2c\r\n";
    run(async {
        let kept = vec!["Host: h".to_owned(), "X-End: to end".to_owned()];
        let answer = format!("HTTP/1.1 200 OK\r\n{HOP}X-End: to end\r\nContent-Length: 0\r\n\r\n");
        let server = answering(answer, kept).await;
        let edge = Edge::start(service(&[server])).await;
        let mut client = edge.client().await;
        let got = client
            .get("/", &format!("{HOP}X-End: to end\r\n"))
            .await
            .unwrap();
        assert_eq!(unframed(&got), ["X-End: to end", "Connection: close"]);
        // The client asked for the end of its connection, and gets it.
        assert!(client.at_end().await);
    });
    // A server that closes its connection doesn't close a client's who hasn't logged in on it.
    run(async {
        let answer = format!("HTTP/1.1 200 OK\r\n{HOP}Content-Length: 0\r\n\r\n");
        let server = answering(answer, vec!["Host: h".to_owned()]).await;
        let edge = Edge::start(service(&[server])).await;
        let mut client = edge.client().await;
        for _ in 0..2 {
            let got = client.get("/", "").await.unwrap();
            assert_eq!(unframed(&got), Vec::<String>::new());
        }
    });
}

/// `Connection` may name what a message can't do without: that stays.
#[test]
fn connection_can_not_take_the_host_or_the_length() {
    run(async {
        let server = origin(|mut wire, _| async move {
            let request = wire.message().await?;
            assert_eq!(request.lines, ["Host: h", "Content-Length: 3"]);
            assert_eq!(request.text(), "abc");
            let lines = "Connection: content-length\r\nContent-Length: 2\r\n\r\nok";
            wire.send(format!("HTTP/1.1 200 OK\r\n{lines}")).await
        })
        .await;
        let edge = Edge::start(service(&[server])).await;
        let mut client = edge.client().await;
        let lines = "Host: h\r\nConnection: host, content-length\r\nContent-Length: 3\r\n\r\nabc";
        client
            .send(format!("POST / HTTP/1.1\r\n{lines}"))
            .await
            .unwrap();
        assert_eq!(client.message().await.unwrap().text(), "ok");
    });
}

const CLAIMS: &str = "X-Forwarded-For: 203.0.113.1\r\nX_Forwarded_Proto: ftp\r\nForwarded: for=203.0.113.1\r\nVia: 1.1 liar\r\n";

fn everything() -> HeaderPolicy {
    HeaderPolicy {
        told: [
            Tell::XForwardedFor,
            Tell::XForwardedProto,
            Tell::XForwardedPort,
            Tell::XForwardedHost,
            Tell::Forwarded,
        ]
        .into_iter()
        .collect(),
        ..HeaderPolicy::exchange()
    }
}

/// Answers with the lines of the request it got.
async fn echo() -> SocketAddr {
    origin(|mut wire, _| async move {
        while let Some(request) = wire.message().await {
            let body = request.lines.join("\n");
            let length = body.len();
            wire.send(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}"
            ))
            .await?;
        }
        Some(())
    })
    .await
}

#[test]
fn servers_are_told_of_the_client_and_not_by_it() {
    run(async {
        let mut settings = service(&[echo().await]);
        forwarding(&mut settings).headers = everything();
        let edge = Edge::start(settings).await;
        let mut client = edge.client().await;
        let us = edge.address;
        let peer = client.0.get_ref().local_addr().unwrap();
        let expected = format!(
            "Host: h\nX-Forwarded-For: 127.0.0.1\nX-Forwarded-Proto: http\nX-Forwarded-Port: {}\nX-Forwarded-Host: h\n\
             Forwarded: for=\"{peer}\";by=\"{us}\";host=h;proto=http",
            us.port()
        );
        for _ in 0..2 {
            let answer = client.get("/", CLAIMS).await.unwrap();
            assert_eq!(answer.text(), expected);
        }
    });
}

/// What a client at an IPv6 address gets over TLS for one request.
async fn over_tls(mut settings: Service, request: &str) -> String {
    let dir = TempDir::new().unwrap();
    let made = rcgen::generate_simple_self_signed(["mail.example".to_owned()]).unwrap();
    let (certificate, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    settings.tls = Some(ServerTls::load(ServerOptions::new(&certificate, &key)).unwrap());

    let name = ServerName::try_from("mail.example").unwrap();
    let trust = tls::upstream(&Verify::Roots(certificate), name.clone()).unwrap();
    let (near, far) = tokio::io::duplex(1 << 16);
    let client = ClientAddr {
        peer: "[2001:db8::9]:51234".parse().unwrap(),
        local: "[2001:db8::1]:443".parse().unwrap(),
    };
    spawn_local(Proxy::new(Arc::new(settings)).serve(far, client));
    let connector = TlsConnector::from(trust.config());
    let mut stream = connector.connect(name, near).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

const LAST: &str = "GET / HTTP/1.1\r\nHost: mail.example\r\nConnection: close\r\n\r\n";

#[test]
fn servers_are_told_that_the_client_speaks_tls() {
    run(async {
        let mut settings = service(&[echo().await]);
        forwarding(&mut settings).headers = everything();
        let answer = over_tls(settings, LAST).await;
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let expected = "Host: mail.example\nX-Forwarded-For: 2001:db8::9\nX-Forwarded-Proto: https\n\
                        X-Forwarded-Port: 443\nX-Forwarded-Host: mail.example\n\
                        Forwarded: for=\"[2001:db8::9]:51234\";by=\"[2001:db8::1]:443\";host=mail.example;proto=https";
        assert_eq!(body, expected);
    });
}

/// RFC 6797: once in every response over TLS, in none without.
#[test]
fn strict_transport_security_is_for_tls_only() {
    const OURS: &str = "max-age=31536000; includeSubDomains";
    let strict = |addresses: &[SocketAddr]| Service {
        hsts: Some(HeaderValue::from_static(OURS)),
        ..service(addresses)
    };
    let count = |answer: &str| {
        answer
            .to_ascii_lowercase()
            .matches("strict-transport-security")
            .count()
    };
    run(async {
        let server = origin(|mut wire, _| async move {
            while wire.message().await.is_some() {
                let theirs = "strict-Transport-security: max-age=1\r\nstrict-transport-security: max-age=2\r\n";
                wire.send(format!("HTTP/1.1 200 OK\r\n{theirs}Content-Length: 0\r\n\r\n"))
                    .await?;
            }
            Some(())
        })
        .await;
        let answer = over_tls(strict(&[server]), LAST).await;
        assert!(answer.contains(OURS), "{answer}");
        assert_eq!(count(&answer), 1, "{answer}");
        // Our own answers as well: nobody listens there.
        let answer = over_tls(strict(&[support::nobody().await]), LAST).await;
        assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
        assert!(
            answer.contains(&format!("Strict-Transport-Security: {OURS}")),
            "{answer}"
        );

        for address in [echo().await, support::nobody().await] {
            let edge = Edge::start(strict(&[address])).await;
            let mut client: Wire = edge.client().await;
            let answer = client.get("/", "").await.unwrap();
            assert_eq!(answer.get("strict-transport-security"), None);
        }
    });
}
