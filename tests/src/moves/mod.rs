//! Connections that move from our TCP to the kernel's in the midst of a transfer: is every byte there, and did nobody notice?
//!
//! Real parts only: the product's XDP program, its engine and its move, on both queues of the edge, and the kernel's TCP as
//! client. Each client says in its first bytes what to transfer and where in it to move (`request`).
//!
//! Invariants: every byte is looked at by whom it arrives at; what the kernels counted is compared with before; a seed makes the
//! same transfers. How they interleave is up to the machine.
//!
//! | module | job |
//! |---|---|
//! | `request` | what is asked |
//! | `client`, `server` | both ends |
//! | `run` | the lab, and a crowd of clients |
//! | `silence`, `counts` | what a client would notice |
//!
//! Called by `tests/tests/handover.rs` and the binary `lb-soak`. Not here: `lb` itself.

pub mod client;
mod counts;
pub mod request;
mod run;
mod server;
mod silence;

pub use self::{
    counts::Counts,
    run::{Conditions, Found, Plan, Running, Served, crowd, while_serving},
    server::Outcome,
};
