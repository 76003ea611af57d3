//! An answer of a pool server, and how it is put on the wire: whole, in pieces, or broken on purpose.
//!
//! Invariant: names and order of the fields are those of the value, byte for byte; nothing is added but what frames the
//! body. Not here: what is answered (`content`), when answers are broken (`fault`).

use std::{io, time::Duration};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::http1::{Head, Wire};

/// An answer.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) fields: Vec<(String, String)>,
    pub(super) content: Content,
}

/// The body of an answer.
#[derive(Debug)]
pub(super) enum Content {
    /// All of it.
    Whole(Bytes),
    /// As it comes: in chunks, or of a length declared in advance.
    Pieces {
        pieces: mpsc::Receiver<Bytes>,
        length: Option<u64>,
    },
}

/// How an answer breaks off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Break {
    /// FIN after half of the body.
    Half,
    /// RST after half of the body.
    Reset,
}

impl Reply {
    /// An answer without fields.
    pub(super) fn new(status: u16, content: impl Into<Bytes>) -> Self {
        Self {
            status,
            fields: Vec::new(),
            content: Content::Whole(content.into()),
        }
    }

    /// An answer whose body comes in pieces, and where to put them.
    pub(super) fn streamed(length: Option<u64>) -> (mpsc::Sender<Bytes>, Self) {
        // Small: who writes must not run ahead of the client.
        let (sender, pieces) = mpsc::channel(4);
        let content = Content::Pieces { pieces, length };
        let reply = Self {
            status: 200,
            fields: Vec::new(),
            content,
        };
        (sender, reply)
    }

    /// The same with one more field at the end.
    pub(super) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.fields.push((name.to_owned(), value.into()));
        self
    }

    /// All of the head; `framing` is its last line.
    fn head(&self, framing: &str) -> Vec<u8> {
        let status = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        let mut head = status.into_bytes();
        for (name, value) in &self.fields {
            head.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        head.extend_from_slice(framing.as_bytes());
        head.extend_from_slice(b"\r\n");
        head
    }

    /// Sends it all, as the answer to `request`.
    pub(super) async fn send(self, wire: &mut Wire, request: &Head) -> io::Result<()> {
        match &self.content {
            // RFC 9110 §8.6: no length on an answer that can have no body.
            Content::Whole(_) if matches!(self.status, 204 | 304) => {
                wire.send(&self.head("")).await
            }
            Content::Whole(body) if request.method == "HEAD" => {
                wire.send(&self.head(&sized(body.len() as u64))).await
            }
            Content::Whole(body) => {
                let head = self.head(&sized(body.len() as u64));
                // Head and body in one segment where they fit.
                let (first, rest) = body.split_at(body.len().min(TOGETHER));
                wire.send(&[&head, first].concat()).await?;
                match rest {
                    [] => Ok(()),
                    rest => wire.send(rest).await,
                }
            }
            Content::Pieces { length, .. } => {
                let chunked = || "Transfer-Encoding: chunked\r\n".to_owned();
                let head = self.head(&length.map_or_else(chunked, sized));
                wire.send(&head).await?;
                self.send_pieces(wire).await
            }
        }
    }

    /// Sends the head and about half of the body, and ends the connection.
    pub(super) async fn send_broken(self, wire: &mut Wire, how: Break) -> io::Result<()> {
        let body = match &self.content {
            Content::Whole(body) => body.slice(..body.len() / 2),
            Content::Pieces { .. } => Bytes::new(),
        };
        let head = self.head(&sized(body.len() as u64 * 2 + 1));
        wire.send(&[&head, &*body].concat()).await?;
        if how == Break::Reset {
            // RST overtakes nothing: what was sent before it should be read first.
            tokio::time::sleep(BEFORE_RESET).await;
            socket2::SockRef::from(wire.tcp()).set_linger(Some(Duration::ZERO))?;
        }
        Ok(())
    }

    async fn send_pieces(self, wire: &mut Wire) -> io::Result<()> {
        let Content::Pieces { mut pieces, length } = self.content else {
            return Ok(());
        };
        let mut left = length;
        while left != Some(0) {
            // Whoever makes the pieces learns from the closed channel that nobody reads them any more.
            let piece = tokio::select! {
                piece = pieces.recv() => piece,
                () = wire.closed() => return Err(io::ErrorKind::ConnectionAborted.into()),
            };
            match (piece, left) {
                (Some(piece), None) => {
                    let size = format!("{:x}\r\n", piece.len());
                    wire.send(&[size.as_bytes(), &piece, b"\r\n"].concat())
                        .await?;
                }
                (Some(piece), Some(declared)) => {
                    let rest = declared.checked_sub(piece.len() as u64);
                    // More than was declared would be the next answer.
                    left = Some(rest.ok_or(io::ErrorKind::InvalidData)?);
                    wire.send(&piece).await?;
                }
                (None, None) => return wire.send(b"0\r\n\r\n").await,
                // Less than was declared: the connection has to end.
                (None, Some(_)) => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        Ok(())
    }
}

fn sized(length: u64) -> String {
    format!("Content-Length: {length}\r\n")
}

fn reason(status: u16) -> &'static str {
    http::StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or_default()
}

const TOGETHER: usize = 16 << 10;
const BEFORE_RESET: Duration = Duration::from_millis(50);
