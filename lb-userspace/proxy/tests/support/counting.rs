//! An allocator that counts what each thread has, so that a test can tell the proxy's bytes from those of its clients.
//!
//! Included by path where it is wanted, for it is the allocator of the whole program. Counted are the bytes asked for, and
//! not what the allocator adds: the same in every run.

#![expect(unsafe_code, reason = "an allocator is")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

/// Bytes that this thread has allocated, less those that it has freed.
pub(crate) fn live() -> isize {
    LIVE.get()
}

fn count(bytes: isize) {
    LIVE.set(LIVE.get() + bytes);
}

/// A layout's size is at most `isize::MAX`.
fn size(layout: Layout) -> isize {
    layout.size().cast_signed()
}

// SAFETY: all is passed on to the system's allocator as it comes, which keeps the contract; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(size(layout));
        // SAFETY: the caller's promises are those that are asked for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-size(layout));
        // SAFETY: as above; `at` came from `alloc`.
        unsafe { System.dealloc(at, layout) }
    }
}
