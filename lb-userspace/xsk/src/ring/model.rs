//! The rings under every order of events that the memory model allows, up to a few preemptions.
//!
//! The kernel's side is played by a thread of the model, written after `net/xdp/xsk_queue.h` and not by our own halves: both
//! sides making the same mistake would go unseen. Each model starts at indices just below 2³², so that both wrap in it.
//! Runs with `--cfg loom` only (`cargo xtask test loom`).

use std::sync::Arc;

use loom::thread;

use super::{Consumer, Offsets, Producer, UnsafeCell};
use crate::mapping::Mapping;
use crate::sync::{AtomicU32, Ordering, fence};

const SIZE: u32 = 2;
const START: u32 = u32::MAX;
/// Enough to use each place twice, and to wrap.
const VALUES: u64 = 4;
/// Farther apart than the kernel's: what loom knows of each atomic and entry lies in them.
const AT: Offsets = Offsets {
    producer: 0,
    consumer: 256,
    flags: 512,
    entries: 1024,
};

/// Ring memory with the model's atomics and entries in it, as the kernel would have mapped it.
fn memory() -> Arc<Mapping> {
    let mapping = Arc::new(Mapping::anonymous(4096).unwrap());
    const { assert!(size_of::<AtomicU32>() <= 256 && align_of::<AtomicU32>() <= 256) };
    let start = mapping.start();
    // JUSTIFICATION: the product finds its atomics in mapped memory; this is what keeps it the code under test.
    // SAFETY: aligned, inside the mapping, and not shared with anyone yet. Nothing in there needs a drop.
    unsafe {
        let word = |offset: usize| start.add(offset).cast::<AtomicU32>();
        word(AT.producer).write(AtomicU32::new(START));
        word(AT.consumer).write(AtomicU32::new(START));
        word(AT.flags).write(AtomicU32::new(0));
        let entries = start.add(AT.entries).cast::<UnsafeCell<u64>>();
        for index in 0..SIZE as usize {
            entries.add(index).write(UnsafeCell::new(0));
        }
    }
    mapping
}

/// The kernel's view of the same memory.
struct Kernel {
    mapping: Arc<Mapping>,
    /// `cached_prod` or `cached_cons`.
    index: u32,
}

impl Kernel {
    fn new(mapping: &Arc<Mapping>) -> Self {
        Self {
            mapping: Arc::clone(mapping),
            index: START,
        }
    }

    fn word(&self, offset: usize) -> &AtomicU32 {
        // JUSTIFICATION, SAFETY: as in `memory`, which put it there.
        unsafe { self.mapping.start().add(offset).cast().as_ref() }
    }

    fn entry(&self) -> &UnsafeCell<u64> {
        let at = (self.index % SIZE) as usize;
        // JUSTIFICATION, SAFETY: as in `word`.
        unsafe {
            let entries = self.mapping.start().add(AT.entries);
            entries.cast::<UnsafeCell<u64>>().add(at).as_ref()
        }
    }

    /// `xskq_cons_read_desc` and `__xskq_cons_release`.
    fn consume(&mut self) -> Option<u64> {
        if self.word(AT.producer).load(Ordering::Acquire) == self.index {
            return None;
        }
        // SAFETY: between the indices; loom checks it.
        let value = self.entry().with(|place| unsafe { *place });
        self.index = self.index.wrapping_add(1);
        self.word(AT.consumer).store(self.index, Ordering::Release);
        Some(value)
    }

    /// `xskq_prod_reserve_addr` and `xskq_prod_submit`.
    fn produce(&mut self, value: u64) -> bool {
        let consumed = self.word(AT.consumer).load(Ordering::Acquire);
        if self.index.wrapping_sub(consumed) == SIZE {
            return false;
        }
        // SAFETY: as in `consume`.
        self.entry().with_mut(|place| unsafe { *place = value });
        self.index = self.index.wrapping_add(1);
        self.word(AT.producer).store(self.index, Ordering::Release);
        true
    }
}

/// Calls `step` until all values have passed, letting others run when it could do nothing.
fn repeat(mut step: impl FnMut(u64) -> bool) {
    let mut done = 0;
    while done < VALUES {
        if step(done) {
            done += 1;
        } else {
            thread::yield_now();
        }
    }
}

/// Rings `fill` and `tx`.
#[test]
fn the_kernel_takes_what_we_publish_in_order() {
    loom::model(|| {
        let memory = memory();
        let mut kernel = Kernel::new(&memory);
        let mut producer = Producer::<u64>::new(memory, AT, SIZE).unwrap();
        let thread = thread::spawn(move || {
            repeat(|expected| match kernel.consume() {
                Some(value) => {
                    assert_eq!(value, expected);
                    true
                }
                None => false,
            });
        });
        repeat(|value| {
            let pushed = producer.push(value).is_ok();
            producer.publish();
            pushed
        });
        thread.join().unwrap();
        assert_eq!(producer.pending(), 0);
    });
}

/// Rings `rx` and `completion`.
#[test]
fn we_take_what_the_kernel_publishes_in_order() {
    loom::model(|| {
        let memory = memory();
        let mut kernel = Kernel::new(&memory);
        let mut consumer = Consumer::<u64>::new(memory, AT, SIZE).unwrap();
        let thread = thread::spawn(move || repeat(|value| kernel.produce(value)));
        repeat(|expected| match consumer.pop() {
            Some(value) => {
                assert_eq!(value, expected);
                true
            }
            None => {
                consumer.release();
                false
            }
        });
        thread.join().unwrap();
        assert_eq!(consumer.pop(), None);
    });
}

/// A batch becomes visible at once, and a place is not given back before its entry was taken.
#[test]
fn batches_are_published_and_released_whole() {
    loom::model(|| {
        let memory = memory();
        let mut kernel = Kernel::new(&memory);
        let mut producer = Producer::<u64>::new(memory, AT, SIZE).unwrap();
        let thread = thread::spawn(move || {
            let first = kernel.consume();
            let second = kernel.consume();
            assert!(first.is_none_or(|value| value == 0), "{first:?}");
            if first.is_some() {
                assert_eq!(second, Some(1), "half of a batch");
            }
        });
        producer.push(0).unwrap();
        producer.push(1).unwrap();
        producer.publish();
        // Its room comes back only with the kernel's release: loom sees it if this writes while the kernel reads.
        let _ = producer.push(2);
        thread.join().unwrap();
    });
}

/// Either the kernel sees the entry before it sleeps, or we see that it sleeps (`XDP_RING_NEED_WAKEUP`).
#[test]
fn the_kernel_does_not_sleep_over_an_entry() {
    loom::model(|| {
        let memory = memory();
        let mut kernel = Kernel::new(&memory);
        let mut producer = Producer::<u64>::new(memory, AT, SIZE).unwrap();
        let thread = thread::spawn(move || {
            let flags = kernel.word(AT.flags);
            flags.store(libc::XDP_RING_NEED_WAKEUP, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            kernel.consume().is_some()
        });
        producer.push(0).unwrap();
        producer.publish();
        let called = producer.needs_wakeup();
        let seen = thread.join().unwrap();
        assert!(called || seen, "asleep, and nobody calls");
    });
}
