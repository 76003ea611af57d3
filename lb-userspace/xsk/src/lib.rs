//! `AF_XDP` sockets: frames of one network queue, received and sent without the kernel's TCP/IP.
//!
//! One [`Socket`] serves one rx queue of one interface. It owns its frame memory (UMEM) and the four
//! rings that it shares with the kernel:
//!
//! ```text
//!            fill ──▶ kernel ──▶ rx      rx frames: in `fill`, in the kernel, in `rx`, one [`Packet`], or spare
//!              tx ──▶ kernel ──▶ completion     tx frames: free, one [`Slot`], in `tx`, or in the kernel
//! ```
//!
//! **Invariant.** The frame memory is cut in two parts once: rx frames circulate on the upper line,
//! tx frames on the lower one, and each ring has as many entries as its line has frames. So no ring
//! can overflow, no frame can be lost or be in two places, and a flood of received packets can't take
//! the frames that the answers need. Borrowing says the rest: a [`Packet`] or a [`Slot`] borrows the
//! half that it came from, and goes back to it when dropped.
//!
//! **Why our own module (justification).** Of the crates that do this one is copyleft, one needs a C
//! build, and the others can't read the need-wakeup flags, can't kick again without new packets, or
//! add ring counters without wrapping. The kernel's interface (`linux/if_xdp.h`) is small and stable, and
//! all unsafe code of the L7 path is in this package: `mapping`, `ring`, `sys`, and the views of frames in `receive` and `transmit`.
//!
//! Deliberately not here: loading XDP programs, filling the `XSKMAP` (the caller inserts
//! [`AsFd`](std::os::fd::AsFd)), protocol parsing, fragments of large packets (`XDP_USE_SG`), TX metadata, busy polling,
//! waiting. Used by `lb-transport`; bound by `lb-userspace`.

mod error;
mod gso;
mod interface;
mod mapping;
mod receive;
mod ring;
mod socket;
mod sync;
mod sys;
mod transmit;

pub use error::{Error, RingSizeError};
pub use gso::Cut;
pub use interface::{interface_index, queue_count, strips_tags};
pub use receive::{Packet, Receiver};
pub use socket::{
    BindMode, DataPath, Flushed, RingSize, Socket, SocketConfig, Statistics, StatisticsReader,
};
pub use transmit::{Slot, Transmitter};

/// Bytes of one frame. A packet of MTU 1500 with its Ethernet header and a VLAN tag fits behind the 256
/// bytes of headroom that the kernel keeps for XDP programs.
pub const FRAME_SIZE: usize = CHUNK_SIZE as usize;

/// [`FRAME_SIZE`] in the kernel's type.
const CHUNK_SIZE: u32 = 2048;
