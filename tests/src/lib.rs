//! What the tests of `lb` on a real kernel stand on: a lab of network namespaces, a simulated Exchange
//! pool to put behind the load balancer, and the glue that starts both.
//!
//! Invariant: nothing here links to or imitates the load balancer, except `bench_l4`, which runs its XDP program. The
//! pool is written to what is known of Exchange and IIS, so a mistake in our proxy can't be repeated in its test.
//! Used by the binaries `lb-lab` and `lb-pool`, by `tests/tests/*.rs`, by the demo and the benchmarks.

pub mod address;
pub mod bench;
pub mod bench_l4;
pub mod binaries;
pub mod certs;
pub mod client;
pub mod demo;
pub mod forwarding;
pub mod guard;
pub mod lab;
pub mod pool;
pub mod preflight;
pub mod stages;
pub mod vm;
pub mod witness;
pub mod world;
