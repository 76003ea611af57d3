//! What holds for any flow of any mode: expected bytes are built from scratch, with sums over all of them, and compared
//! whole.
//!
//! Seeds are fixed, so that a run tells the same twice; `cargo xtask fuzz` is for what nobody has thought of.

#[path = "properties/hashing.rs"]
mod hashing;
#[path = "properties/rewriting.rs"]
mod rewriting;

use proptest::test_runner::{Config, RngSeed};

fn config(cases: u32) -> Config {
    Config {
        cases,
        rng_seed: RngSeed::Fixed(0x006c_6200),
        // Nothing is written beside the sources: a failure is reproduced by running again.
        failure_persistence: None,
        ..Config::default()
    }
}
