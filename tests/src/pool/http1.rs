//! HTTP/1.1 (RFC 9112) from the server's end of a connection, byte by byte.
//!
//! Our own and not a library's, for two reasons: a server has to be able to answer wrongly (half, in odd case, before the
//! request's end, not at all), and what the proxy is built on must not be what judges it.
//! Invariants: heads are kept as they came; a body is read where it is asked for and never before; its `100 Continue` is
//! sent when the first read has to wait for it. Strict where leniency would hide a proxy's mistake: a bare LF, a space
//! before a colon, two lengths end the connection.

use std::{fmt, io};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

/// What a connection runs on.
pub(super) trait Socket: AsyncRead + AsyncWrite + Unpin {
    /// The TCP connection below.
    fn tcp(&self) -> &TcpStream;
}

impl Socket for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Socket for TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

/// A connection: what has been received and not yet read, and the way back.
pub(super) struct Wire {
    socket: Box<dyn Socket>,
    received: BytesMut,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire")
            .field("received", &self.received.len())
            .finish_non_exhaustive()
    }
}

/// The head of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Method.
    pub(super) method: String,
    /// Request target.
    pub(super) target: String,
    /// As received, from the method to the last line's end.
    pub(super) text: String,
    fields: Vec<(String, String)>,
}

impl Head {
    /// Path of the target.
    pub(super) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// Names in lower case and values, in the order of the wire.
    pub(super) fn fields(&self) -> &[(String, String)] {
        &self.fields
    }

    /// First value of the field `name`, which is in lower case.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Whether the connection ends with this request.
    pub(super) fn closes(&self) -> bool {
        self.text.contains(" HTTP/1.0\r\n") || self.has("connection", "close")
    }

    /// Whether the list in the field `name` has `word`.
    fn has(&self, name: &str, word: &str) -> bool {
        let values = self.fields.iter().filter(|(known, _)| known == name);
        values
            .flat_map(|(_, value)| value.split(','))
            .any(|item| item.trim().eq_ignore_ascii_case(word))
    }
}

/// What is still to come of a request's body.
#[derive(Debug)]
pub(super) struct Body {
    rest: Rest,
    /// The client waits for a `100 Continue`.
    expected: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    Sized(u64),
    /// Bytes of the current chunk.
    Chunked(u64),
}

impl Body {
    /// A client that waits for `100 Continue` will get none.
    pub(super) fn expect_nothing(&mut self) {
        self.expected = false;
    }
}

impl Wire {
    pub(super) fn new(socket: Box<dyn Socket>) -> Self {
        Self {
            socket,
            received: BytesMut::new(),
        }
    }

    /// The TCP connection below.
    pub(super) fn tcp(&self) -> &TcpStream {
        self.socket.tcp()
    }

    /// The next request's head; `None` if the client has gone instead.
    pub(super) async fn head(&mut self) -> io::Result<Option<(Head, Body)>> {
        loop {
            if let Some(end) = find(&self.received, b"\r\n\r\n") {
                let text = self.received.split_to(end + 4);
                return parse(&text).map(Some);
            }
            if self.received.len() > LONGEST_HEAD {
                return Err(malformed("a head without end"));
            }
            if self.fill().await? == 0 {
                return if self.received.is_empty() {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
        }
    }

    /// The next piece of `body`; `None` at its end.
    pub(super) async fn piece(&mut self, body: &mut Body) -> io::Result<Option<Bytes>> {
        let left = match body.rest {
            Rest::Chunked(0) => self.chunk_size(body).await?,
            Rest::Sized(left) | Rest::Chunked(left) => left,
        };
        if left == 0 {
            body.rest = Rest::Sized(0);
            return Ok(None);
        }
        self.at_least(1, body).await?;
        let length =
            usize::try_from(left).map_or(self.received.len(), |left| left.min(self.received.len()));
        let piece = self.received.split_to(length).freeze();
        let left = left - length as u64;
        if let Rest::Sized(_) = body.rest {
            body.rest = Rest::Sized(left);
            return Ok(Some(piece));
        }
        body.rest = Rest::Chunked(left);
        if left == 0 {
            self.line(body).await?;
        }
        Ok(Some(piece))
    }

    /// All of `body`, of which there may be at most `limit` bytes.
    pub(super) async fn whole(&mut self, body: &mut Body, limit: usize) -> io::Result<Bytes> {
        let mut whole = BytesMut::new();
        while let Some(piece) = self.piece(body).await? {
            whole.extend_from_slice(&piece);
            if whole.len() > limit {
                return Err(malformed("a larger body than is allowed"));
            }
        }
        Ok(whole.freeze())
    }

    /// Reads the rest of `body` and throws it away. No `100 Continue` is sent: the answer has been.
    pub(super) async fn drain(&mut self, body: &mut Body) -> io::Result<()> {
        body.expect_nothing();
        while self.piece(body).await?.is_some() {}
        Ok(())
    }

    /// Sends `bytes`.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes).await?;
        self.socket.flush().await
    }

    /// Ends our direction.
    pub(super) async fn close(&mut self) -> io::Result<()> {
        self.socket.shutdown().await
    }

    /// Returns when the client has closed the connection, or breaks it; what it sends meanwhile is kept.
    pub(super) async fn closed(&mut self) {
        // A client that pipelines without end is not one of ours; the kernel holds it back.
        while self.received.len() <= LONGEST_HEAD {
            if !matches!(self.fill().await, Ok(1..)) {
                return;
            }
        }
        std::future::pending::<()>().await;
    }

    async fn fill(&mut self) -> io::Result<usize> {
        self.received.reserve(READ);
        self.socket.read_buf(&mut self.received).await
    }

    async fn at_least(&mut self, length: usize, body: &mut Body) -> io::Result<()> {
        while self.received.len() < length {
            if std::mem::take(&mut body.expected) {
                self.send(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
            }
            if self.fill().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }

    /// Reads the line with a chunk's size, and after the last chunk the trailer.
    async fn chunk_size(&mut self, body: &mut Body) -> io::Result<u64> {
        let line = self.line(body).await?;
        let size = line.split(|&byte| byte == b';').next().unwrap_or_default();
        let size = std::str::from_utf8(size)
            .ok()
            .and_then(|digits| number(digits, 16));
        let size = size.ok_or_else(|| malformed("a chunk's size"))?;
        if size == 0 {
            while !self.line(body).await?.is_empty() {}
        }
        Ok(size)
    }

    async fn line(&mut self, body: &mut Body) -> io::Result<Bytes> {
        loop {
            if let Some(end) = find(&self.received, b"\r\n") {
                let line = self.received.split_to(end).freeze();
                self.received.advance(2);
                return Ok(line);
            }
            self.at_least(self.received.len() + 1, body).await?;
        }
    }
}

fn parse(text: &[u8]) -> io::Result<(Head, Body)> {
    let text = std::str::from_utf8(text).map_err(|_| malformed("a head that is no text"))?;
    let mut lines = text.trim_end_matches("\r\n").split("\r\n");
    let request: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
    let [method, target, "HTTP/1.1" | "HTTP/1.0"] = request.as_slice() else {
        return Err(malformed("a request line"));
    };
    let field = |line: &str| {
        let (name, value) = line.split_once(':')?;
        let sound = !name.is_empty() && !name.contains([' ', '\t', '\r', '\n']);
        let clean = !value.contains(['\r', '\n']);
        (sound && clean).then(|| (name.to_ascii_lowercase(), value.trim().to_owned()))
    };
    let fields: Option<Vec<_>> = lines.map(field).collect();
    let head = Head {
        method: (*method).to_owned(),
        target: (*target).to_owned(),
        text: text.to_owned(),
        fields: fields.ok_or_else(|| malformed("a header field"))?,
    };
    let body = Body {
        rest: framing(&head)?,
        expected: head.has("expect", "100-continue"),
    };
    Ok((head, body))
}

/// RFC 9112 §6.3; what two readers could understand in two ways is refused.
fn framing(head: &Head) -> io::Result<Rest> {
    let values = |name: &str| {
        let of_name = head.fields.iter().filter(|(known, _)| known == name);
        of_name.map(|(_, value)| value.as_str()).collect::<Vec<_>>()
    };
    match (
        values("transfer-encoding").as_slice(),
        values("content-length").as_slice(),
    ) {
        ([], []) => Ok(Rest::Sized(0)),
        ([], [length]) => number(length, 10)
            .map(Rest::Sized)
            .ok_or_else(|| malformed("a length")),
        ([coding], []) if coding.eq_ignore_ascii_case("chunked") => Ok(Rest::Chunked(0)),
        _ => Err(malformed("a framing")),
    }
}

/// Digits and nothing else: the standard library takes a sign as well.
fn number(digits: &str, radix: u32) -> Option<u64> {
    let is_number = digits.chars().all(|digit| digit.is_digit(radix));
    is_number.then(|| u64::from_str_radix(digits, radix).ok())?
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("malformed: {what}"))
}

/// IIS has 16 KiB for all fields; a login with a large Kerberos ticket needs them.
const LONGEST_HEAD: usize = 64 << 10;
const READ: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_kept_as_they_came() {
        let text =
            "POST /a?b HTTP/1.1\r\nhOST: x\r\nCookie: 1\r\nCOOKIE:2\r\nContent-Length: 3\r\n\r\n";
        let (head, body) = parse(text.as_bytes()).expect("a head");
        assert_eq!(
            (head.method.as_str(), head.path(), head.text.as_str()),
            ("POST", "/a", text)
        );
        let names: Vec<_> = head
            .fields()
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(names, ["host", "cookie", "cookie", "content-length"]);
        assert_eq!(head.field("cookie"), Some("1"));
        assert_eq!((body.rest, body.expected), (Rest::Sized(3), false));
        assert!(!head.closes());
    }

    #[test]
    fn what_could_be_understood_in_two_ways_is_refused() {
        let refused = |fields: &str| {
            let text = format!("POST / HTTP/1.1\r\n{fields}\r\n\r\n");
            assert!(parse(text.as_bytes()).is_err(), "{fields}");
        };
        refused("Content-Length: 1\r\nContent-Length: 1");
        refused("Content-Length: 1\r\nTransfer-Encoding: chunked");
        refused("Transfer-Encoding: gzip, chunked");
        refused("Content-Length : 1");
        refused("Content-Length: 1\n");
        refused("Content-Length: +1");
        refused("Content-Length: ");
        refused(" folded");
        assert!(parse(b"GET /a b HTTP/1.1\r\n\r\n").is_err());
    }
}
