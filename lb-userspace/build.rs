//! Embeds the XDP object that `cargo xtask build-ebpf` made.
//!
//! It is taken from where that command leaves it, or from `LB_XDP_OBJECT`. If there is none, an empty
//! file is embedded, so that a plain `cargo build` or `cargo clippy` needs no BPF toolchain; such a
//! binary says at start what to do. (Until the object exists, Cargo runs this script in each build: it
//! has no way to wait for a file to appear.)

use std::path::{Path, PathBuf};
use std::{env, fs};

/// Where `cargo xtask build-ebpf` leaves the object, seen from this package.
const BUILT: &str = "../target/bpf/bpfel-unknown-none/bpf/lb-xdp";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-env-changed=LB_XDP_OBJECT");
    let variable = |name| env::var_os(name).map(PathBuf::from);
    let embedded = variable("OUT_DIR")
        .ok_or("OUT_DIR is not set")?
        .join("lb-xdp");
    let package = variable("CARGO_MANIFEST_DIR").ok_or("CARGO_MANIFEST_DIR is not set")?;
    let named = variable("LB_XDP_OBJECT");
    let object = named.clone().unwrap_or_else(|| package.join(BUILT));
    println!("cargo::rerun-if-changed={}", object.display());
    if named.is_some() || Path::exists(&object) {
        fs::copy(&object, &embedded).map_err(|error| format!("{}: {error}", object.display()))?;
    } else {
        fs::write(&embedded, [])?;
    }
    Ok(())
}
