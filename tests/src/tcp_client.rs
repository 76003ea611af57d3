//! HTTP clients on kernel TCP that look at every byte: one that fetches, and a crowd that only stays connected.
//!
//! Invariant: an answer counts only if each byte is the one that belongs to its place. Used by `bench_tcp`; run inside
//! the client's namespace.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

use crate::tcp_server::pattern_at;

/// A connection that asks for bytes.
#[derive(Debug)]
pub struct Fetcher {
    stream: TcpStream,
}

impl Fetcher {
    /// Connects from `source`, with this patience for each step from here on.
    pub fn connect(source: IpAddr, server: SocketAddr, patience: Duration) -> Result<Self> {
        let socket = Socket::new(Domain::for_address(server), Type::STREAM, None)?;
        socket.bind(&SocketAddr::new(source, 0).into())?;
        socket.set_read_timeout(Some(patience))?;
        socket.set_write_timeout(Some(patience))?;
        socket
            .connect_timeout(&server.into(), patience)
            .context("connecting")?;
        Ok(Self {
            stream: socket.into(),
        })
    }

    /// Fetches so many bytes on this connection.
    pub fn fetch(&mut self, length: usize) -> Result<()> {
        let request = format!("GET /bench/{length} HTTP/1.1\r\nHost: lb\r\n\r\n");
        self.stream
            .write_all(request.as_bytes())
            .context("asking")?;
        let mut buffer = [0; 16 << 10];
        let mut head = 0;
        // One byte at a time is slow, and heads are short.
        while !buffer[..head].ends_with(b"\r\n\r\n") {
            ensure!(head < 1024, "a head without an end");
            let next = buffer.get_mut(head..=head).context("a long head")?;
            self.stream.read_exact(next).context("reading a head")?;
            head += 1;
        }
        ensure!(
            buffer.starts_with(b"HTTP/1.1 200"),
            "{}",
            String::from_utf8_lossy(&buffer[..head])
        );
        let mut place = 0;
        while place < length {
            let room = buffer.len().min(length - place);
            let count = self.stream.read(&mut buffer[..room]).context("reading")?;
            ensure!(count > 0, "the answer ends after {place} of {length} bytes");
            let wrong = (place..).zip(&buffer[..count]);
            let wrong = wrong
                .clone()
                .find(|(place, byte)| pattern_at(*place) != **byte);
            ensure!(wrong.is_none(), "wrong byte at {wrong:?}");
            place += count;
        }
        Ok(())
    }
}

/// How many connections, and where.
#[derive(Args)]
pub struct Crowd {
    /// Address that they come from.
    #[arg(long)]
    from: IpAddr,
    /// Address and port that they connect to.
    #[arg(long)]
    to: SocketAddr,
    /// How many.
    #[arg(long)]
    connections: usize,
}

impl Crowd {
    /// Opens all of them, one request of 1 KB each, and returns them.
    pub fn open(&self) -> Result<Vec<Fetcher>> {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
            .context("raising the limit of open files")?;
        let open = |number| {
            let mut fetcher = Fetcher::connect(self.from, self.to, PATIENCE)?;
            fetcher
                .fetch(1024)
                .with_context(|| format!("connection {number}"))?;
            Ok(fetcher)
        };
        (1..=self.connections).map(open).collect()
    }
}

const PATIENCE: Duration = Duration::from_secs(20);
