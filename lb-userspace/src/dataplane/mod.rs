//! The kernel side as userspace sees it: load the XDP object, attach it, write its maps, read its
//! counters. The only module that names aya.
//!
//! Invariant: a map never shows the program a half-made thing. A Maglev ring is written into the
//! half that its service does not use, and becomes live by one update of the service's entry.
//! Not here: what should be in the maps (`control` decides), and the clock (`control` ticks).

mod load;
mod maps;
mod neighbour;

use aya::Ebpf;
use aya::programs::xdp::XdpLinkId;

pub use load::{LoadError, Sizing};
pub use maps::{MapAccessError, ReasonCount};
pub(crate) use neighbour::{NextHop, NoNextHop, Resolver};

/// The loaded program with its maps and attachments. Dropping it detaches the program from every
/// interface: packets then go to the stack as if `lb` had never run.
pub struct Dataplane {
    maps: maps::Maps,
    links: Vec<(String, XdpLinkId)>,
    // Last field: the maps above are taken out of it, the program and its links are inside.
    ebpf: Ebpf,
}
