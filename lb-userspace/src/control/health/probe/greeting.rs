//! What a mail server says first: SMTP's `220` (RFC 5321 section 4.3.1), IMAP's `* OK` (RFC 9051 section 7.1.1), POP's `+OK` (RFC 1939
//! section 4).
//!
//! Invariant: at most [`KEPT`](super::KEPT) bytes are read. A probe takes its leave, which keeps "lost connection" out of the
//! server's log, and waits for no answer to that.

use std::io;

use lb_config::{Greeting, Mail};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::{Failure, KEPT, printable};

/// Reads the greeting; gives its first line, for the log.
pub(super) async fn read<S>(greeting: &Greeting, mut stream: S) -> Result<String, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let line = first_line(&mut stream).await.map_err(Failure::Silence)?;
    if !line.starts_with(greeting.expect.as_bytes()) {
        return Err(Failure::Greeting {
            found: printable(&line),
            expected: greeting.expect.clone(),
        });
    }
    let goodbye: &[u8] = match greeting.protocol {
        Mail::Smtp | Mail::Pop => b"QUIT\r\n",
        Mail::Imap => b"a LOGOUT\r\n",
    };
    // The server has proved itself; whether it hears this changes nothing.
    let _ = stream.write_all(goodbye).await;
    let _ = stream.flush().await;
    Ok(printable(&line))
}

/// The first line without its end, or as much of it as is kept.
async fn first_line(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut buffer = [0; KEPT];
    while line.len() < KEPT {
        let room = KEPT - line.len();
        let read = stream
            .read(buffer.get_mut(..room).unwrap_or_default())
            .await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        line.extend_from_slice(buffer.get(..read).unwrap_or_default());
        if let Some(end) = line.iter().position(|&byte| byte == b'\n') {
            line.truncate(end);
            break;
        }
    }
    Ok(line)
}
