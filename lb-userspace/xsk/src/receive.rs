//! The receiving half of a socket: rings `fill` and `rx`, and the rx part of the frame memory.
//!
//! Invariant: each rx frame is in exactly one of: fill ring, kernel, rx ring, the one [`Packet`], spare (`stock`).
#![expect(
    unsafe_code,
    reason = "a view of a frame in memory shared with the kernel"
)]

mod stock;

use std::ops::Deref;
use std::sync::Arc;

use self::stock::Stock;
use crate::FRAME_SIZE;
use crate::mapping::Mapping;
use crate::ring::{Consumer, Producer};

/// Receives packets. Part of a [`Socket`](crate::Socket).
#[derive(Debug)]
pub struct Receiver {
    pub(crate) fill: Producer<u64>,
    pub(crate) rx: Consumer<libc::xdp_desc>,
    frames: Arc<Mapping>,
    /// Rx frames begin at byte 0 and end here.
    end: u64,
    stock: Stock,
    invalid: u64,
}

impl Receiver {
    /// Takes the first `count` frames of `frames` and gives them all to the kernel.
    pub(crate) fn new(
        fill: Producer<u64>,
        rx: Consumer<libc::xdp_desc>,
        frames: Arc<Mapping>,
        count: u32,
    ) -> Self {
        let end = u64::from(count) * FRAME_SIZE as u64;
        let mut receiver = Self {
            fill,
            rx,
            frames,
            end,
            stock: Stock::all_lent(count),
            invalid: 0,
        };
        for frame in (0..end).step_by(FRAME_SIZE) {
            receiver.lend(frame);
        }
        receiver.fill.publish();
        receiver
    }

    /// Keeps the frames that aren't needed at a quiet time. Not for a driver that lays frames out before packets come: it wants
    /// as many as its own ring has places.
    pub(crate) fn economize(&mut self) {
        self.stock.economize();
    }

    /// The next packet, from its Ethernet header on. Its frame returns to the kernel when it is dropped, at
    /// the latest visible there after [`Socket::flush`](crate::Socket::flush).
    pub fn receive(&mut self) -> Option<Packet<'_>> {
        loop {
            let Some(descriptor) = self.rx.pop() else {
                self.commit();
                return None;
            };
            self.stock.on_packet();
            if self.holds(&descriptor) {
                return Some(Packet {
                    receiver: self,
                    descriptor,
                });
            }
            // The kernel checks addresses itself, so this is a bug on either side: counted, not followed.
            self.invalid += 1;
        }
    }

    /// Shows the next packets, `count` at most, and leaves them where they are.
    pub fn look_ahead(&mut self, count: usize, mut see: impl FnMut(&[u8])) {
        for ahead in (0..).take(count) {
            let Some(descriptor) = self.rx.peek(ahead) else {
                return;
            };
            if self.holds(&descriptor) {
                see(self.bytes(&descriptor));
            }
        }
    }

    /// Whether a descriptor lies in the rx frames.
    fn holds(&self, descriptor: &libc::xdp_desc) -> bool {
        let len = u64::from(descriptor.len);
        descriptor.addr < self.end && len <= self.end - descriptor.addr
    }

    /// The bytes of a descriptor from the rx ring for which [`holds`](Self::holds).
    fn bytes(&self, descriptor: &libc::xdp_desc) -> &[u8] {
        debug_assert!(self.holds(descriptor), "bytes of somebody else");
        let Ok(offset) = usize::try_from(descriptor.addr) else {
            return &[];
        };
        // JUSTIFICATION: the packet is where the kernel wrote it; a copy of each would cost as much as parsing it.
        // SAFETY: the range lies in the rx frames. The kernel gave the frame to us with the descriptor, and gets it back when the
        // `Packet` made of that is dropped, which borrows this receiver, as do the bytes. Nobody writes to it until then.
        unsafe {
            let start = self.frames.start().add(offset);
            std::slice::from_raw_parts(start.as_ptr(), descriptor.len as usize)
        }
    }

    /// Descriptors outside the rx frames; anything but 0 is a kernel bug or ours.
    pub fn invalid_descriptors(&self) -> u64 {
        self.invalid
    }

    /// Publishes both rings.
    pub(crate) fn commit(&mut self) {
        self.stock.on_waiting(self.rx.waiting());
        while let Some(frame) = self.stock.lend() {
            self.lend(frame);
        }
        self.rx.release();
        self.fill.publish();
    }

    fn give_back(&mut self, address: u64) {
        // Descriptors point behind the headroom; the fill ring takes frames.
        let frame = address - address % FRAME_SIZE as u64;
        if self.stock.on_free(frame) {
            self.lend(frame);
        }
    }

    fn lend(&mut self, frame: u64) {
        let full = self.fill.push(frame).is_err();
        debug_assert!(!full, "the fill ring has two entries for each rx frame");
    }
}

/// A received packet in its frame.
#[derive(Debug)]
pub struct Packet<'a> {
    receiver: &'a mut Receiver,
    descriptor: libc::xdp_desc,
}

impl Deref for Packet<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.receiver.bytes(&self.descriptor)
    }
}

impl Drop for Packet<'_> {
    fn drop(&mut self) {
        self.receiver.give_back(self.descriptor.addr);
    }
}
