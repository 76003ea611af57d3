//! The packet of an XDP program as a [`Packet`].
//!
//! Nothing here moves the ends of the packet; code that will (encapsulation) must take the frame by
//! `&mut`, so that no header outlives the move.
#![expect(
    unsafe_code,
    reason = "packet memory is two addresses in the context; the verifier checks the same bounds again"
)]

use aya_ebpf::programs::XdpContext;
use lb_ebpf::wire::{Header, Packet};

/// The bytes between `data` and `data_end`.
pub(super) struct Frame {
    start: usize,
    end: usize,
}

impl Frame {
    #[inline(always)]
    pub(super) fn of(context: &XdpContext) -> Self {
        // SAFETY: the kernel passes a valid `xdp_md`; volatile for the reason given in `ingress`.
        let (start, end) = unsafe {
            (
                (&raw const (*context.ctx).data).read_volatile(),
                (&raw const (*context.ctx).data_end).read_volatile(),
            )
        };
        Self {
            start: start as usize,
            end: end as usize,
        }
    }

    #[inline(always)]
    fn window<T>(&self, offset: usize) -> Option<*mut T> {
        let start = self.start + offset;
        (start + size_of::<T>() <= self.end).then_some(start as *mut T)
    }
}

impl Packet for Frame {
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
}
