//! The server of the load: a page of any size in which every byte says where it stands, and a sum over what is sent to it.
//!
//! `GET /page/<bytes>` is answered at once, `GET /slow/<bytes>` at a pace; `POST` is read at a pace and answered with how many
//! bytes came and whether each was right. A thread for each connection, in the server's namespace.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result};

use crate::{address::server, lab::Namespace, world::World};

/// Port of the server.
pub(super) const PORT: u16 = 7080;

/// A piece of a transfer at a pace, and the pause after it: 4 MB in a second.
const PIECE: usize = 32 << 10;
const PAUSE: Duration = Duration::from_millis(8);

/// A prime: a piece that is lost, or stands elsewhere, makes the bytes after it differ.
const PERIOD: usize = 65_521;

static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut state = 0x9e37_79b9_u32;
    let period: Vec<u8> = (0..PERIOD)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state.to_le_bytes()[0]
        })
        .collect();
    // Twice, and a piece more, so that any piece is one slice.
    period
        .iter()
        .copied()
        .cycle()
        .take(PERIOD + PIECE)
        .collect()
});

/// What stands at `offset` of every body, for as many bytes as are asked for, a piece at most.
pub(crate) fn pattern(offset: usize, length: usize) -> &'static [u8] {
    let start = offset % PERIOD;
    &PATTERN[start..start + length.min(PIECE)]
}

/// Whether these bytes are the ones at `offset`.
pub(crate) fn is_right(offset: usize, bytes: &[u8]) -> bool {
    let mut at = offset;
    bytes.chunks(PIECE).all(|piece| {
        let right = piece == pattern(at, piece.len());
        at += piece.len();
        right
    })
}

/// A running server.
pub(super) struct Origin {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    address: SocketAddr,
}

impl Origin {
    /// Listens on the first server of the lab.
    pub(super) fn start(_world: &World) -> Result<Self> {
        let address = SocketAddr::from((server(1), PORT));
        let listener = Namespace::pool(1)
            .run(|| TcpListener::bind(address))?
            .context("listening")?;
        let ended = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&ended);
        let thread = thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if end.load(Relaxed) {
                    return;
                }
                thread::spawn(move || {
                    // A connection that breaks is for the client to notice.
                    let _ = serve(&stream);
                });
            }
        });
        Ok(Self {
            ended,
            thread: Some(thread),
            address,
        })
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.ended.store(true, Relaxed);
        // Wakes it.
        let address = self.address;
        let _ = Namespace::pool(1).run(|| TcpStream::connect(address));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(stream: &TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::with_capacity(PIECE, stream);
    let mut writer = stream;
    loop {
        let mut request = String::new();
        if reader.read_line(&mut request)? == 0 {
            return Ok(());
        }
        let length = content_length(&mut reader)?;
        let mut words = request.split(' ');
        let (method, path) = (
            words.next().context("a method")?,
            words.next().context("a path")?,
        );
        if method == "POST" {
            let answer = take(&mut reader, length)?;
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
                answer.len()
            );
            writer.write_all((head + &answer).as_bytes())?;
            continue;
        }
        let size: usize = path.rsplit('/').next().context("a size")?.parse()?;
        writer
            .write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n").as_bytes())?;
        let mut sent = 0;
        while sent < size {
            let piece = pattern(sent, size - sent);
            writer.write_all(piece)?;
            sent += piece.len();
            if path.starts_with("/slow/") {
                thread::sleep(PAUSE);
            }
        }
    }
}

/// Reads the rest of a head.
fn content_length(reader: &mut BufReader<&TcpStream>) -> Result<usize> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            return Ok(length);
        };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse()?;
        }
    }
}

/// Reads a body; what is said of it.
fn take(reader: &mut BufReader<&TcpStream>, length: usize) -> Result<String> {
    let (mut taken, mut right) = (0, true);
    let mut piece = vec![0; PIECE];
    while taken < length {
        let room = PIECE.min(length - taken);
        reader.read_exact(&mut piece[..room])?;
        right &= is_right(taken, &piece[..room]);
        taken += room;
        thread::sleep(PAUSE);
    }
    Ok(format!("{taken} {right}"))
}
