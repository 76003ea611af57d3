//! The flow table in userspace's address space, for sweeping and listing without a syscall per entry.
//!
//! The map is created with `BPF_F_MMAPABLE` (kernel 5.5). What is mapped is shared with every CPU that
//! runs the program; [`FlowEntry`](crate::flow::FlowEntry) is made for that. Called by `lb-userspace`.
#![expect(
    unsafe_code,
    reason = "mapping memory and seeing it as flow sets has no safe form"
)]

use crate::flow::{FlowSet, Sets};
use std::io;
use std::ops::Deref;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{NonNull, null_mut};
use std::slice;

/// All sets of map `FLOWS`, as a slice.
#[derive(Debug)]
pub struct MappedFlows {
    start: NonNull<FlowSet>,
    sets: usize,
}

// SAFETY: the memory is the kernel's, not this thread's, and flow sets are made of atomics.
unsafe impl Send for MappedFlows {}
// SAFETY: as above.
unsafe impl Sync for MappedFlows {}

impl MappedFlows {
    /// Maps `sets` elements of the map behind `map`, which may be closed afterwards.
    ///
    /// Fails as mmap(2) does; with `EINVAL` also if `sets` is zero or more than the map has.
    pub fn new(map: BorrowedFd<'_>, sets: u32) -> io::Result<Self> {
        let sets = sets as usize;
        // SAFETY: asks for a new mapping at an address of the kernel's choice; it clashes with nothing.
        let start = unsafe {
            libc::mmap(
                null_mut(),
                sets * size_of::<FlowSet>(),
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
        Ok(Self { start, sets })
    }
}

impl Deref for MappedFlows {
    type Target = [FlowSet];

    fn deref(&self) -> &[FlowSet] {
        // SAFETY: the mapping holds `sets` sets, on a page and so aligned, until it is dropped. Any
        // bytes are a valid set, and what changes under the slice is atomics.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.sets) }
    }
}

impl Sets for MappedFlows {
    fn flow_set(&self, index: u32) -> Option<&FlowSet> {
        self.get(index as usize)
    }
}

impl Drop for MappedFlows {
    fn drop(&mut self) {
        // SAFETY: exactly what `new` mapped; no borrow of it outlives `self`. It cannot fail for a
        // mapping that exists.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.sets * size_of::<FlowSet>()) };
    }
}
