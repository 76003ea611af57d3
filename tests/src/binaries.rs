//! Where the programs are that tests, demo and benchmarks start.
//!
//! Invariant: an answer exists on disk; the error says how to build what is missing.

use std::{env, path::PathBuf};

use anyhow::{Context as _, Result, ensure};

/// The load balancer: `LB_BIN`, or `lb` beside the running program.
pub fn lb() -> Result<PathBuf> {
    if let Some(path) = env::var_os("LB_BIN") {
        return existing(
            path.into(),
            "LB_BIN names no file; unset it or build what it names",
        );
    }
    existing(
        build_directory()?.join("lb"),
        "run `cargo xtask test`, or build lb-userspace and set LB_BIN",
    )
}

/// A program of this package, by its name, beside the running program.
pub fn sibling(name: &str) -> Result<PathBuf> {
    existing(
        build_directory()?.join(name),
        "run `cargo build -p lb-tests`",
    )
}

/// A Python with the packages of `tests/python/requirements.txt`: `LB_PYTHON`, or the one that
/// `cargo xtask setup` makes in the target directory.
pub fn python() -> Result<PathBuf> {
    if let Some(path) = env::var_os("LB_PYTHON") {
        return existing(
            path.into(),
            "LB_PYTHON names no file; unset it or name a Python",
        );
    }
    let profile = build_directory()?;
    let target = profile
        .parent()
        .context("no target directory above the program")?;
    existing(
        target.join("venv/bin/python"),
        "run `cargo xtask setup`, or set LB_PYTHON",
    )
}

/// Directory of the build profile: tests run one level below it, in `deps`.
fn build_directory() -> Result<PathBuf> {
    let program = env::current_exe().context("asking for the path of this program")?;
    let mut directory = program.parent().context("this program has no directory")?;
    if directory.ends_with("deps") {
        directory = directory.parent().context("`deps` has no parent")?;
    }
    Ok(directory.to_owned())
}

fn existing(path: PathBuf, advice: &str) -> Result<PathBuf> {
    ensure!(path.is_file(), "{} doesn't exist: {advice}", path.display());
    Ok(path)
}
