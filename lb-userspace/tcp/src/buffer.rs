//! Bytes of one direction of a connection, in chunks that come and go.
//!
//! Offsets count from the first byte that is kept. Chunks exist only where bytes were written, so that bytes behind
//! a gap (received out of order) lie where they will be read, and an empty buffer holds none.
//!
//! Deliberately not here: which bytes are valid, which the owner knows (`Sender`: all up to its end; `Receiver`: those
//! in its ranges).

use alloc::collections::VecDeque;

use crate::pool::{CHUNK, Chunk, Payload, Pool};

/// Bytes in chunks.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    chunks: VecDeque<Option<Chunk>>,
    /// Place of offset 0 in the first chunk.
    start: usize,
}

impl Buffer {
    /// Writes at `offset`; how much, which is less than asked only when the pool is empty.
    pub(crate) fn write_at(&mut self, offset: usize, bytes: &[u8], pool: &mut Pool) -> usize {
        let mut written = 0;
        while written < bytes.len() {
            let at = self.start + offset + written;
            let Some(chunk) = self.chunk_mut(at / CHUNK, pool) else {
                break;
            };
            let room = &mut chunk[at % CHUNK..];
            let count = room.len().min(bytes.len() - written);
            room[..count].copy_from_slice(&bytes[written..written + count]);
            written += count;
        }
        written
    }

    /// `len` bytes from `offset`, which were written and span at most three chunks.
    pub(crate) fn payload(&self, offset: usize, len: usize) -> Payload<'_> {
        let mut slices = [&[][..]; 3];
        let mut at = self.start + offset;
        let mut left = len;
        for slice in &mut slices {
            *slice = self.slice(at, left);
            at += slice.len();
            left -= slice.len();
        }
        debug_assert_eq!(
            left, 0,
            "a payload of bytes that were never written, or of too many"
        );
        Payload::new(slices)
    }

    /// Writes all of `bytes` at `offset`, or nothing if the pool has no room for all.
    pub(crate) fn write_whole(&mut self, offset: usize, bytes: &[u8], pool: &mut Pool) -> bool {
        let (first, end) = (self.start + offset, self.start + offset + bytes.len());
        let missing = (first / CHUNK..end.div_ceil(CHUNK))
            .filter(|&index| !matches!(self.chunks.get(index), Some(Some(_))))
            .count();
        missing <= pool.available() && self.write_at(offset, bytes, pool) == bytes.len()
    }

    /// Copies bytes from `offset` out, as many as fit, without removing them.
    pub(crate) fn copy_to(&self, offset: usize, into: &mut [u8]) {
        let mut copied = 0;
        while copied < into.len() {
            let at = self.start + offset + copied;
            let slice = self.slice(at, into.len() - copied);
            if slice.is_empty() {
                debug_assert!(false, "bytes that were never written");
                return;
            }
            into[copied..copied + slice.len()].copy_from_slice(slice);
            copied += slice.len();
        }
    }

    /// Forgets the first `len` bytes.
    pub(crate) fn advance(&mut self, len: usize, pool: &mut Pool) {
        self.start += len;
        while self.start >= CHUNK {
            self.start -= CHUNK;
            if let Some(Some(chunk)) = self.chunks.pop_front() {
                pool.give_back(chunk);
            }
        }
    }

    /// Forgets everything and gives all memory back.
    pub(crate) fn clear(&mut self, pool: &mut Pool) {
        for chunk in self.chunks.drain(..).flatten() {
            pool.give_back(chunk);
        }
        pool.take_slots_back(&mut self.chunks);
        self.start = 0;
    }

    /// Reads a field: see `Endpoint::touch`.
    pub(crate) fn touch(&self) -> u64 {
        self.start as u64
    }

    fn slice(&self, at: usize, len: usize) -> &[u8] {
        match self.chunks.get(at / CHUNK) {
            Some(Some(chunk)) => {
                let rest = &chunk[at % CHUNK..];
                &rest[..len.min(rest.len())]
            }
            _ => &[],
        }
    }

    fn chunk_mut(&mut self, index: usize, pool: &mut Pool) -> Option<&mut Chunk> {
        if self.chunks.len() <= index {
            pool.lend_slots(&mut self.chunks);
            self.chunks.resize_with(index + 1, || None);
        }
        let slot = self.chunks.get_mut(index)?;
        if slot.is_none() {
            *slot = pool.take();
        }
        slot.as_mut()
    }
}

#[cfg(test)]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use super::*;

    fn pattern(len: usize) -> Vec<u8> {
        (0..len).map(|n| u8::try_from(n % 251).unwrap()).collect()
    }

    #[test]
    fn bytes_come_out_as_they_went_in_and_memory_goes_back() {
        let mut pool = Pool::new(1 << 20);
        let mut buffer = Buffer::default();
        let bytes = pattern(10_000);
        assert_eq!(buffer.write_at(4000, &bytes[4000..], &mut pool), 6000);
        assert_eq!(buffer.write_at(0, &bytes[..4000], &mut pool), 4000);
        let middle: Vec<u8> = buffer
            .payload(3000, 6000)
            .slices()
            .flatten()
            .copied()
            .collect();
        assert_eq!(middle, bytes[3000..9000]);
        buffer.advance(5000, &mut pool);
        let mut rest = vec![0; 5000];
        buffer.copy_to(0, &mut rest);
        assert_eq!(rest, bytes[5000..]);
        assert_eq!(pool.lent(), 2 * CHUNK);
        buffer.clear(&mut pool);
        assert_eq!(pool.lent(), 0);
    }

    #[test]
    fn a_gap_costs_no_memory_and_an_empty_pool_shortens_a_write() {
        let mut pool = Pool::new(2 * CHUNK);
        let mut buffer = Buffer::default();
        assert_eq!(buffer.write_at(10 * CHUNK, b"far", &mut pool), 3);
        assert_eq!(pool.lent(), CHUNK);
        assert_eq!(buffer.write_at(0, &pattern(2 * CHUNK), &mut pool), CHUNK);
    }

    #[test]
    fn a_write_of_the_whole_takes_what_it_needs_or_no_memory_at_all() {
        let mut pool = Pool::new(2 * CHUNK);
        let mut buffer = Buffer::default();
        assert!(buffer.write_whole(CHUNK - 1, b"two", &mut pool));
        assert_eq!(pool.lent(), 2 * CHUNK);
        assert!(buffer.write_whole(0, &pattern(2 * CHUNK), &mut pool));
        assert!(!buffer.write_whole(1, &pattern(2 * CHUNK), &mut pool));
        buffer.advance(CHUNK, &mut pool);
        assert!(!buffer.write_whole(CHUNK - 1, &pattern(CHUNK + 2), &mut pool));
        assert_eq!(pool.lent(), CHUNK);
        let mut kept = [0; CHUNK];
        buffer.copy_to(0, &mut kept);
        assert_eq!(kept[..], pattern(2 * CHUNK)[CHUNK..]);
    }
}
