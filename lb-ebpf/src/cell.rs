//! Integers in memory that several CPUs and userspace touch at once.
//!
//! On the host these are the atomics of `core` with acquire loads and release stores. For BPF, whose
//! target declares neither atomic loads (`bpf-linker` cannot select them on cpu v3) nor compare-and-swap,
//! they are volatile accesses and the `cmpxchg_64` instruction. The JIT keeps volatile accesses in
//! program order, and x86-64 keeps loads in order with loads and stores with stores, which is all that
//! [`crate::flow`] relies on; a build for AArch64 needs the acquire and release instructions of cpu v4.
//!
//! With `--cfg loom`, the host's are those of the model checker, which tries every order that the memory model allows
//! (`tests/loom.rs`).
//!
//! Used by [`crate::flow`]; nothing else shares memory.
#![cfg_attr(
    target_arch = "bpf",
    expect(
        unsafe_code,
        reason = "volatile access and compare-and-swap on BPF have no safe form"
    )
)]

#[cfg(target_arch = "bpf")]
pub use bpf::{Cell8, Cell16, Cell32, Cell64};
#[cfg(not(target_arch = "bpf"))]
pub use host::{Cell8, Cell16, Cell32, Cell64};

#[cfg(target_arch = "bpf")]
mod bpf {
    use core::cell::UnsafeCell;

    macro_rules! cell {
        ($name:ident, $int:ty) => {
            /// An integer that other CPUs may change at any time.
            #[repr(transparent)]
            #[derive(Default)]
            pub struct $name(UnsafeCell<$int>);

            // SAFETY: every access below is one volatile load, store or compare-and-swap of a whole
            // aligned integer, which BPF's machines do not tear.
            unsafe impl Sync for $name {}

            impl $name {
                /// The value now; later loads of this program are not done earlier.
                #[inline(always)]
                pub fn load(&self) -> $int {
                    // SAFETY: the pointer is that of a live, aligned cell; see `Sync`.
                    unsafe { self.0.get().read_volatile() }
                }

                /// Stores `value`, after all earlier stores of this program.
                #[inline(always)]
                pub fn store(&self, value: $int) {
                    // SAFETY: as in `load`.
                    unsafe { self.0.get().write_volatile(value) }
                }
            }
        };
    }

    cell!(Cell8, u8);
    cell!(Cell16, u16);
    cell!(Cell32, u32);
    cell!(Cell64, u64);

    impl Cell64 {
        /// Stores `new` if the value is `current`; says whether it did.
        #[inline(always)]
        pub fn compare_exchange(&self, current: u64, new: u64) -> bool {
            let found: u64;
            // SAFETY: the instruction reads and writes the eight bytes of this cell and register r0,
            // both declared; it is fully ordered (kernel 5.12, BPF_CMPXCHG).
            unsafe {
                core::arch::asm!(
                    "r0 = cmpxchg_64({cell} + 0, r0, {new})",
                    cell = in(reg) self.0.get(),
                    new = in(reg) new,
                    inlateout("r0") current => found,
                );
            }
            found == current
        }
    }
}

#[cfg(not(target_arch = "bpf"))]
mod host {
    use core::sync::atomic::Ordering::{AcqRel, Acquire, Release};
    #[cfg(not(loom))]
    use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64};
    #[cfg(loom)]
    use loom::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64};

    macro_rules! cell {
        ($name:ident, $int:ty, $atomic:ty) => {
            /// An integer that other CPUs may change at any time.
            #[repr(transparent)]
            #[derive(Default)]
            pub struct $name($atomic);

            impl $name {
                /// The value now; later loads of this program are not done earlier.
                pub fn load(&self) -> $int {
                    self.0.load(Acquire)
                }

                /// Stores `value`, after all earlier stores of this program.
                pub fn store(&self, value: $int) {
                    self.0.store(value, Release);
                }
            }
        };
    }

    cell!(Cell8, u8, AtomicU8);
    cell!(Cell16, u16, AtomicU16);
    cell!(Cell32, u32, AtomicU32);
    cell!(Cell64, u64, AtomicU64);

    impl Cell64 {
        /// Stores `new` if the value is `current`; says whether it did.
        pub fn compare_exchange(&self, current: u64, new: u64) -> bool {
            self.0
                .compare_exchange(current, new, AcqRel, Acquire)
                .is_ok()
        }
    }
}
