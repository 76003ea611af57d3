//! What a stranger may send: bytes at random from fixed seeds, and every input that fuzzing has found worth keeping.
//!
//! To keep a failure, put its file into `lb-ebpf/fuzz/corpus/<target>/` under a name that says what was wrong.

mod connection;
mod endpoint;

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

fn replay(target: &str, run: fn(&[u8])) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let corpus = root.join("../../lb-ebpf/fuzz/corpus").join(target);
    let files = fs::read_dir(corpus).expect("each target has a corpus");
    let mut count = 0;
    for file in files {
        let path = file.expect("its files can be listed").path();
        let bytes = fs::read(&path).expect("its files can be read");
        assert!(catch_unwind(|| run(&bytes)).is_ok(), "{}", path.display());
        count += 1;
    }
    assert!(count > 0, "the corpus of {target} is empty");
}

#[test]
fn kept_inputs_of_connections() {
    replay("tcp-connection", connection::run);
}

#[test]
fn kept_inputs_of_endpoints() {
    replay("tcp-endpoint", endpoint::run);
}

/// Bytes that look random (`SplitMix64`).
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let words = std::iter::repeat_with(|| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ (word >> 31)).to_le_bytes()
    });
    words.flatten().take(len).collect()
}

fn noisy(run: fn(&[u8])) {
    for seed in 0..3000 {
        let bytes = noise(seed, 1500);
        assert!(catch_unwind(|| run(&bytes)).is_ok(), "seed {seed}");
    }
}

#[test]
fn noise_to_connections() {
    noisy(connection::run);
}

#[test]
fn noise_to_endpoints() {
    noisy(endpoint::run);
}
