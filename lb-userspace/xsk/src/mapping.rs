//! Owned memory mappings: frame memory and the rings of a socket.
//!
//! Invariant: `start` is page-aligned and valid for reads and writes of `len` bytes until drop, and no
//! Rust reference to the whole of it is ever made: the kernel writes there too.
#![expect(unsafe_code, reason = "mmap and munmap")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};

/// Memory that is unmapped on drop.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// JUSTIFICATION: a raw pointer makes the type `!Send`; sockets are made by one thread and used by another.
// SAFETY: a mapping belongs to the process, not to a thread.
unsafe impl Send for Mapping {}
// JUSTIFICATION: both halves of a socket hold the frame memory by `Arc`, which is `Send` only if this is `Sync`.
// SAFETY: a shared mapping only hands out raw pointers; whoever dereferences them argues for it.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Zeroed private memory, for frames and (in tests) for rings.
    pub(crate) fn anonymous(len: usize) -> io::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
        Self::map(len, flags, -1, 0)
    }

    /// A ring of a socket; `offset` is one of the `XDP_*PGOFF*` constants.
    pub(crate) fn ring(fd: BorrowedFd<'_>, len: usize, offset: libc::off_t) -> io::Result<Self> {
        let flags = libc::MAP_SHARED | libc::MAP_POPULATE;
        Self::map(len, flags, fd.as_raw_fd(), offset)
    }

    fn map(len: usize, flags: i32, fd: i32, offset: libc::off_t) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // JUSTIFICATION: `AF_XDP` has its rings and frames in mapped memory; nothing in `std` maps any.
        // SAFETY: no address is asked for, so no existing mapping is touched.
        let start = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, fd, offset) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(io::Error::last_os_error)?;
        Ok(Self { start, len })
    }

    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // JUSTIFICATION: what `mmap` gave, only `munmap` takes back.
        // SAFETY: exactly the range that `mmap` returned, and nothing borrows from it any more. A
        // failure would leave the memory mapped, which is safe.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}
