//! `build-ebpf`: compile the XDP program, then refuse it unless it can be loaded.
//!
//! The flags are set here and only here. Flags from `.cargo/config.toml` would be replaced by a
//! `RUSTFLAGS` in the environment (the object then has no BTF), or given twice.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::toolchain::{Choice, Route};
use crate::{audit, command, workspace};

/// How to build the XDP object.
#[derive(Args)]
pub(crate) struct Options {
    /// Which compiler to take.
    #[arg(long, value_enum, default_value_t = Choice::Auto)]
    pub(crate) route: Choice,
}

/// Debug information becomes BTF line info, which is how the verifier names source lines.
/// BPF v3 (Linux 5.1; the object needs 5.12 for its compare-and-swap) has arithmetic of 32 bits and a jump by less-than;
/// without, a comparison with a constant takes two instructions, and each conversion to 32 bits another two.
/// Misaligned access is allowed on every CPU we run on; without it, headers are read bytewise.
const FLAGS: [&str; 4] = [
    "-Cdebuginfo=2",
    "-Ctarget-cpu=v3",
    "-Clink-arg=--btf",
    "-Clink-arg=--cpu-features=+allows-misaligned-mem-access",
];

/// Builds and audits the object, and builds the programs of tests and benchmarks beside it; the object's path.
///
/// # Errors
/// No BPF compiler, a compiler error, or an object that fails the audit.
pub(crate) fn run(options: &Options) -> Result<PathBuf> {
    let route = Route::require(options.route)?;
    build(route, "lb-xdp", "xdp")?;
    let object = workspace::xdp_object();
    let facts = audit::run(&object).context("the XDP object was built but must not be used")?;
    println!("{}: {facts}", object.display());
    // Linked by themselves: nothing of them can get into the product's object.
    for binary in ["lb-bench-xdp", "lb-lossy-xdp"] {
        build(route, binary, "replay,xdp")?;
    }
    Ok(object)
}

fn build(route: Route, binary: &str, features: &str) -> Result<()> {
    let mut build = route.cargo("build")?;
    build
        .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\u{1f}"))
        .args(["--package", "lb-ebpf", "--bin", binary])
        .args(["--features", features])
        .args(["--profile", "bpf", "--target-dir"])
        .arg(workspace::bpf_target());
    command::run(&mut build)
}
