//! Request smuggling: published attacks, and what becomes of each.
//!
//! The rule: nothing passes that a server could read in another way than we do. Each case is bytes that a client (or a
//! server) sends; asserted are what the client gets, whether its connection lives on, and what the server gets to the
//! byte. After every case another client asks for something harmless on the connections that are left, and must get
//! just that.
//!
//! `DESYNC.md` is this suite as a table. The test fails if they differ; `LB_BLESS=1 cargo test -p lb-proxy --test desync`
//! writes it anew.

#![allow(clippy::unwrap_used, reason = "a test that can't go on should stop")]
#![allow(clippy::too_many_lines, reason = "tables of cases")]

#[path = "../support/mod.rs"]
mod support;

mod chunks;
mod codings;
mod document;
mod doubtful;
mod heads;
mod hosts;
mod lengths;
mod origin;
mod responses;
mod targets;

use std::time::Duration;

use origin::Recorder;
use support::{Edge, Wire, run, service};

/// One attack. What is sent and seen is text in which each character is a byte (ISO 8859-1).
struct Case {
    /// What is special about the bytes.
    name: &'static str,
    /// Where they are published, or what they violate.
    source: &'static str,
    /// What the client sends.
    sent: String,
    /// What the server answers its first request; an answer like any other if empty.
    answer: &'static str,
    /// What the client gets, up to and including the first response that `verdict` is about.
    client: String,
    /// What becomes of the client's connection.
    then: Then,
    /// What the server gets.
    server: String,
    /// The server gets no complete request: any beginning of `server` will do.
    is_cut: bool,
}

/// What becomes of the client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// It serves the next request, and nothing else comes in between.
    Open,
    /// It is closed.
    Closed,
}

impl Case {
    /// Refused with 400: the server gets nothing.
    fn refused(name: &'static str, source: &'static str, sent: impl Into<String>) -> Self {
        Self::new(name, source, sent).gets("400").closes()
    }

    /// Passed on as `server`.
    fn passes(
        name: &'static str,
        source: &'static str,
        sent: impl Into<String>,
        server: impl Into<String>,
    ) -> Self {
        let case = Self::new(name, source, sent).gets("200");
        Self {
            server: server.into(),
            ..case
        }
    }

    /// What becomes of a server's answer to a plain `GET /`.
    fn answered(name: &'static str, source: &'static str, answer: &'static str) -> Self {
        let plain = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
        Self {
            answer,
            ..Self::passes(name, source, plain, plain)
        }
    }

    fn new(name: &'static str, source: &'static str, sent: impl Into<String>) -> Self {
        Self {
            name,
            source,
            sent: sent.into(),
            answer: "",
            client: String::new(),
            then: Then::Open,
            server: String::new(),
            is_cut: false,
        }
    }

    /// The statuses that the client gets, one after the other, or all of a response.
    fn gets(self, client: impl Into<String>) -> Self {
        Self {
            client: client.into(),
            ..self
        }
    }

    fn sends(self, sent: impl Into<String>) -> Self {
        Self {
            sent: sent.into(),
            ..self
        }
    }

    /// The server gets a beginning of `server`, which is no complete request, and then the end of the connection.
    fn cut(self, server: impl Into<String>) -> Self {
        Self {
            server: server.into(),
            is_cut: true,
            ..self
        }
    }

    /// What the server gets.
    fn reaches(self, server: impl Into<String>) -> Self {
        Self {
            server: server.into(),
            ..self
        }
    }

    fn closes(self) -> Self {
        Self {
            then: Then::Closed,
            ..self
        }
    }
}

fn cases() -> Vec<(&'static str, Vec<Case>)> {
    vec![
        (
            "Content-Length against Transfer-Encoding",
            codings::conflicts(),
        ),
        ("Transfer-Encoding, obfuscated", codings::obfuscated()),
        ("Content-Length", lengths::cases()),
        ("Chunks", chunks::chunks()),
        ("Trailers", chunks::trailers()),
        ("Header lines", heads::lines()),
        ("Hop-by-hop", heads::hop_by_hop()),
        ("Expectations", heads::expectations()),
        ("Request line", targets::request_lines()),
        ("Methods", targets::methods()),
        ("Host", hosts::cases()),
        ("Pipelines and bodies", targets::pipelines()),
        ("Responses", responses::cases()),
    ]
}

#[test]
fn nothing_passes_that_a_server_could_read_differently() {
    let groups = cases();
    let count: usize = groups.iter().map(|(_, cases)| cases.len()).sum();
    assert!(count >= 60, "{count} cases");
    let mut wrong = Vec::new();
    for case in groups.iter().flat_map(|(_, cases)| cases) {
        if let Err(difference) = check(case) {
            wrong.push(format!("{}: {difference}", case.name));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {count}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    document::check(&groups);
}

/// Plays one case. The difference to what is expected, if there is one.
fn check(case: &Case) -> Result<(), String> {
    let mut outcome = Ok(());
    run(async {
        let played = tokio::time::timeout(Duration::from_secs(5), play(case));
        outcome = played.await.unwrap_or_else(|_| Err("hangs".to_owned()));
    });
    outcome
}

async fn play(case: &Case) -> Result<(), String> {
    let recorder = Recorder::start(bytes(case.answer)).await;
    let edge = Edge::start(service(&[recorder.address])).await;
    let mut client = edge.client().await;
    client.send(bytes(&case.sent)).await;
    let got = responses(&mut client, case).await;
    let innocent = edge.client().await.get("/innocent", "").await;
    let innocent = innocent.map(|answer| answer.text().to_owned());
    let mut seen = recorder.seen();
    if case.is_cut && case.server.starts_with(&seen) {
        seen.clone_from(&case.server);
    }
    expect("client gets", &got, &(case.client.clone(), Some(case.then)))?;
    expect("server gets", &seen, &case.server)?;
    expect(
        "the next client gets",
        &innocent.as_deref(),
        &Some("/innocent"),
    )
}

fn expect<T: PartialEq + std::fmt::Debug>(what: &str, got: &T, expected: &T) -> Result<(), String> {
    if got == expected {
        return Ok(());
    }
    Err(format!("{what}\n  {got:?}, expected\n  {expected:?}"))
}

/// What the client gets, in the form of [`Case::client`], and what becomes of its connection; `None` if it is out of
/// step.
async fn responses(client: &mut Wire, case: &Case) -> (String, Option<Then>) {
    if case.client.starts_with("HTTP/") {
        return whole_response(client, case).await;
    }
    let mut statuses = Vec::new();
    for _ in case.client.split_whitespace() {
        match client.message().await {
            Some(message) => statuses.push(message.status().to_string()),
            None => return (statuses.join(" "), Some(Then::Closed)),
        }
    }
    (statuses.join(" "), afterwards(client).await)
}

/// The bytes of one response.
async fn whole_response(client: &mut Wire, case: &Case) -> (String, Option<Then>) {
    let expected = case.client.len();
    let mut all = Vec::new();
    while all.len() < expected {
        match client.exactly(1).await {
            Some(byte) => all.extend(byte),
            None => break,
        }
    }
    (text(&all), afterwards(client).await)
}

/// Whether the connection serves another request, or is closed.
async fn afterwards(client: &mut Wire) -> Option<Then> {
    let probe = "GET /afterwards HTTP/1.1\r\nHost: h\r\n\r\n";
    let closes = tokio::time::timeout(Duration::from_millis(30), client.at_end());
    if closes.await == Ok(true) || client.send(probe).await.is_none() {
        return Some(Then::Closed);
    }
    match client.message().await {
        None => Some(Then::Closed),
        Some(answer) if answer.body == b"/afterwards" => Some(Then::Open),
        Some(_) => None,
    }
}

/// The bytes of a text in ISO 8859-1.
fn bytes(text: &str) -> Vec<u8> {
    text.chars()
        .map(|c| u8::try_from(u32::from(c)).unwrap())
        .collect()
}

/// Bytes as a text in ISO 8859-1.
fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}

/// A POST with these header lines and this body.
fn post(lines: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: h\r\n{lines}\r\n{body}")
}
