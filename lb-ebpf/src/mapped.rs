//! Maps in userspace's address space, for sweeping, listing and filling them without a syscall for
//! each element.
//!
//! For maps that are created with `BPF_F_MMAPABLE` (kernel 5.5). What is mapped is shared with every
//! CPU that runs the program, so elements are made of [`crate::cell`]s. Called by `lb-userspace`.
#![expect(
    unsafe_code,
    reason = "mapping memory and seeing it as elements has no safe form"
)]

use crate::abi::RING_SLOTS;
use crate::cell::Cell16;
use crate::family::{Family, V4};
use crate::flow::{FlowSet, Sets};
use std::io;
use std::marker::PhantomData;
use std::ops::Deref;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{NonNull, null_mut};
use std::slice;

/// An element of an array map, as it lies in memory.
///
/// # Safety
///
/// The type is made of cells alone, valid for any bytes, aligned to at most a page, and as large as the kernel's
/// stride: the size of the map's value, rounded up to eight bytes (`bpf_array::elem_size`).
pub unsafe trait Element {}

// SAFETY: cells only, for the family is sealed (layouts are asserted beside it); 256 bytes, or 512.
unsafe impl<F: Family> Element for FlowSet<F> {}

/// A slot of a ring: the number of a server.
#[repr(transparent)]
pub struct RingSlot(Cell16);

/// An element of map `RINGS`; a slice of them is one of slots (`as_flattened`).
pub type RingSlots = [RingSlot; RING_SLOTS as usize];

impl RingSlot {
    /// The server of the slot.
    pub fn load(&self) -> u32 {
        u32::from(self.0.load())
    }

    /// Names the server of the slot.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "servers have numbers of sixteen bits (asserted in `abi`)"
    )]
    pub fn store(&self, backend: u32) {
        self.0.store(backend as u16);
    }
}

const _: () = assert!(size_of::<RingSlots>() == 8);

// SAFETY: cells; eight bytes.
unsafe impl Element for RingSlots {}

/// Flow table of a loaded program.
pub type MappedFlows<F = V4> = Mapped<FlowSet<F>>;

/// Elements of a map, as a slice.
#[derive(Debug)]
pub struct Mapped<T: Element> {
    start: NonNull<T>,
    len: usize,
    elements: PhantomData<T>,
}

// SAFETY: the memory is the kernel's, not this thread's, and elements are made of atomics.
unsafe impl<T: Element> Send for Mapped<T> {}
// SAFETY: as above.
unsafe impl<T: Element> Sync for Mapped<T> {}

impl<T: Element> Mapped<T> {
    /// Maps the first `len` elements of the map behind `map`, which may be closed afterwards.
    ///
    /// Fails as mmap(2) does; with `EINVAL` also if `len` is zero or more than the map has.
    pub fn new(map: BorrowedFd<'_>, len: u32) -> io::Result<Self> {
        let len = len as usize;
        // SAFETY: asks for a new mapping at an address of the kernel's choice; it clashes with nothing.
        let start = unsafe {
            libc::mmap(
                null_mut(),
                len * size_of::<T>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self {
            start,
            len,
            elements: PhantomData,
        })
    }
}

impl<T: Element> Deref for Mapped<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the mapping holds `len` elements, on a page and so aligned, until it is dropped. Any
        // bytes are a valid element, and what changes under the slice is atomics.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<F: Family> Sets<F> for MappedFlows<F> {
    fn flow_set(&self, index: u32) -> Option<&FlowSet<F>> {
        self.get(index as usize)
    }
}

impl<T: Element> Drop for Mapped<T> {
    fn drop(&mut self) {
        // SAFETY: exactly what `new` mapped; no borrow of it outlives `self`. It cannot fail for a
        // mapping that exists.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len * size_of::<T>()) };
    }
}
