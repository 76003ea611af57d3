//! Where things are in the work tree. Every path that a command reads or writes is named here.

use std::env;
use std::path::{Path, PathBuf};

/// The directory of the root `Cargo.toml`.
pub(crate) fn root() -> &'static Path {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask)
}

/// Cargo's target directory, which also holds everything that `setup` makes outside of apt.
pub(crate) fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// Where `cargo install` puts tools for this work tree, so that a user's own are left alone.
pub(crate) fn tools() -> PathBuf {
    target().join("tools")
}

/// The Python environment of the tests' clients.
pub(crate) fn venv() -> PathBuf {
    target().join("venv")
}

/// The target directory of the BPF build: its compiler may differ from the host's, and two
/// compilers in one directory would rebuild each other's output.
pub(crate) fn bpf_target() -> PathBuf {
    target().join("bpf")
}

/// The target directory of the fuzz targets: everything in it is built with coverage.
pub(crate) fn fuzz_target() -> PathBuf {
    target().join("fuzz")
}

/// The XDP object that `build-ebpf` makes.
pub(crate) fn xdp_object() -> PathBuf {
    bpf_target().join("bpfel-unknown-none/bpf/lb-xdp")
}
