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
//!
//! What can't be carried over, and why:
//!
//! | what | why | what it costs |
//! |---|---|---|
//! | TS.Recent | no option sets it | segments are taken without PAWS until the first one with a timestamp |
//! | when bytes in flight left | repaired segments have no time | their acknowledgements give a round trip by timestamps only |
//! | what the peer sacked | the kernel learns it from the peer's next acknowledgement | nothing |
//! | ECN | no option; `lb-tcp` doesn't negotiate it | nothing |
//! | a FIN of ours or of the peer's in order | repair makes ESTABLISHED only | such a connection has no snapshot |
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
