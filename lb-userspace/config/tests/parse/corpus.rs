//! Replays what fuzzing has found, and what it starts from (`cargo xtask fuzz config`).

use std::fs;
use std::path::Path;

use lb_config::parse;

#[test]
fn the_corpus_is_taken_or_refused_with_a_reason() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../lb-ebpf/fuzz/corpus/config");
    let files = fs::read_dir(corpus).expect("the target has a corpus");
    let mut taken = 0;
    for file in files {
        let path = file.expect("its files can be listed").path();
        let bytes = fs::read(&path).expect("its files can be read");
        match str::from_utf8(&bytes).map(parse) {
            Ok(Ok(_)) => taken += 1,
            Ok(Err(errors)) => assert_ne!(errors.to_string(), "", "{}", path.display()),
            // libFuzzer gives the target no such text.
            Err(_) => {}
        }
    }
    assert!(taken > 0, "a corpus of mistakes only");
}
