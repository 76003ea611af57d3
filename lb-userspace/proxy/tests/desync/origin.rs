//! A server that writes down what it gets.
//!
//! It reads requests by the letter of RFC 9112 and answers each with its target, so that an answer that goes astray
//! shows. The first requests for `/afterwards` and `/innocent` are the test's own, and left out of the record.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{self, Wire};
use crate::text;

/// The server.
pub(crate) struct Recorder {
    pub(crate) address: SocketAddr,
    script: Rc<Script>,
}

struct Script {
    /// What came, by connection.
    seen: RefCell<Vec<Vec<u8>>>,
    /// The answer to the first request; later ones, and this one if it is `None`, are answered properly.
    first: RefCell<Option<Vec<u8>>>,
}

/// At the end of an answer: the server closes after it.
pub(crate) const CLOSES: &str = "<close>";

impl Recorder {
    /// The first request is answered with `answer`, if there is one.
    pub(crate) async fn start(answer: Vec<u8>) -> Self {
        let script = Rc::new(Script {
            seen: RefCell::default(),
            first: RefCell::new(Some(answer).filter(|answer| !answer.is_empty())),
        });
        let kept = Rc::clone(&script);
        let address = support::origin(move |wire, number| {
            kept.seen.borrow_mut().resize(number + 1, Vec::new());
            serve(wire, number, Rc::clone(&kept))
        });
        Self {
            address: address.await,
            script,
        }
    }

    /// All that came so far, one connection after the other.
    pub(crate) fn seen(&self) -> String {
        let mut all = text(&self.script.seen.borrow().concat());
        for own in ["afterwards", "innocent"] {
            all = all.replacen(&format!("GET /{own} HTTP/1.1\r\nHost: h\r\n\r\n"), "", 1);
        }
        all
    }
}

async fn serve(mut wire: Wire, number: usize, script: Rc<Script>) -> Option<()> {
    let mut unread = Vec::new();
    loop {
        while let Some((target, length)) = request(&unread) {
            unread.drain(..length);
            let first = script.first.borrow_mut().take();
            let answer = first.unwrap_or_else(|| {
                let length = target.len();
                format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{target}").into_bytes()
            });
            match answer.strip_suffix(CLOSES.as_bytes()) {
                None => wire.send(answer).await?,
                Some(last) => {
                    wire.send(last).await?;
                    wire.0.shutdown().await.ok()?;
                }
            }
        }
        let mut some = [0; 4096];
        let count = wire
            .0
            .read(&mut some)
            .await
            .ok()
            .filter(|&count| count > 0)?;
        unread.extend_from_slice(&some[..count]);
        script.seen.borrow_mut()[number].extend_from_slice(&some[..count]);
    }
}

/// Target and length of the first request in `bytes`, if it is complete.
fn request(bytes: &[u8]) -> Option<(String, usize)> {
    let head = find(bytes, b"\r\n\r\n")? + 4;
    let lines = text(&bytes[..head]);
    let target = lines.split(' ').nth(1)?.to_owned();
    let field = |name: &str| {
        let lines = lines.split("\r\n").filter_map(|line| line.split_once(": "));
        let mut lines = lines.filter(|(field, _)| field.eq_ignore_ascii_case(name));
        lines.next().map(|(_, value)| value.to_owned())
    };
    let body = match (field("transfer-encoding"), field("content-length")) {
        (Some(_), _) => find(&bytes[head..], b"0\r\n\r\n")? + 5,
        (None, Some(length)) => length.parse().unwrap(),
        (None, None) => 0,
    };
    (bytes.len() >= head + body).then_some((target, head + body))
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}
