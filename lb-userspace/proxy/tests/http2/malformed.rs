//! Frames that no client should send: what they come to, and that no server gets any of it.

use std::cell::RefCell;
use std::rc::Rc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::{origin, run, service};
use super::{FINE, Front, NAME, server};

/// A field in HPACK without compression (RFC 7541 section 6.2.2), so that it may hold anything.
fn field(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| {
        let length = u8::try_from(text.len()).unwrap();
        assert!(length < 127);
        [&[length], text.as_bytes()].concat()
    };
    [vec![0], text(name), text(value)].concat()
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [length[1], length[2], length[3], kind, flags];
    [&head[..], &stream.to_be_bytes(), payload].concat()
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// `:status: 400` of HPACK's static table.
const STATUS_400: u8 = 0x8c;

/// How the proxy answers the first stream whose frames are `frames`.
async fn answer(front: &Front, frames: &[u8]) -> &'static str {
    let mut stream = front.connect(b"h2").await;
    let preface = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &frame(4, 0, 0, &[])[..],
    ]
    .concat();
    stream
        .write_all(&[&preface, frames].concat())
        .await
        .unwrap();
    loop {
        let mut head = [0; 9];
        if stream.read_exact(&mut head).await.is_err() {
            return "closed";
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        stream.read_exact(&mut payload).await.unwrap();
        match head[3] {
            HEADERS if payload[0] == STATUS_400 => return "400",
            HEADERS => return "answered",
            RST_STREAM => return "reset",
            GOAWAY => return "goaway",
            _ => {}
        }
    }
}

#[test]
fn what_is_malformed_reaches_no_server() {
    let good = [
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/"),
        (":authority", NAME),
    ];
    // As published for HTTP/2 downgrades: each would be another request, or the start of one, in HTTP/1.1.
    let added = [
        ("X-Upper", "1", "reset"),
        ("connection", "close", "reset"),
        ("transfer-encoding", "chunked", "reset"),
        ("keep-alive", "1", "reset"),
        ("upgrade", "h2c", "reset"),
        ("x", "1\r\nTransfer-Encoding: chunked", "reset"),
        ("x", "1\nX: 2", "reset"),
        ("x", "1\0", "reset"),
        ("x\r\ny", "1", "reset"),
        ("x y", "1", "reset"),
        ("x:y", "1", "reset"),
        ("", "1", "reset"),
        (":path", "/second", "reset"),
        (":unknown", "1", "reset"),
        ("content-length", "5", "reset"),
        ("te", "gzip", "reset"),
        ("x", " 1", "400"),
        ("host", "other.example", "400"),
        ("content_length", "5", "400"),
    ];
    let changed = [
        (":method", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "reset"),
        (":method", "get", "400"),
        (":path", "", "reset"),
        (":path", "x", "reset"),
        (":path", "https://mail.example/x", "reset"),
        (":path", "/ HTTP/1.1\r\nX: y", "reset"),
        (":path", "/#x", "answered"),
        (":scheme", "ftp", "400"),
        (":authority", "user@mail.example", "400"),
        (":authority", "mail.example/x", "reset"),
    ];
    run(async move {
        let (address, seen) = server(FINE).await;
        let front = Front::start(service(&[address])).await;
        let cases =
            added.map(|(name, value, expected)| ([&good[..], &[(name, value)]].concat(), expected));
        let replaced = changed.map(|(name, value, expected)| {
            let lines = good.map(|line| if line.0 == name { (name, value) } else { line });
            (lines.to_vec(), expected)
        });
        let mut wrong = Vec::new();
        for (lines, expected) in cases.into_iter().chain(replaced) {
            let block: Vec<u8> = lines.iter().flat_map(|(n, v)| field(n, v)).collect();
            let frames = frame(HEADERS, END_STREAM | END_HEADERS, 1, &block);
            let got = answer(&front, &frames).await;
            let refused = matches!((got, expected), ("reset" | "goaway" | "closed", "reset"));
            let reached = std::mem::take(&mut *seen.borrow_mut());
            let harmless = expected == "answered" || reached.is_empty();
            if !(refused || got == expected) || !harmless {
                wrong.push(format!("{lines:?}: {got} for {expected}; {reached:?}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    });
}

#[test]
fn a_body_of_another_length_than_declared_is_no_request() {
    run(async {
        let done = Rc::new(RefCell::new(Vec::new()));
        let all = Rc::clone(&done);
        let address = origin(move |mut wire, _| {
            let done = Rc::clone(&all);
            async move {
                let message = wire.message().await?;
                done.borrow_mut().push(message);
                wire.send(FINE).await
            }
        })
        .await;
        let front = Front::start(service(&[address])).await;
        for (declared, sent) in [("3", "four"), ("5", "four")] {
            let lines = [
                (":method", "POST"),
                (":scheme", "https"),
                (":path", "/"),
                (":authority", NAME),
                ("content-length", declared),
            ];
            let block: Vec<u8> = lines.iter().flat_map(|(n, v)| field(n, v)).collect();
            let frames = [
                frame(HEADERS, END_HEADERS, 1, &block),
                frame(DATA, END_STREAM, 1, sent.as_bytes()),
            ];
            let got = answer(&front, &frames.concat()).await;
            assert!(
                ["reset", "goaway", "closed"].contains(&got),
                "{declared}: {got}"
            );
            assert_eq!(done.borrow().len(), 0, "{declared}");
        }
    });
}
