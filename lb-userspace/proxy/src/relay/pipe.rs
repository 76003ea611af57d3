//! Bytes from each of two streams to the other, until both have ended.
//!
//! What is read goes into a buffer that all connections of a worker share, and from there straight to the other side; only
//! what the other side doesn't take is kept, and nothing is read until it does. So a quiet connection holds no memory, and a
//! slow reader no more than one buffer. Invariant: every byte that was read is written before the end is passed on.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::ReadBuf;
use tokio::time::{Instant, sleep_until};

use super::AnyStream;
use crate::alarm::poll_until;
use crate::carriage::Meter;
use crate::counters::Counter;

/// As much as a TLS record holds, several times: bulk is copied in few system calls.
const BUFFER: usize = 64 * 1024;

/// The buffer that all connections of a worker share; in use only while one of them is polled.
#[derive(Debug)]
pub(super) struct Scratch(RefCell<Box<[u8]>>);

impl Default for Scratch {
    fn default() -> Self {
        Self(RefCell::new(vec![0; BUFFER].into_boxed_slice()))
    }
}

/// How copying ended before both sides were done.
#[derive(Debug)]
pub(super) enum Broken {
    /// Nothing moved.
    Idle,
    Client(io::Error),
    Server(io::Error),
}

/// Which stream failed, of one direction.
enum Side {
    From(io::Error),
    To(io::Error),
}

/// One direction.
#[derive(Debug, Default)]
struct Pipe {
    /// What was read and not taken.
    kept: Vec<u8>,
    /// How much of that is written.
    written: usize,
    /// Written since the last flush.
    unflushed: bool,
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    /// The source has ended; the end is to be passed on.
    Ending,
    Done,
}

impl Pipe {
    /// Moves what can be moved; ready when the end was passed on. `moved` is told of every byte written.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        (mut from, mut to): (Pin<&mut AnyStream>, Pin<&mut AnyStream>),
        scratch: &mut [u8],
        moved: &mut dyn FnMut(usize),
    ) -> Poll<Result<(), Side>> {
        loop {
            while let Some(rest) = self
                .kept
                .get(self.written..)
                .filter(|rest| !rest.is_empty())
            {
                let count = ready!(write(to.as_mut(), cx, rest)).map_err(Side::To)?;
                self.written += count;
                self.unflushed = true;
                moved(count);
            }
            if self.written > 0 {
                // Given back: most connections are slow only for a moment.
                (self.kept, self.written) = (Vec::new(), 0);
            }
            match self.state {
                State::Done => return Poll::Ready(Ok(())),
                State::Ending => {
                    ready!(to.as_mut().poll_shutdown(cx)).map_err(Side::To)?;
                    self.state = State::Done;
                }
                State::Open => {
                    let mut buffer = ReadBuf::new(scratch);
                    let Poll::Ready(outcome) = from.as_mut().poll_read(cx, &mut buffer) else {
                        // Whoever waits for an answer must have been asked.
                        ready!(self.poll_flush(cx, to.as_mut())).map_err(Side::To)?;
                        return Poll::Pending;
                    };
                    outcome.map_err(Side::From)?;
                    match buffer.filled() {
                        [] => self.state = State::Ending,
                        data => self.pass(cx, data, to.as_mut(), moved)?,
                    }
                }
            }
        }
    }

    /// Writes as much as the other side takes now, and keeps the rest.
    fn pass(
        &mut self,
        cx: &mut Context<'_>,
        mut data: &[u8],
        mut to: Pin<&mut AnyStream>,
        moved: &mut dyn FnMut(usize),
    ) -> Result<(), Side> {
        while !data.is_empty() {
            match write(to.as_mut(), cx, data) {
                Poll::Ready(outcome) => {
                    let count = outcome.map_err(Side::To)?;
                    data = data.get(count..).unwrap_or_default();
                    self.unflushed = true;
                    moved(count);
                }
                Poll::Pending => {
                    self.kept = data.to_vec();
                    break;
                }
            }
        }
        Ok(())
    }

    fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        to: Pin<&mut AnyStream>,
    ) -> Poll<io::Result<()>> {
        if self.unflushed {
            ready!(to.poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}

fn write(to: Pin<&mut AnyStream>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
    match ready!(to.poll_write(cx, data)) {
        Ok(0) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
        outcome => Poll::Ready(outcome),
    }
}

/// Copies until both streams have ended, and both ends were passed on.
pub(super) async fn both_ways(
    mut client: Pin<&mut AnyStream>,
    mut server: Pin<&mut AnyStream>,
    scratch: &Scratch,
    idle: Duration,
    [bytes_in, bytes_out]: [&Counter; 2],
    mut meter: Meter,
) -> Result<(), Broken> {
    let (mut there, mut back) = (Pipe::default(), Pipe::default());
    let mut last = Instant::now();
    let mut alarm = pin!(sleep_until(last + idle));
    poll_fn(|cx| {
        let mut moved = false;
        let scratch = &mut *scratch.0.borrow_mut();
        let mut count = |counter: &Counter, bytes: usize| {
            counter.add(bytes as u64);
            meter.pass(bytes);
            moved = true;
        };
        let ends = (client.as_mut(), server.as_mut());
        let outward = there.poll(cx, ends, scratch, &mut |bytes| count(bytes_in, bytes));
        let outward = outward.map_err(|side| match side {
            Side::From(error) => Broken::Client(error),
            Side::To(error) => Broken::Server(error),
        })?;
        let ends = (server.as_mut(), client.as_mut());
        let homeward = back.poll(cx, ends, scratch, &mut |bytes| count(bytes_out, bytes));
        let homeward = homeward.map_err(|side| match side {
            Side::From(error) => Broken::Server(error),
            Side::To(error) => Broken::Client(error),
        })?;
        if outward.is_ready() && homeward.is_ready() {
            return Poll::Ready(Ok(()));
        }
        if moved {
            last = Instant::now();
        }
        poll_until(cx, alarm.as_mut(), last + idle).map(|()| Err(Broken::Idle))
    })
    .await
}

#[cfg(test)]
mod tests;
