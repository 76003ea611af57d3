//! bpf-linker, built from source into the work tree with the LLVM of Debian's BPF compiler.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::command::{self, find, probe};
use crate::workspace;

/// The version whose LLVM range covers both compiler routes.
pub(super) const VERSION: &str = "0.13.0";

/// Debian's LLVM 22, which is the major version of both compilers.
const LLVM: &str = "/usr/lib/llvm-22";

/// Whether a linker of the right version is found.
pub(super) fn is_usable() -> bool {
    let version = find("bpf-linker").and_then(|path| probe(Command::new(path).arg("--version")));
    version.is_some_and(|version| version.split_whitespace().last() == Some(VERSION))
}

/// Whether the libraries to build it with are there.
pub(super) fn has_llvm() -> bool {
    ["bin/llvm-config", "lib/libPolly.a"]
        .iter()
        .all(|file| Path::new(LLVM).join(file).exists())
        && find("c++").is_some()
}

/// Builds it, which takes about a minute.
///
/// # Errors
/// The build failed, or crates could not be fetched.
pub(super) fn install() -> Result<()> {
    let mut install = command::cargo();
    install
        .args(["install", "bpf-linker", "--locked", "--version", VERSION])
        .args(["--no-default-features", "--features", "llvm-22", "--root"])
        .arg(workspace::tools())
        .env("LLVM_PREFIX", LLVM)
        .env(
            "PATH",
            command::path_with(Some(&Path::new(LLVM).join("bin")))?,
        );
    command::run(&mut install)
}
