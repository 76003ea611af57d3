//! Replays every input that fuzzing has found worth keeping, failures above all, and the bytes that it starts from.
//!
//! To keep a failure, put its file into `fuzz/corpus/<target>/` under a name that says what was wrong.

use lb_ebpf::fixtures::hostile;
use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

fn replay(target: &str, check: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let files = fs::read_dir(corpus.join(target)).expect("each target has a corpus");
    let mut count = 0;
    for file in files {
        let path = file.expect("its files can be listed").path();
        let bytes = fs::read(&path).expect("its files can be read");
        assert!(catch_unwind(|| check(&bytes)).is_ok(), "{}", path.display());
        count += 1;
    }
    assert!(count > 0, "the corpus of {target} is empty");
}

#[test]
fn frames() {
    replay("decide", hostile::frame);
}

#[test]
fn sequences() {
    replay("sequence", hostile::sequence);
}
