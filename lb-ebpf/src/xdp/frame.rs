//! The packet of an XDP program as a [`Packet`].
//!
//! What moves the ends of the packet takes the frame by `&mut`, so that no header outlives the move.
#![expect(
    unsafe_code,
    reason = "packet memory is two addresses in the context; the verifier checks the same bounds again"
)]

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail, bpf_xdp_get_buff_len};
use aya_ebpf::programs::XdpContext;
use core::marker::PhantomData;
use lb_ebpf::opaque::opaque;
use lb_ebpf::wire::{Header, Packet};

/// What LLVM may know of the offsets at which a program looks.
pub(super) trait Offsets {
    /// The offset as it is to be used.
    fn of(offset: usize) -> usize;
}

/// All of them are constants, and so are LLVM's conclusions.
pub(super) enum Constant {}

/// They depend on the packet.
pub(super) enum Variable {}

impl Offsets for Constant {
    #[inline(always)]
    fn of(offset: usize) -> usize {
        offset
    }
}

impl Offsets for Variable {
    #[inline(always)]
    fn of(offset: usize) -> usize {
        opaque(offset)
    }
}

/// The bytes between `data` and `data_end`.
pub(super) struct Frame<O> {
    context: *mut xdp_md,
    start: usize,
    end: usize,
    offsets: PhantomData<O>,
}

impl<O: Offsets> Frame<O> {
    #[inline(always)]
    pub(super) fn of(context: &XdpContext) -> Self {
        Self::between(context.ctx)
    }

    /// The bytes that the context names now: each move of an end makes all earlier pointers invalid.
    #[inline(always)]
    fn between(context: *mut xdp_md) -> Self {
        // SAFETY: the kernel passes a valid `xdp_md`; volatile for the reason given in `ingress`.
        let (start, end) = unsafe {
            (
                (&raw const (*context).data).read_volatile(),
                (&raw const (*context).data_end).read_volatile(),
            )
        };
        Self {
            context,
            start: start as usize,
            end: end as usize,
            offsets: PhantomData,
        }
    }

    #[inline(always)]
    fn window<T>(&self, offset: usize) -> Option<*mut T> {
        let start = self.start + O::of(offset);
        (start + size_of::<T>() <= self.end).then_some(start as *mut T)
    }
}

impl<O: Offsets> Packet for Frame<O> {
    #[inline(always)]
    fn len(&self) -> usize {
        self.end - self.start
    }

    #[inline(always)]
    fn header<T: Header>(&self, offset: usize) -> Option<&T> {
        // SAFETY: `window` has checked that all of `T` lies inside the packet, which only this run of
        // the program touches; `Header` promises alignment 1 and that any bytes are a value.
        self.window(offset).map(|header| unsafe { &*header })
    }

    #[inline(always)]
    fn header_mut<T: Header>(&mut self, offset: usize) -> Option<&mut T> {
        // SAFETY: as in `header`, and the borrow of the frame is exclusive.
        self.window(offset).map(|header| unsafe { &mut *header })
    }

    #[inline(always)]
    fn whole_len(&self) -> usize {
        // SAFETY: the context is that of this run.
        let len = unsafe { bpf_xdp_get_buff_len(self.context) };
        usize::try_from(len).unwrap_or(usize::MAX)
    }

    #[inline(always)]
    fn move_front(&mut self, bytes: i32) -> Option<()> {
        // SAFETY: the context is that of this run; the exclusive borrow says that nobody holds a header.
        let refused = unsafe { bpf_xdp_adjust_head(self.context, bytes) };
        *self = Self::between(self.context);
        (refused == 0).then_some(())
    }

    #[inline(always)]
    fn truncate(&mut self, len: usize) -> Option<()> {
        let longer = i32::try_from(self.len().checked_sub(len)?).ok()?;
        // SAFETY: as in `move_front`.
        let refused = unsafe { bpf_xdp_adjust_tail(self.context, -longer) };
        *self = Self::between(self.context);
        (refused == 0).then_some(())
    }
}
