//! The sending half of a socket: rings `tx` and `completion`, and the tx part of the frame memory.
//!
//! Invariant: each tx frame is in exactly one of: `free`, the one [`Slot`], tx ring, kernel, completion ring.
#![expect(
    unsafe_code,
    reason = "a view of a frame in memory shared with the kernel"
)]

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use crate::mapping::Mapping;
use crate::ring::{Consumer, Producer};
use crate::{CHUNK_SIZE, FRAME_SIZE};

/// Sends packets. Part of a [`Socket`](crate::Socket).
#[derive(Debug)]
pub struct Transmitter {
    pub(crate) tx: Producer<libc::xdp_desc>,
    completion: Consumer<u64>,
    frames: Arc<Mapping>,
    /// Addresses of frames that nobody uses.
    free: Vec<u64>,
    first: u64,
    end: u64,
}

impl Transmitter {
    /// Takes the frames of `frames` behind the first `rx_count`.
    pub(crate) fn new(
        tx: Producer<libc::xdp_desc>,
        completion: Consumer<u64>,
        frames: Arc<Mapping>,
        rx_count: u32,
        tx_count: u32,
    ) -> Self {
        let first = u64::from(rx_count) * FRAME_SIZE as u64;
        let end = first + u64::from(tx_count) * FRAME_SIZE as u64;
        // A stack: frames that come back are used again while they are in the cache.
        let free = (first..end).step_by(FRAME_SIZE).collect();
        Self {
            tx,
            completion,
            frames,
            free,
            first,
            end,
        }
    }

    /// Frames that can be sent now. Takes back what the kernel has sent if none is left.
    pub fn available(&mut self) -> usize {
        if self.free.is_empty() {
            self.reap();
        }
        self.free.len()
    }

    /// A frame of `len` bytes to write a packet into, from its Ethernet header on. `None` if all frames are
    /// on their way (try again after the kernel has sent some), or `len` is above [`FRAME_SIZE`].
    pub fn reserve(&mut self, len: usize) -> Option<Slot<'_>> {
        let len = u32::try_from(len).ok().filter(|&len| len <= CHUNK_SIZE)?;
        if self.available() == 0 {
            return None;
        }
        let descriptor = libc::xdp_desc {
            addr: self.free.pop()?,
            len,
            options: 0,
        };
        Some(Slot {
            transmitter: self,
            descriptor,
        })
    }

    /// Takes back the frames that the kernel has sent.
    pub(crate) fn reap(&mut self) {
        while let Some(address) = self.completion.pop() {
            // Only what we submitted comes back; anything else must not become a frame of ours.
            if (self.first..self.end).contains(&address) {
                self.free.push(address - address % FRAME_SIZE as u64);
            }
        }
        self.completion.release();
    }
}

/// A tx frame that is being written. Dropped without [`send`](Self::send), the frame is free again.
#[derive(Debug)]
pub struct Slot<'a> {
    transmitter: &'a mut Transmitter,
    descriptor: libc::xdp_desc,
}

impl Slot<'_> {
    /// Queues the packet; it leaves with the next [`Socket::flush`](crate::Socket::flush).
    pub fn send(self) {
        let full = self.transmitter.tx.push(self.descriptor).is_err();
        debug_assert!(!full, "the tx ring has an entry for each tx frame");
        if !full {
            // The frame is the kernel's now.
            std::mem::forget(self);
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "below a mapping's length, a `usize`"
    )]
    fn offset(&self) -> usize {
        self.descriptor.addr as usize
    }
}

impl Deref for Slot<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // JUSTIFICATION: the packet is written where the kernel reads it; to build it elsewhere would be one more copy.
        // SAFETY: a frame from `free`, so neither the kernel nor another slot has it; `reserve` checked
        // the length, and the mapping was zeroed, so all bytes are initialised.
        unsafe {
            let start = self.transmitter.frames.start().add(self.offset());
            std::slice::from_raw_parts(start.as_ptr(), self.descriptor.len as usize)
        }
    }
}

impl DerefMut for Slot<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        // JUSTIFICATION: as for `deref`.
        // SAFETY: as for `deref`; `self` is borrowed mutably.
        unsafe {
            let start = self.transmitter.frames.start().add(self.offset());
            std::slice::from_raw_parts_mut(start.as_ptr(), self.descriptor.len as usize)
        }
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.transmitter.free.push(self.descriptor.addr);
    }
}
