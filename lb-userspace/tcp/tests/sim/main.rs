//! Two ends and the link between them, simulated: whatever the link does, every byte arrives, in order, and then everything
//! is over.
//!
//! A run is decided by a fault and a seed, and nothing else: no clock, no thread, no random number of the machine. So a
//! failure names the command that repeats it, packet by packet:
//!
//! ```text
//! LB_SIM_SEED=4711 cargo test -p lb-tcp --test sim matrix::reorder -- --nocapture
//! ```
//!
//! `LB_SIM_SEEDS` says how many seeds there are for each fault, `LB_SIM_FIRST` which is the first one; `cargo xtask soak tcp`
//! runs others than those of every day, for as long as one likes.

#![expect(clippy::unwrap_used, reason = "a test that can't go on should stop")]

mod app;
mod fault;
mod host;
mod link;
mod matrix;
mod monitor;
mod ours;
mod packet;
mod rng;
mod scenario;
mod served;
mod smol;
mod talk;
mod world;
