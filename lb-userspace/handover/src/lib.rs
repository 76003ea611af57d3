//! The way of a connection from the TCP of `lb-tcp` to a socket of the kernel, in the middle of it, unnoticed by the peer.
//!
//! ```text
//!  Snapshot ─▶ plan ─▶ Repaired ── (the owner turns the packets of the tuple to the stack) ─▶ release ─▶ TcpStream + unsent bytes
//!                                     ▲
//!  packets that came the old way ─▶ Reinjector
//! ```
//!
//! * [`Repaired`] is a socket in the kernel's repair mode (`TCP_REPAIR`, made for migration of processes) that has been told all of a
//!   [`Snapshot`](lb_tcp::Snapshot). Nothing has left for it, and nothing does if it is dropped: then the connection is where it was.
//! * [`Reinjector`] gives packets that were received on the old way to the kernel, as if they had been received by it.
//! * [`selftest`] finds out whether the host lets such a connection live.
//!
//! What a socket can't be told by any option, and what becomes of it:
//!
//! | what | how | otherwise |
//! |---|---|---|
//! | received behind gaps | re-injected ([`out_of_order`]) | the peer, told that it is here, would wait for a timeout |
//! | received, not read | stays with whoever moves the connection | |
//! | round trip, congestion window, TS.Recent | told by the peer's last acknowledgement, re-injected ([`Repaired::with_history`]) | without timestamps the peer acknowledges an octet again, which tells the round trip (RFC 9293 §3.8.4: a garbage octet), and ten segments at first. If that comes together with an acknowledgement of what was in flight it tells nothing, and the timeout is 3 s until new data is acknowledged |
//! | a congestion window below ten segments | not at all | up to ten segments leave at once |
//! | slow start threshold, state of the congestion control | not at all | slow start from the window that is known; cubic anew |
//! | when bytes in flight left | not at all | their acknowledgements give a round trip by timestamps only |
//! | what the peer sacked | the peer's next acknowledgement says it again | |
//! | ECN | not at all; `lb-tcp` doesn't negotiate it | |
//! | a FIN of either side, in order | not at all: repair makes ESTABLISHED only | such a connection has no snapshot, and stays |
//! | a link-local IPv6 peer | not at all: its zone isn't in a packet | `connect` fails, the connection stays |
//!
//! A sockops program (BPF) could set the window too (`TCP_BPF_IW` when the socket is established, which repair's `connect` counts as), and even the
//! threshold; but it needs a cgroup of the daemon's own and runs for every socket in it, and knows no round trip. What TCP itself can be
//! told needs neither.
//!
//! Deliberately not here: the order of the whole cut, which connection is moved and when (`lb-transport`); who turns packets to the stack
//! (`lb-userspace`).

mod error;
mod history;
mod plan;
mod reinject;
mod repaired;
mod segments;
pub mod selftest;
mod sys;
#[cfg(test)]
mod tests;

pub use error::{MoveError, Step};
pub use plan::{Keepalive, Options};
pub use reinject::Reinjector;
pub use repaired::{Released, Repaired};
pub use segments::out_of_order;
