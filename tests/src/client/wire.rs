//! An HTTP/1.1 connection in the client's namespace, byte by byte: never replaced, never helped.
//!
//! For sequences that no client library would send on purpose. Bodies are read by `Content-Length` or in chunks, each
//! chunk when it is there.

use std::{
    fmt,
    io::{BufRead as _, BufReader, ErrorKind, Read, Write},
    net::SocketAddrV4,
    path::Path,
    sync::Arc,
};

use anyhow::{Context as _, Result, bail, ensure};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};

use super::{connect, connect_from};
use crate::{address::CLIENT, certs};

/// An open connection.
pub struct Connection {
    host: String,
    stream: BufReader<Box<dyn Stream>>,
}

trait Stream: Read + Write + Send {}

impl<T: Read + Write + Send> Stream for T {}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// Connects from the client's usual address.
    pub fn open(server: SocketAddrV4) -> Result<Self> {
        Ok(Self {
            host: server.to_string(),
            stream: BufReader::new(Box::new(connect(CLIENT, server)?)),
        })
    }

    /// The same from this port of it.
    pub fn open_from(port: u16, server: SocketAddrV4) -> Result<Self> {
        let source = SocketAddrV4::new(CLIENT, port);
        Ok(Self {
            host: server.to_string(),
            stream: BufReader::new(Box::new(connect_from(source, server)?)),
        })
    }

    /// The same over TLS, as a client of [`certs::NAME`] that trusts the authority in the file `ca`.
    pub fn open_tls(server: SocketAddrV4, ca: &Path) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(ca)? {
            roots.add(certificate?)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let tls = ClientConnection::new(Arc::new(config), ServerName::try_from(certs::NAME)?)?;
        let stream = StreamOwned::new(tls, connect(CLIENT, server)?);
        Ok(Self {
            host: certs::NAME.to_owned(),
            stream: BufReader::new(Box::new(stream)),
        })
    }

    /// Sends a GET for `path` with `fields` (each a whole line without its end) and reads the status of its answer.
    pub fn get(&mut self, path: &str, fields: &[&str]) -> Result<u16> {
        Ok(self.page(path, fields)?.0)
    }

    /// Sends a GET and reads its answer: status and body.
    pub fn page(&mut self, path: &str, fields: &[&str]) -> Result<(u16, Vec<u8>)> {
        self.send_head("GET", path, fields)?;
        let head = self.head()?;
        Ok((head.status, self.body(&head)?))
    }

    /// Sends a request's head.
    pub fn send_head(&mut self, method: &str, path: &str, fields: &[&str]) -> Result<()> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", self.host);
        for field in fields {
            head.push_str(field);
            head.push_str("\r\n");
        }
        head.push_str("\r\n");
        self.send(head.as_bytes())
    }

    /// Sends `bytes` as they are.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        let stream = self.stream.get_mut();
        stream.write_all(bytes).context("sending")?;
        stream.flush().context("sending")
    }

    /// Reads the next head, which may be that of an interim answer.
    pub fn head(&mut self) -> Result<Head> {
        let first = self.line()?;
        let status = first.split(' ').nth(1).and_then(|word| word.parse().ok());
        let status = status.with_context(|| format!("no status line: {first:?}"))?;
        let mut lines = Vec::new();
        loop {
            match self.line()? {
                line if line.is_empty() => return Ok(Head { status, lines }),
                line => lines.push(line),
            }
        }
    }

    /// Reads the body that belongs to `head`.
    pub fn body(&mut self, head: &Head) -> Result<Vec<u8>> {
        if head.values("transfer-encoding") == ["chunked"] {
            let mut body = Vec::new();
            while let Some(chunk) = self.chunk()? {
                body.extend(chunk);
            }
            return Ok(body);
        }
        let length = head.values("content-length");
        self.exactly(length.first().context("no length")?.parse()?)
    }

    /// Reads a chunk of a body that is sent in chunks; `None` is its end.
    pub fn chunk(&mut self) -> Result<Option<Vec<u8>>> {
        let line = self.line()?;
        let size = line.split(';').next().unwrap_or_default();
        let size = usize::from_str_radix(size, 16).with_context(|| format!("a size: {line:?}"))?;
        let chunk = self.exactly(size)?;
        let end = self.line()?;
        ensure!(end.is_empty(), "after a chunk: {end:?}");
        Ok((size > 0).then_some(chunk))
    }

    /// Reads so many bytes.
    pub fn exactly(&mut self, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).context("reading")?;
        Ok(bytes)
    }

    /// Waits until the other side has closed or reset the connection; fails if it sends something.
    pub fn until_closed(&mut self) -> Result<()> {
        match self.stream.read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => bail!("bytes in place of the end"),
            Err(error) if error.kind() == ErrorKind::WouldBlock => bail!("it stays open"),
            Err(_) => Ok(()),
        }
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line).context("reading")?;
        let line = line
            .strip_suffix("\r\n")
            .context("the connection was closed")?;
        Ok(line.to_owned())
    }
}

/// Status line and fields of an answer.
#[derive(Debug)]
pub struct Head {
    /// Status.
    pub status: u16,
    /// Fields as they came, without the ends of their lines.
    pub lines: Vec<String>,
}

impl Head {
    /// Values of all fields called `name`, whatever its case, in the order of the wire.
    pub fn values(&self, name: &str) -> Vec<String> {
        let fields = self.lines.iter().filter_map(|line| line.split_once(':'));
        fields
            .filter(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim().to_owned())
            .collect()
    }
}
