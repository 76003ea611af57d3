//! What the tests of `lb` on a real kernel stand on: a lab of network namespaces, a simulated Exchange
//! pool to put behind the load balancer, and the glue that starts both.
//!
//! Invariant: nothing here imitates the load balancer, and what tests all of it (pool, clients) links nothing of it: the
//! pool is written to what is known of Exchange and IIS, so a mistake in our proxy can't be repeated in its test. Parts
//! are run alone by `bench_l4` (the XDP program) and by `front`, `tcp_server`, `bench_tcp` and `moves` (the transport).
//! Used by the binaries `lb-lab` and `lb-pool`, by `tests/tests/*.rs`, by the demo and the benchmarks.

pub mod address;
pub mod bench;
pub mod bench_handover;
pub mod bench_l4;
pub mod bench_tcp;
pub mod binaries;
pub mod certs;
pub mod client;
pub mod demo;
pub mod edge;
pub mod forwarding;
pub mod front;
pub mod guard;
pub mod heap;
pub mod lab;
pub mod lossy;
pub mod moves;
pub mod pool;
pub mod preflight;
pub mod resident;
pub mod soak;
pub mod stages;
pub mod stream;
pub mod tcp_client;
pub mod tcp_rush;
pub mod tcp_server;
pub mod upgrade;
pub mod vm;
pub mod witness;
pub mod world;
