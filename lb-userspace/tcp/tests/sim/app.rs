//! The users of both ends: each writes and reads by a plan, both directions at the same time.
//!
//! What is written is known from the seed, so every byte that is read is compared where it is read.

use std::collections::VecDeque;
use std::time::Duration;

use lb_tcp::{Failure, Instant};

use crate::host::{Host, Phase};
use crate::rng::{Rng, mix};

/// What a writer does next.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Write {
    Bytes(u64),
    /// Waits until so many bytes were read, from the beginning.
    WhenRead(u64),
    /// Waits until everything was read, the peer's end included.
    WhenFinished,
    Pause(Duration),
    Shutdown,
    Abort,
}

/// What a reader does next.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Read {
    Bytes(u64),
    Pause(Duration),
    ToEnd,
}

/// What a user does, and in pieces of at most which size.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    pub(crate) writes: Vec<Write>,
    pub(crate) reads: Vec<Read>,
    pub(crate) piece: usize,
}

impl Plan {
    /// Bytes that it writes, if nobody aborts.
    pub(crate) fn total(&self) -> u64 {
        let bytes = |write: &Write| match write {
            Write::Bytes(count) => *count,
            _ => 0,
        };
        self.writes.iter().map(bytes).sum()
    }
}

/// Bytes of one direction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stream(pub(crate) u64);

impl Stream {
    /// The bytes from `offset`.
    pub(crate) fn fill(self, offset: u64, into: &mut [u8]) {
        for (at, byte) in (offset..).zip(into) {
            *byte = self.byte(at);
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "one byte of eight")]
    fn byte(self, offset: u64) -> u8 {
        (mix(self.0 ^ (offset / 8)) >> (offset % 8 * 8)) as u8
    }
}

/// What has become of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Busy,
    /// All plans done.
    Done,
    Failed(Failure),
}

/// A user.
#[derive(Debug)]
pub(crate) struct App {
    writes: VecDeque<Write>,
    reads: VecDeque<Read>,
    rng: Rng,
    piece: usize,
    output: Stream,
    input: Stream,
    pub(crate) written: u64,
    pub(crate) read: u64,
    finished: bool,
    write_at: Instant,
    read_at: Instant,
    pub(crate) outcome: Outcome,
    has_ended: bool,
}

/// Something that a user has done, for the digest.
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) enum Deed {
    Wrote(usize),
    Read(usize),
    ReadEnd,
    Shutdown,
    Abort,
}

impl App {
    pub(crate) fn new(plan: &Plan, output: Stream, input: Stream, rng: Rng) -> Self {
        Self {
            writes: plan.writes.iter().copied().collect(),
            reads: plan.reads.iter().copied().collect(),
            rng,
            piece: plan.piece,
            output,
            input,
            written: 0,
            read: 0,
            finished: false,
            write_at: Instant::ZERO,
            read_at: Instant::ZERO,
            outcome: Outcome::Busy,
            has_ended: false,
        }
    }

    /// Does one thing; what it was, or nothing if the user has to wait.
    pub(crate) fn step(&mut self, host: &mut dyn Host, now: Instant) -> Option<Deed> {
        if self.outcome != Outcome::Busy || host.phase() == Phase::Listening {
            return None;
        }
        let deed = self
            .step_read(host, now)
            .and_then(|deed| deed.map_or_else(|| self.step_write(host, now), |d| Ok(Some(d))));
        match deed {
            Ok(deed) => {
                if self.writes.is_empty() && self.reads.is_empty() {
                    self.outcome = Outcome::Done;
                }
                deed
            }
            Err(failure) => {
                self.outcome = Outcome::Failed(failure);
                None
            }
        }
    }

    /// Once: that the outcome is known.
    pub(crate) fn has_just_ended(&mut self) -> bool {
        let ended = self.outcome != Outcome::Busy && !self.has_ended;
        self.has_ended |= ended;
        ended
    }

    /// When a pause ends.
    pub(crate) fn next_timer(&self, now: Instant) -> Option<Instant> {
        if self.outcome != Outcome::Busy {
            return None;
        }
        let pauses = [self.write_at, self.read_at];
        pauses.into_iter().filter(|at| *at > now).min()
    }

    fn step_read(&mut self, host: &mut dyn Host, now: Instant) -> Result<Option<Deed>, Failure> {
        if self.read_at > now {
            return Ok(None);
        }
        let Some(next) = self.reads.front_mut() else {
            return Ok(None);
        };
        let wanted = match next {
            Read::Pause(pause) => {
                self.read_at = now + *pause;
                self.reads.pop_front();
                return Ok(None);
            }
            Read::Bytes(left) => usize::try_from(*left).unwrap_or(usize::MAX),
            Read::ToEnd => usize::MAX,
        };
        let mut bytes = vec![0; wanted.min(self.rng.size(1, self.piece))];
        let Some(count) = host.read(&mut bytes, now)? else {
            return Ok(None);
        };
        if count == 0 {
            assert!(
                matches!(self.reads.pop_front(), Some(Read::ToEnd)),
                "the stream ended after {} bytes, before it should",
                self.read
            );
            self.finished = true;
            return Ok(Some(Deed::ReadEnd));
        }
        self.check(&bytes[..count]);
        if let Some(Read::Bytes(left)) = self.reads.front_mut() {
            *left -= count as u64;
            if *left == 0 {
                self.reads.pop_front();
            }
        }
        Ok(Some(Deed::Read(count)))
    }

    fn check(&mut self, bytes: &[u8]) {
        let mut expected = vec![0; bytes.len()];
        self.input.fill(self.read, &mut expected);
        let wrong = bytes.iter().zip(&expected).position(|(a, b)| a != b);
        assert_eq!(
            wrong,
            None,
            "wrong byte among the {} from {}",
            bytes.len(),
            self.read
        );
        self.read += bytes.len() as u64;
    }

    fn step_write(&mut self, host: &mut dyn Host, now: Instant) -> Result<Option<Deed>, Failure> {
        if self.write_at > now {
            return Ok(None);
        }
        let Some(next) = self.writes.front_mut() else {
            return Ok(None);
        };
        let deed = match next {
            Write::WhenRead(count) if self.read < *count => return Ok(None),
            Write::WhenFinished if !self.finished => return Ok(None),
            Write::WhenRead(_) | Write::WhenFinished => None,
            Write::Pause(pause) => {
                self.write_at = now + *pause;
                None
            }
            Write::Shutdown => {
                host.shutdown(now);
                Some(Deed::Shutdown)
            }
            Write::Abort => {
                host.abort(now);
                self.reads.clear();
                Some(Deed::Abort)
            }
            Write::Bytes(left) => {
                let wanted = usize::try_from(*left).unwrap_or(usize::MAX);
                let mut bytes = vec![0; wanted.min(self.rng.size(1, self.piece))];
                self.output.fill(self.written, &mut bytes);
                let Some(count) = host.write(&bytes, now)? else {
                    return Ok(None);
                };
                assert!(count > 0, "a write was refused before the shutdown");
                self.written += count as u64;
                *left -= count as u64;
                if *left > 0 {
                    return Ok(Some(Deed::Wrote(count)));
                }
                Some(Deed::Wrote(count))
            }
        };
        self.writes.pop_front();
        deed.map_or_else(|| self.step_write(host, now), |deed| Ok(Some(deed)))
    }
}
