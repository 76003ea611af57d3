//! The client's side: transfers over the kernel's TCP whose every byte is looked at.
//!
//! Runs inside the client's namespace.

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use super::{
    request::{Kind, Request},
    silence::Silence,
};
use crate::tcp_server::{pattern, pattern_at};

/// Longer than any retransmission takes; only a connection that is stuck runs into it.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Does one transfer on a connection of its own; the longest silence in it.
pub fn transfer(server: SocketAddr, request: Request) -> io::Result<Duration> {
    let stream = TcpStream::connect(server)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let silence = carry(&stream, request)?;
    end(&stream, request)?;
    Ok(silence)
}

/// Asks, and transfers all bytes; the longest silence meanwhile. Takes no file descriptor besides.
pub fn carry(stream: &TcpStream, request: Request) -> io::Result<Duration> {
    let (mut reader, mut writer) = (stream, stream);
    writer.write_all(&request.encode())?;
    let length = usize::try_from(request.length).unwrap_or(usize::MAX);
    match request.kind {
        Kind::Upload => {
            send(writer, length)?;
            let mut told = [0; 4];
            reader.read_exact(&mut told)?;
            if u32::from_be_bytes(told) != request.length {
                return Err(ErrorKind::InvalidData.into());
            }
            // The server measures it: this side does not hear what arrives.
            Ok(Duration::ZERO)
        }
        Kind::Download => expect(reader, length),
        Kind::Echo => thread::scope(|scope| {
            let sending = scope.spawn(|| send(stream, length));
            let silence = expect(stream, length);
            let sent = sending.join().map_err(|_| io::Error::other("panicked"))?;
            sent.and(silence)
        }),
    }
}

/// Ends it in both directions.
pub fn end(stream: &TcpStream, request: Request) -> io::Result<()> {
    if request.server_closes {
        expect_end(stream)?;
        stream.shutdown(Shutdown::Write)
    } else {
        stream.shutdown(Shutdown::Write)?;
        expect_end(stream)
    }
}

/// As much of the pattern as this, as fast as it goes.
fn send(mut stream: &TcpStream, length: usize) -> io::Result<()> {
    // Whole periods, so that each piece begins as the first does.
    let piece = pattern(PERIOD * 256);
    let mut left = length;
    while left > 0 {
        let now = left.min(piece.len());
        stream.write_all(&piece[..now])?;
        left -= now;
    }
    Ok(())
}

/// As much of the pattern as this; the longest silence.
fn expect(mut stream: &TcpStream, length: usize) -> io::Result<Duration> {
    let mut buffer = vec![0; 64 << 10];
    let mut silence = Silence::begin();
    let mut place = 0;
    while place < length {
        let room = buffer.len().min(length - place);
        let count = stream.read(&mut buffer[..room])?;
        silence.heard();
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        check(place, &buffer[..count])?;
        place += count;
    }
    Ok(silence.longest())
}

/// These bytes of the pattern begin at this place.
pub(super) fn check(place: usize, bytes: &[u8]) -> io::Result<()> {
    let is_right = (place..)
        .zip(bytes)
        .all(|(place, byte)| pattern_at(place) == *byte);
    if is_right {
        Ok(())
    } else {
        Err(ErrorKind::InvalidData.into())
    }
}

fn expect_end(mut stream: &TcpStream) -> io::Result<()> {
    match stream.read(&mut [0])? {
        0 => Ok(()),
        _ => Err(ErrorKind::InvalidData.into()),
    }
}

/// Period of the pattern.
pub(super) const PERIOD: usize = 251;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pattern_has_this_period() {
        for place in 0..2 * PERIOD {
            assert_eq!(pattern_at(place), pattern_at(place + PERIOD));
        }
        assert_ne!(pattern_at(0), pattern_at(PERIOD - 1));
    }

    #[test]
    fn a_byte_out_of_place_is_seen() {
        let bytes = pattern(1000);
        assert!(check(0, &bytes).is_ok());
        assert!(check(1, &bytes[1..]).is_ok());
        assert!(check(0, &bytes[1..]).is_err());
    }
}
