//! Embeds the XDP object that `cargo xtask build-ebpf` made.
//!
//! `LB_XDP_OBJECT` names it. Without the variable an empty file is embedded, so that a plain
//! `cargo build` or `cargo clippy` needs no BPF toolchain; such a binary says at start what to do.

use std::path::PathBuf;
use std::{env, fs};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-env-changed=LB_XDP_OBJECT");
    let embedded = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?).join("lb-xdp");
    match env::var_os("LB_XDP_OBJECT") {
        Some(object) => {
            let object = PathBuf::from(object);
            println!("cargo::rerun-if-changed={}", object.display());
            fs::copy(&object, &embedded)
                .map_err(|error| format!("LB_XDP_OBJECT={}: {error}", object.display()))?;
        }
        None => fs::write(&embedded, [])?,
    }
    Ok(())
}
