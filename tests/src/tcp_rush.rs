//! A client that opens a connection for each request, and does as little else as a client of the kernel's TCP can: for a
//! load under which the server is the bottleneck.
//!
//! A connection costs it six system calls (socket, connect, `epoll_ctl`, write, read, close) and a share of an `epoll_wait`;
//! wrk needs about twice as many. Invariant: an answer counts only if it is all there and each byte is the one that
//! belongs to its place. Not here: who starts it (`bench_tcp`).

use std::{
    io::{self, Read as _, Write as _},
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use clap::Args;
use nix::{
    errno::Errno,
    sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags},
};
use socket2::{Domain, Socket, Type};

use crate::{
    bench::{Errors, wrk::Counted},
    tcp_server::pattern,
};

/// How to run.
#[derive(Args)]
pub struct Rush {
    /// Address and port to connect to.
    #[arg(long)]
    to: SocketAddr,
    /// Connections at a time.
    #[arg(long)]
    connections: usize,
    /// Bytes of each answer.
    #[arg(long)]
    body: usize,
    /// Length of the run.
    #[arg(long)]
    seconds: u64,
}

/// An answer that takes longer is an error, if it still is not there at the end.
const PATIENCE: Duration = Duration::from_secs(1);
/// Milliseconds between looks at the clock while nothing happens.
const LOOK: u16 = 10;
/// An answer's head is shorter.
const MAX_HEAD: usize = 1024;

impl Rush {
    /// Runs to the end; what came of it.
    pub fn run(&self) -> Result<Counted> {
        let mut crowd = Crowd::new(self)?;
        let began = Instant::now();
        let end = began + Duration::from_secs(self.seconds);
        for place in 0..self.connections {
            crowd.open(place)?;
        }
        let mut events = vec![EpollEvent::empty(); self.connections];
        while Instant::now() < end {
            let count = match crowd.epoll.wait(&mut events, LOOK) {
                Ok(count) => count,
                Err(Errno::EINTR) => 0,
                Err(error) => return Err(error).context("waiting"),
            };
            for event in &events[..count] {
                crowd.progress(usize::try_from(event.data())?)?;
            }
        }
        Ok(crowd.conclude(began.elapsed()))
    }
}

/// All connections.
struct Crowd {
    to: SocketAddr,
    request: Vec<u8>,
    body: Vec<u8>,
    epoll: Epoll,
    slots: Vec<Slot>,
    tally: Tally,
}

/// A place for one connection after the other.
struct Slot {
    connection: Option<Socket>,
    began: Instant,
    has_asked: bool,
    answer: Vec<u8>,
}

#[derive(Default)]
struct Tally {
    errors: Errors,
    /// Microseconds that each whole answer took, from the SYN on.
    latencies: Vec<u32>,
}

/// What became of a connection.
enum State {
    Waits,
    Answered,
    Failed,
}

impl Crowd {
    fn new(rush: &Rush) -> Result<Self> {
        let slot = |_| Slot {
            connection: None,
            began: Instant::now(),
            has_asked: false,
            answer: Vec::with_capacity(MAX_HEAD + rush.body),
        };
        let Rush { to, body, .. } = rush;
        let request =
            format!("GET /bench/{body} HTTP/1.1\r\nHost: lb\r\nConnection: close\r\n\r\n");
        Ok(Self {
            to: *to,
            request: request.into_bytes(),
            body: pattern(*body).to_vec(),
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            slots: (0..rush.connections).map(slot).collect(),
            tally: Tally::default(),
        })
    }

    /// The next connection of a place; the one before ends here.
    fn open(&mut self, place: usize) -> Result<()> {
        let slot = &mut self.slots[place];
        slot.began = Instant::now();
        slot.has_asked = false;
        slot.answer.clear();
        let kind = Type::STREAM.nonblocking().cloexec();
        let socket = Socket::new_raw(Domain::for_address(self.to), kind, None)?;
        match socket.connect(&self.to.into()) {
            Err(error) if error.raw_os_error() != Some(Errno::EINPROGRESS as i32) => {
                return Err(error).context("connecting");
            }
            Ok(()) | Err(_) => {}
        }
        // Once for its whole life: each of the two events comes once.
        let wanted = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
        let event = EpollEvent::new(wanted, u64::try_from(place)?);
        self.epoll.add(&socket, event)?;
        // The epoll set forgets a descriptor that is closed.
        slot.connection = Some(socket);
        Ok(())
    }

    /// Something happened to the connection of a place.
    fn progress(&mut self, place: usize) -> Result<()> {
        let slot = &mut self.slots[place];
        let state = if slot.has_asked {
            slot.read(&self.body, &mut self.tally.errors)
        } else {
            slot.ask(&self.request, &mut self.tally.errors)
        };
        match state {
            State::Waits => return Ok(()),
            State::Failed => {}
            State::Answered => {
                let took = slot.began.elapsed().as_micros();
                self.tally
                    .latencies
                    .push(u32::try_from(took).unwrap_or(u32::MAX));
            }
        }
        self.open(place)
    }

    fn conclude(self, length: Duration) -> Counted {
        let Tally {
            mut errors,
            mut latencies,
        } = self.tally;
        let late = self.slots.iter();
        errors.timeout += late.filter(|slot| slot.began.elapsed() > PATIENCE).count() as u64;
        latencies.sort_unstable();
        let percentile = |hundredth: usize| {
            let place = latencies.len() * hundredth / 100;
            latencies.get(place).copied().unwrap_or_default().into()
        };
        Counted {
            requests: latencies.len() as u64,
            duration_us: u64::try_from(length.as_micros()).unwrap_or(u64::MAX),
            p50_us: percentile(50),
            p99_us: percentile(99),
            errors,
        }
    }
}

impl Slot {
    fn ask(&mut self, request: &[u8], errors: &mut Errors) -> State {
        let Some(socket) = &mut self.connection else {
            return State::Failed;
        };
        match socket.write(request) {
            Ok(count) if count == request.len() => {
                self.has_asked = true;
                State::Waits
            }
            // A hundred bytes fit, once there is a connection.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => State::Waits,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => State::Waits,
            Ok(_) => {
                errors.write += 1;
                State::Failed
            }
            Err(_) => {
                errors.connect += 1;
                State::Failed
            }
        }
    }

    fn read(&mut self, body: &[u8], errors: &mut Errors) -> State {
        let Some(socket) = &mut self.connection else {
            return State::Failed;
        };
        let mut buffer = [0; 4096];
        loop {
            match socket.read(&mut buffer) {
                Ok(count @ 1..) => self.answer.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return State::Waits,
                Ok(_) | Err(_) => {
                    errors.read += 1;
                    return State::Failed;
                }
            }
            match is_whole(&self.answer, body) {
                Some(true) => return State::Answered,
                Some(false) => {
                    errors.status += 1;
                    return State::Failed;
                }
                None => {}
            }
        }
    }
}

/// Whether an answer is the one that was asked for; `None` while it may become so.
fn is_whole(answer: &[u8], body: &[u8]) -> Option<bool> {
    const END: &[u8] = b"\r\n\r\n";
    const GOOD: &[u8] = b"HTTP/1.1 200 ";
    let seen = &answer[..answer.len().min(GOOD.len())];
    if !GOOD.starts_with(seen) || answer.len() > MAX_HEAD + body.len() {
        return Some(false);
    }
    let head = answer.windows(END.len()).position(|bytes| bytes == END)?;
    let got = &answer[head + END.len()..];
    if got == body {
        Some(true)
    } else {
        (!body.starts_with(got)).then_some(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_counts_only_whole_and_unchanged() {
        let check = |answer: &str, expected| {
            assert_eq!(is_whole(answer.as_bytes(), b"abc"), expected, "{answer:?}");
        };
        check("", None);
        check("HTTP/1.1 2", None);
        check("HTTP/1.1 200 OK\r\n", None);
        check("HTTP/1.1 200 OK\r\n\r\n", None);
        check("HTTP/1.1 200 OK\r\n\r\nab", None);
        check("HTTP/1.1 200 OK\r\n\r\nabc", Some(true));
        check("HTTP/1.1 200 OK\r\n\r\nabd", Some(false));
        check("HTTP/1.1 200 OK\r\n\r\nabcd", Some(false));
        check("HTTP/1.1 404 Not Found\r\n\r\nabc", Some(false));
    }

    #[test]
    fn half_of_the_answers_are_faster_than_the_median() {
        let rush = Rush {
            to: ([127, 0, 0, 1], 1).into(),
            connections: 0,
            body: 1,
            seconds: 0,
        };
        let mut crowd = Crowd::new(&rush).unwrap();
        crowd.tally.latencies = (0..1000).rev().collect();
        let counted = crowd.conclude(Duration::from_millis(3));
        let Counted {
            requests,
            duration_us,
            p50_us,
            p99_us,
            ..
        } = counted;
        assert_eq!(
            (requests, duration_us, p50_us, p99_us),
            (1000, 3000, 500, 990)
        );
    }
}
