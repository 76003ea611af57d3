//! SMTP as a test of layer 4: who the server sees, and whether bytes arrive as they were sent.
//!
//! Not here: mail. The server's side is `crate::pool`'s SMTP.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream},
    thread,
};

use anyhow::{Context as _, Result, ensure};

use super::connect;

/// An SMTP conversation under way.
#[derive(Debug)]
pub struct Smtp {
    stream: TcpStream,
    replies: BufReader<TcpStream>,
    local: SocketAddr,
    banner: String,
}

impl Smtp {
    /// Connects to `server` from `source`, an address of the client's namespace, and reads the banner.
    pub fn connect(source: Ipv4Addr, server: SocketAddrV4) -> Result<Self> {
        let stream = connect(source, server)?;
        let mut smtp = Self {
            replies: BufReader::new(stream.try_clone()?),
            local: stream.local_addr()?,
            stream,
            banner: String::new(),
        };
        smtp.banner = smtp.reply("220")?;
        Ok(smtp)
    }

    /// Name of the server that answered: the banner's first word.
    pub fn server(&self) -> Option<&str> {
        self.banner.split(' ').nth(1)
    }

    /// The peer that the server says it sees.
    pub fn peer(&self) -> Result<SocketAddr> {
        let peer = self
            .banner
            .rsplit_once("peer=")
            .context("the banner names no peer")?
            .1;
        peer.parse()
            .with_context(|| format!("the banner's peer {peer:?}"))
    }

    /// The client's own end.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Asks for a sign of life.
    pub fn noop(&mut self) -> Result<()> {
        self.stream.write_all(b"NOOP\r\n")?;
        self.reply("250").map(drop)
    }

    /// Sends `data` and returns what comes back for it, both at the same time.
    pub fn echo(&mut self, data: &[u8]) -> Result<Vec<u8>> {
        self.stream
            .write_all(format!("XECHO {}\r\n", data.len()).as_bytes())?;
        self.reply("354")?;
        let mut back = vec![0; data.len()];
        let mut writer = self.stream.try_clone()?;
        thread::scope(|scope| -> Result<()> {
            let sending = scope.spawn(move || writer.write_all(data));
            self.replies
                .read_exact(&mut back)
                .context("reading what should come back")?;
            sending
                .join()
                .ok()
                .context("the sender panicked")?
                .context("sending")
        })?;
        self.reply("250")?;
        Ok(back)
    }

    fn reply(&mut self, code: &str) -> Result<String> {
        let mut line = String::new();
        self.replies
            .read_line(&mut line)
            .with_context(|| format!("waiting for a {code} reply"))?;
        ensure!(
            line.starts_with(code),
            "the server said {line:?} instead of {code}"
        );
        Ok(line.trim_end().to_owned())
    }
}
