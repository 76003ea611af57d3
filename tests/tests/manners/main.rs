//! The manners of a good router, on a real kernel with real sockets.
//!
//! Needs root and an `lb` with the XDP program inside (`cargo xtask test` builds it).

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers as well"
)]

mod fragments;
mod icmp;
mod tags;
mod wire;
