//! Memory for bytes: chunks of 4 KiB, lent to connections when they have bytes, and counted.
//!
//! Invariant: chunks lent are at most the limit, so an endpoint's memory is bounded however many connections it has. An idle
//! connection holds none. Of those that come back about as many are kept as are lent, so that the memory of a burst
//! goes back to the allocator as the burst ebbs.
//!
//! The short queues in which connections keep their chunks and records are lent as well, last back, first out: an idle connection holds
//! none, and one that wakes gets memory that is in the cache, which its own would not be.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::send::Record;

/// Bytes of a chunk: a page, and more than two full segments.
pub(crate) const CHUNK: usize = 4096;

/// Free chunks that are kept however few are lent: 1 MiB.
const SPARE: usize = 256;

/// Places of a queue that is kept. One that has grown beyond goes back to the allocator.
const MAX_QUEUE: usize = 4;

/// A chunk on loan.
pub(crate) type Chunk = Box<[u8; CHUNK]>;

/// Memory for the bytes of all connections of an endpoint.
#[derive(Debug)]
pub struct Pool {
    free: Vec<Chunk>,
    slots: Queues<Option<Chunk>>,
    records: Queues<Record>,
    lent: usize,
    limit: usize,
}

/// How scarce memory is, and what is done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// Less than half is lent.
    None,
    /// Windows stop growing, and shrink as they are used up (never to the left: RFC 9293 §3.8.6).
    ShrinkWindows,
    /// More than seven eighths are lent: SYNs are ignored as well.
    RefuseConnections,
}

impl Pool {
    /// A pool of at most `bytes`.
    pub fn new(bytes: usize) -> Self {
        Self {
            free: Vec::new(),
            slots: Queues(Vec::new()),
            records: Queues(Vec::new()),
            lent: 0,
            limit: bytes / CHUNK,
        }
    }

    /// Bytes on loan.
    pub fn lent(&self) -> usize {
        self.lent * CHUNK
    }

    /// How scarce memory is.
    pub fn pressure(&self) -> Pressure {
        if self.lent > self.limit / 8 * 7 {
            Pressure::RefuseConnections
        } else if self.lent > self.limit / 2 {
            Pressure::ShrinkWindows
        } else {
            Pressure::None
        }
    }

    /// Chunks that can be lent.
    pub(crate) fn available(&self) -> usize {
        self.limit.saturating_sub(self.lent)
    }

    /// Lends a chunk; none above the limit.
    pub(crate) fn take(&mut self) -> Option<Chunk> {
        if self.lent >= self.limit {
            return None;
        }
        self.lent += 1;
        Some(self.free.pop().unwrap_or_else(|| Box::new([0; CHUNK])))
    }

    /// Takes a chunk back.
    pub(crate) fn give_back(&mut self, chunk: Chunk) {
        self.lent -= 1;
        if self.free.len() < self.lent.max(SPARE) {
            self.free.push(chunk);
        }
    }
}

/// Queues of chunks, and of records.
impl Pool {
    /// For a queue that is about to be used: memory, if it has none.
    pub(crate) fn lend_slots(&mut self, queue: &mut VecDeque<Option<Chunk>>) {
        self.slots.lend(queue);
    }

    /// Takes the memory of an empty queue.
    pub(crate) fn take_slots_back(&mut self, queue: &mut VecDeque<Option<Chunk>>) {
        self.slots.take_back(queue);
    }

    /// As [`lend_slots`](Self::lend_slots).
    pub(crate) fn lend_records(&mut self, queue: &mut VecDeque<Record>) {
        self.records.lend(queue);
    }

    /// As [`take_slots_back`](Self::take_slots_back).
    pub(crate) fn take_records_back(&mut self, queue: &mut VecDeque<Record>) {
        self.records.take_back(queue);
    }
}

/// Empty queues, at most [`SPARE`].
#[derive(Debug)]
struct Queues<T>(Vec<VecDeque<T>>);

impl<T> Queues<T> {
    fn lend(&mut self, queue: &mut VecDeque<T>) {
        if queue.capacity() == 0
            && let Some(spare) = self.0.pop()
        {
            *queue = spare;
        }
    }

    fn take_back(&mut self, queue: &mut VecDeque<T>) {
        debug_assert!(queue.is_empty(), "memory that is in use");
        let queue = core::mem::take(queue);
        if (1..=MAX_QUEUE).contains(&queue.capacity()) && self.0.len() < SPARE {
            self.0.push(queue);
        }
    }
}

/// Bytes to send, in the places where they lie: at most a few slices, since a segment is smaller than a chunk.
#[derive(Clone, Copy, Debug, Default)]
pub struct Payload<'a> {
    slices: [&'a [u8]; 3],
}

impl<'a> From<&'a [u8]> for Payload<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::new([bytes, &[], &[]])
    }
}

impl<'a> Payload<'a> {
    /// Bytes in up to three pieces.
    pub(crate) const fn new(slices: [&'a [u8]; 3]) -> Self {
        Self { slices }
    }

    /// All bytes.
    pub const fn len(&self) -> usize {
        self.slices[0].len() + self.slices[1].len() + self.slices[2].len()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The pieces in order; some may be empty.
    pub fn slices(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.slices.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    #[test]
    fn scarcity_has_steps_and_an_end() {
        let mut pool = Pool::new(16 * CHUNK + 1);
        let steps: Vec<Pressure> = (0..16)
            .map(|_| {
                pool.take().unwrap();
                pool.pressure()
            })
            .collect();
        let count = |pressure| steps.iter().filter(|step| **step == pressure).count();
        assert_eq!(count(Pressure::None), 8);
        assert_eq!(count(Pressure::ShrinkWindows), 6);
        assert_eq!(count(Pressure::RefuseConnections), 2);
        assert!(pool.take().is_none());
        assert_eq!(pool.lent(), 16 * CHUNK);
    }

    #[test]
    fn memory_of_a_burst_is_not_kept() {
        let mut pool = Pool::new(1 << 30);
        let chunks: Vec<Chunk> = (0..4 * SPARE).map(|_| pool.take().unwrap()).collect();
        for chunk in chunks {
            pool.give_back(chunk);
        }
        assert_eq!(pool.lent(), 0);
        assert!(pool.free.len() <= 2 * SPARE, "{}", pool.free.len());
    }
}
