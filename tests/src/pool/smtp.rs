//! Enough of SMTP (RFC 5321) to see who connects and to move bytes both ways through a layer 4 balancer.
//!
//! The banner names the peer: `220 EX1 peer=10.203.1.10:40001`. `EHLO`/`HELO`, `NOOP`, `QUIT`, and
//! `XECHO <n>`: the server answers 354, then sends the next n bytes back as they come, then 250.
//! Not here: mail.

use std::{io, net::SocketAddr};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

/// Serves one connection to its end.
pub(super) async fn serve(stream: TcpStream, peer: SocketAddr, name: &str) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    write
        .write_all(format!("220 {name} peer={peer}\r\n").as_bytes())
        .await?;
    let mut line = String::new();
    loop {
        line.clear();
        // A command line is at most 512 octets (RFC 5321 §4.5.3.1.4).
        if (&mut read).take(512).read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let mut words = line.split_ascii_whitespace();
        let verb = words.next().unwrap_or_default().to_ascii_uppercase();
        let length = words.next().and_then(|word| word.parse::<u64>().ok());
        match (verb.as_str(), length) {
            ("XECHO", Some(length)) => {
                write.write_all(b"354 send them\r\n").await?;
                tokio::io::copy_buf(&mut (&mut read).take(length), &mut write).await?;
                write.write_all(b"250 that was all\r\n").await?;
            }
            ("EHLO" | "HELO" | "NOOP", _) => {
                write
                    .write_all(format!("250 {name}\r\n").as_bytes())
                    .await?;
            }
            ("QUIT", _) => return write.write_all(b"221 bye\r\n").await,
            _ => {
                write
                    .write_all(b"502 not part of the simulated pool\r\n")
                    .await?;
            }
        }
    }
}
