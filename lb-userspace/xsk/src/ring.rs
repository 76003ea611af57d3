//! Single-producer single-consumer rings shared with the kernel.
//!
//! The kernel is always the other side. Indices run freely through `u32` and are masked only when an
//! entry is touched, so that "full" and "empty" differ and the wrap at 2³² is nothing special. Each side
//! writes only its own index, with a plain store-release; the other's is read with load-acquire
//! (`tools/lib/bpf` and `net/xdp/xsk_queue.h` pair them the same way). Every order of events that the memory model
//! allows is tried by `ring/model.rs` (`cargo xtask test loom`).
//!
//! Deliberately not here: what the entries mean.
#![expect(
    unsafe_code,
    reason = "entries and indices live in memory shared with the kernel"
)]

use std::ptr::NonNull;
use std::sync::Arc;

use crate::mapping::Mapping;
use crate::sync::{AtomicU32, Ordering, UnsafeCell, fence};

/// Byte offsets of a ring's parts within its mapping, as `XDP_MMAP_OFFSETS` reports them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offsets {
    pub(crate) producer: usize,
    pub(crate) consumer: usize,
    pub(crate) flags: usize,
    pub(crate) entries: usize,
}

/// What a ring may hold.
///
/// # Safety
/// Every bit pattern must be a valid value: entries are read from memory that the kernel wrote.
pub(crate) unsafe trait Entry: Copy + Send {}
// JUSTIFICATION: only its implementer can say that a type has no invalid values.
// SAFETY: an integer.
unsafe impl Entry for u64 {}
// JUSTIFICATION: as for `u64`.
// SAFETY: a `repr(C)` struct of integers without padding.
unsafe impl Entry for libc::xdp_desc {}

/// The parts of a ring, checked once against the mapping that holds them.
#[derive(Debug)]
struct Shared<T> {
    producer: NonNull<AtomicU32>,
    consumer: NonNull<AtomicU32>,
    flags: NonNull<AtomicU32>,
    entries: NonNull<UnsafeCell<T>>,
    mask: u32,
    /// Keeps the memory behind the pointers.
    _mapping: Arc<Mapping>,
}

// JUSTIFICATION: raw pointers make a type `!Send`; the control plane makes sockets and workers use them.
// SAFETY: the pointers lead into memory that this value keeps mapped, and entries are plain integers.
unsafe impl<T: Entry> Send for Shared<T> {}

/// The parts do not lie inside the mapping, are misaligned, or the size is no power of two.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadLayout;

impl<T: Entry> Shared<T> {
    fn new(mapping: Arc<Mapping>, at: Offsets, size: u32) -> Result<Self, BadLayout> {
        if !size.is_power_of_two() {
            return Err(BadLayout);
        }
        Ok(Self {
            producer: part(&mapping, at.producer, 1)?,
            consumer: part(&mapping, at.consumer, 1)?,
            flags: part(&mapping, at.flags, 1)?,
            entries: part(&mapping, at.entries, size as usize)?,
            mask: size - 1,
            _mapping: mapping,
        })
    }

    fn producer(&self) -> &AtomicU32 {
        // JUSTIFICATION: the kernel's mapping has no type; to copy words in and out by system calls would cost one per burst.
        // SAFETY: `part` checked bounds and alignment, the mapping lives as long as `self`, and the
        // kernel touches the word atomically.
        unsafe { self.producer.as_ref() }
    }

    fn consumer(&self) -> &AtomicU32 {
        // JUSTIFICATION, SAFETY: as for `producer`.
        unsafe { self.consumer.as_ref() }
    }

    fn needs_wakeup(&self) -> bool {
        // JUSTIFICATION, SAFETY: as for `producer`.
        let flags = unsafe { self.flags.as_ref() };
        flags.load(Ordering::Relaxed) & libc::XDP_RING_NEED_WAKEUP != 0
    }

    fn entry(&self, index: u32) -> &UnsafeCell<T> {
        // JUSTIFICATION: as for `producer`.
        // SAFETY: the masked index is below the size that `part` checked; a cell may be shared with whoever writes.
        unsafe { self.entries.add((index & self.mask) as usize).as_ref() }
    }
}

/// Where `count` values of type `P` begin, if they lie inside the mapping.
fn part<P>(mapping: &Mapping, offset: usize, count: usize) -> Result<NonNull<P>, BadLayout> {
    let bytes = size_of::<P>().checked_mul(count).ok_or(BadLayout)?;
    let end = offset.checked_add(bytes).ok_or(BadLayout)?;
    if end > mapping.len() || !offset.is_multiple_of(align_of::<P>()) {
        return Err(BadLayout);
    }
    // JUSTIFICATION: offsets come from the kernel in bytes.
    // SAFETY: `offset` is inside the mapping.
    Ok(unsafe { mapping.start().add(offset) }.cast())
}

/// The side that fills entries: rings `fill` and `tx`.
#[derive(Debug)]
pub(crate) struct Producer<T> {
    shared: Shared<T>,
    /// Next entry to write; ahead of the shared index by what is not published yet.
    next: u32,
    /// The kernel's index as last read.
    consumed: u32,
}

impl<T: Entry> Producer<T> {
    pub(crate) fn new(mapping: Arc<Mapping>, at: Offsets, size: u32) -> Result<Self, BadLayout> {
        let shared = Shared::new(mapping, at, size)?;
        let next = shared.producer().load(Ordering::Relaxed);
        let consumed = shared.consumer().load(Ordering::Acquire);
        Ok(Self {
            shared,
            next,
            consumed,
        })
    }

    /// Writes an entry, or returns it when the ring is full. The kernel sees it after [`publish`](Self::publish).
    pub(crate) fn push(&mut self, value: T) -> Result<(), T> {
        if self.next.wrapping_sub(self.consumed) > self.shared.mask {
            self.consumed = self.shared.consumer().load(Ordering::Acquire);
            if self.next.wrapping_sub(self.consumed) > self.shared.mask {
                return Err(value);
            }
        }
        let entry = self.shared.entry(self.next);
        // JUSTIFICATION: who may touch an entry is said by the indices, which no type knows.
        // SAFETY: the entry lies between our index and the kernel's, so only we touch it.
        entry.with_mut(|place| unsafe { place.write(value) });
        self.next = self.next.wrapping_add(1);
        Ok(())
    }

    /// Hands all written entries to the kernel.
    pub(crate) fn publish(&mut self) {
        self.shared.producer().store(self.next, Ordering::Release);
    }

    /// Published entries that the kernel has not taken yet.
    pub(crate) fn pending(&self) -> u32 {
        let published = self.shared.producer().load(Ordering::Relaxed);
        published.wrapping_sub(self.shared.consumer().load(Ordering::Acquire))
    }

    /// Whether the kernel sleeps and must be called to see what was published.
    ///
    /// The kernel sets the flag and then looks at the ring a last time; we publish and then look at the flag. Each is a
    /// store before a load of another word, which processors swap, x86-64 too. So that not both miss the
    /// other's store there is a full barrier here, of a cost that is lost in that of a call; the kernel has its own.
    pub(crate) fn needs_wakeup(&self) -> bool {
        fence(Ordering::SeqCst);
        self.shared.needs_wakeup()
    }
}

/// The side that takes entries: rings `rx` and `completion`.
#[derive(Debug)]
pub(crate) struct Consumer<T> {
    shared: Shared<T>,
    /// Next entry to read; ahead of the shared index by what is not released yet.
    next: u32,
    /// The kernel's index as last read.
    produced: u32,
}

impl<T: Entry> Consumer<T> {
    pub(crate) fn new(mapping: Arc<Mapping>, at: Offsets, size: u32) -> Result<Self, BadLayout> {
        let shared = Shared::new(mapping, at, size)?;
        let next = shared.consumer().load(Ordering::Relaxed);
        let produced = shared.producer().load(Ordering::Acquire);
        Ok(Self {
            shared,
            next,
            produced,
        })
    }

    /// Takes the next entry. Its place stays ours until [`release`](Self::release).
    pub(crate) fn pop(&mut self) -> Option<T> {
        if self.next == self.produced {
            self.produced = self.shared.producer().load(Ordering::Acquire);
            if self.next == self.produced {
                return None;
            }
        }
        let entry = self.shared.entry(self.next);
        // JUSTIFICATION: as in `Producer::push`.
        // SAFETY: the kernel published the entry and does not touch it before we release it.
        let value = entry.with(|place| unsafe { place.read() });
        self.next = self.next.wrapping_add(1);
        Some(value)
    }

    /// The entry that is taken after `ahead` others, if it is there.
    pub(crate) fn peek(&mut self, ahead: u32) -> Option<T> {
        if self.produced.wrapping_sub(self.next) <= ahead {
            self.produced = self.shared.producer().load(Ordering::Acquire);
            if self.produced.wrapping_sub(self.next) <= ahead {
                return None;
            }
        }
        let entry = self.shared.entry(self.next.wrapping_add(ahead));
        // JUSTIFICATION: as in `Producer::push`.
        // SAFETY: as in `pop`; that nobody has taken it yet changes nothing.
        Some(entry.with(|place| unsafe { place.read() }))
    }

    /// Entries that were not taken yet.
    pub(crate) fn waiting(&mut self) -> u32 {
        self.produced = self.shared.producer().load(Ordering::Acquire);
        self.produced.wrapping_sub(self.next)
    }

    /// Gives the places of all taken entries back to the kernel.
    pub(crate) fn release(&mut self) {
        self.shared.consumer().store(self.next, Ordering::Release);
    }
}

#[cfg(test)]
#[cfg(loom)]
mod model;

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    const SIZE: u32 = 4;
    const AT: Offsets = Offsets {
        producer: 0,
        consumer: 64,
        flags: 128,
        entries: 192,
    };

    /// Both sides over the same plain memory, with both indices at `start`.
    fn ring(start: u32) -> (Producer<u64>, Consumer<u64>) {
        let mapping = Arc::new(Mapping::anonymous(4096).unwrap());
        // SAFETY: aligned, inside the mapping, and not shared with anyone yet.
        unsafe {
            mapping.start().add(AT.producer).cast::<u32>().write(start);
            mapping.start().add(AT.consumer).cast::<u32>().write(start);
        }
        let consumer = Consumer::new(Arc::clone(&mapping), AT, SIZE).unwrap();
        (Producer::new(mapping, AT, SIZE).unwrap(), consumer)
    }

    #[test]
    fn a_look_ahead_takes_nothing_and_ends_at_what_was_published() {
        for start in [0, u32::MAX - 1] {
            let (mut producer, mut consumer) = ring(start);
            (0..3).for_each(|value| producer.push(value).unwrap());
            assert_eq!(consumer.peek(0), None, "from {start}");
            producer.publish();
            assert_eq!([2, 3].map(|ahead| consumer.peek(ahead)), [Some(2), None]);
            assert_eq!(consumer.pop(), Some(0));
            assert_eq!(
                [0, 1, 2].map(|ahead| consumer.peek(ahead)),
                [Some(1), Some(2), None]
            );
        }
    }

    fn check_order_from(start: u32) {
        let (mut producer, mut consumer) = ring(start);
        let mut expected = 0;
        for value in 0..100 {
            producer.push(value).unwrap();
            producer.publish();
            if value % 3 == 2 {
                while let Some(got) = consumer.pop() {
                    assert_eq!(got, expected, "from {start}");
                    expected += 1;
                }
                consumer.release();
            }
        }
        assert_eq!(expected, 99, "from {start}");
        assert_eq!(producer.pending(), 1, "from {start}");
    }

    #[test]
    fn keeps_order_across_the_wrap_of_the_indices() {
        for start in [0, 1, u32::MAX - 50, u32::MAX - 1, u32::MAX] {
            check_order_from(start);
        }
    }

    #[test]
    fn full_ring_returns_the_entry_until_one_is_released() {
        for start in [0, u32::MAX - 1] {
            let (mut producer, mut consumer) = ring(start);
            for value in 0..u64::from(SIZE) {
                assert_eq!(producer.push(value), Ok(()));
            }
            assert_eq!(producer.push(99), Err(99));
            producer.publish();
            assert_eq!(consumer.pop(), Some(0));
            assert_eq!(
                producer.push(99),
                Err(99),
                "a taken entry is not yet released"
            );
            consumer.release();
            assert_eq!(producer.push(4), Ok(()));
            assert_eq!(producer.push(5), Err(5));
        }
    }

    #[test]
    fn entries_are_invisible_until_published() {
        let (mut producer, mut consumer) = ring(u32::MAX);
        producer.push(7).unwrap();
        assert_eq!(producer.pending(), 0);
        assert_eq!(consumer.pop(), None);
        producer.publish();
        assert_eq!(producer.pending(), 1);
        assert_eq!(consumer.pop(), Some(7));
        assert_eq!(consumer.pop(), None);
    }

    #[test]
    fn refuses_layouts_outside_the_mapping() {
        let check = |at: Offsets, size: u32| {
            let mapping = Arc::new(Mapping::anonymous(4096).unwrap());
            assert!(
                Producer::<u64>::new(mapping, at, size).is_err(),
                "{at:?} {size}"
            );
        };
        check(AT, 3);
        check(AT, 1024);
        check(
            Offsets {
                producer: 4096,
                ..AT
            },
            SIZE,
        );
        check(Offsets { entries: 193, ..AT }, SIZE);
        check(
            Offsets {
                flags: usize::MAX - 3,
                ..AT
            },
            SIZE,
        );
    }

    #[test]
    fn wakeup_flag_is_read_from_the_ring() {
        let (producer, _consumer) = ring(0);
        assert!(!producer.needs_wakeup());
        // SAFETY: aligned and inside the mapping that `producer` keeps.
        unsafe { producer.shared.flags.as_ref() }
            .store(libc::XDP_RING_NEED_WAKEUP, Ordering::Relaxed);
        assert!(producer.needs_wakeup());
    }
}
