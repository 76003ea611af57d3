//! An HTTP/1.1 connection in the client's namespace, byte by byte: never replaced, never helped.
//!
//! For sequences that no client library would send on purpose. Bodies need a `Content-Length`; that is what
//! the pool sends.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddrV4, TcpStream},
};

use anyhow::{Context as _, Result};

use super::connect;
use crate::address::CLIENT;

/// An open connection.
#[derive(Debug)]
pub struct Connection {
    server: SocketAddrV4,
    stream: TcpStream,
    answers: BufReader<TcpStream>,
}

impl Connection {
    /// Connects from the client's usual address.
    pub fn open(server: SocketAddrV4) -> Result<Self> {
        let stream = connect(CLIENT, server)?;
        let answers = BufReader::new(stream.try_clone()?);
        Ok(Self {
            server,
            stream,
            answers,
        })
    }

    /// Sends a GET for `path` with `fields` (each a whole line without its end) and reads the status of its answer.
    pub fn get(&mut self, path: &str, fields: &[&str]) -> Result<u16> {
        self.send_head("GET", path, fields)?;
        let head = self.head()?;
        self.body(&head)?;
        Ok(head.status)
    }

    /// Sends a request's head.
    pub(super) fn send_head(&mut self, method: &str, path: &str, fields: &[&str]) -> Result<()> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", self.server);
        for field in fields {
            head.push_str(field);
            head.push_str("\r\n");
        }
        head.push_str("\r\n");
        self.send(head.as_bytes())
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).context("sending")
    }

    /// Reads the next head, which may be that of an interim answer.
    pub(super) fn head(&mut self) -> Result<Head> {
        let mut lines = (&mut self.answers).lines();
        let mut next = || {
            lines
                .next()
                .context("the connection was closed")?
                .context("reading")
        };
        let first = next()?;
        let status = first.split(' ').nth(1).and_then(|word| word.parse().ok());
        let status = status.with_context(|| format!("no status line: {first:?}"))?;
        let mut fields = Vec::new();
        loop {
            let line = next()?;
            let Some((name, value)) = line.split_once(':') else {
                return Ok(Head { status, fields });
            };
            fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    /// Reads the body that belongs to `head`.
    pub(super) fn body(&mut self, head: &Head) -> Result<Vec<u8>> {
        let length = head
            .values("content-length")
            .first()
            .context("no length")?
            .parse()?;
        let mut body = vec![0; length];
        self.answers
            .read_exact(&mut body)
            .context("reading a body")?;
        Ok(body)
    }
}

/// Status line and fields of an answer.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: u16,
    fields: Vec<(String, String)>,
}

impl Head {
    /// Values of all fields called `name`, which is in lower case, in the order of the wire.
    pub(super) fn values(&self, name: &str) -> Vec<String> {
        let of_name = self.fields.iter().filter(|(known, _)| known == name);
        of_name.map(|(_, value)| value.clone()).collect()
    }
}
