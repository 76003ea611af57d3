//! What is measured of a process's memory, seen on this one: a test by itself, because others would allocate beside it.

use lb_tests::resident::Before;

#[test]
fn a_peak_counts_although_it_is_over() {
    const PIECE: usize = 64 << 20;
    let before = Before::look(std::process::id()).unwrap();
    drop(vec![1_u8; PIECE]);
    let growth = before.growth().unwrap();
    assert!(growth.peak >= (PIECE >> 11) as u64, "{growth}");
}
