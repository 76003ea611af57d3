//! What the rings use to share memory: `std`'s types, or with `--cfg loom` those of the model checker.
//!
//! Invariant: without loom each type has size, alignment and bits of the integer or entry in it, so that a pointer into
//! ring memory can be taken for one. This is the only seam: all of `ring` is the same code in a model and in the
//! product (`ring/model.rs`).

#[cfg(loom)]
pub(crate) use loom::cell::UnsafeCell;
#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, Ordering, fence};
#[cfg(not(loom))]
pub(crate) use plain::UnsafeCell;
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU32, Ordering, fence};

#[cfg(not(loom))]
mod plain {
    use std::cell;

    /// `std`'s cell with the methods of loom's, which sees by them when an access begins and ends.
    #[repr(transparent)]
    #[derive(Debug)]
    pub(crate) struct UnsafeCell<T>(cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(crate) fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
            read(self.0.get())
        }

        pub(crate) fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
            write(self.0.get())
        }
    }
}
