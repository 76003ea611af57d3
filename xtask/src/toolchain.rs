//! The two ways to compile for BPF, and how to tell which of them this machine has.
//!
//! Both use LLVM 22, because that is what bpf-linker is linked with: its LLVM may not be older
//! than the compiler's. Read by `setup` (is one there?) and `build-ebpf` (which one?).

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::command::{cargo, find, path_with, probe};

/// The Rust target of the XDP program.
pub(crate) const TARGET: &str = "bpfel-unknown-none";

/// A dated nightly, never "nightly": a newer one brings an LLVM that the linker cannot read.
pub(crate) const NIGHTLY: &str = "nightly-2026-05-20";

/// Where Debian's package installs its compiler. A rustup proxy often hides it on `PATH`.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// The oldest minor version of Debian's compiler that builds this workspace (`rust-version`).
const DEBIAN_MINOR: u32 = 95;

/// Which compiler to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Choice {
    /// The first that is there, Debian's before rustup's.
    Auto,
    /// Debian's `rustc-web` with its prebuilt BPF `core`.
    Debian,
    /// A dated rustup nightly with `rust-src`, which builds `core` itself.
    Rustup,
}

/// A compiler for BPF that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// See [`Choice::Debian`].
    Debian,
    /// See [`Choice::Rustup`].
    Rustup,
}

impl Route {
    /// The route to take, if this machine has it.
    pub(crate) fn detect(choice: Choice) -> Option<Self> {
        let debian = || debian_is_usable().then_some(Self::Debian);
        let rustup = || rustup_is_usable().then_some(Self::Rustup);
        match choice {
            Choice::Auto => debian().or_else(rustup),
            Choice::Debian => debian(),
            Choice::Rustup => rustup(),
        }
    }

    /// As [`Route::detect`].
    ///
    /// # Errors
    /// It is not there: says how to get it.
    pub(crate) fn require(choice: Choice) -> Result<Self> {
        let Some(route) = Self::detect(choice) else {
            bail!(
                "no BPF compiler for route `{}`: run `cargo xtask setup` (Debian), or \
                 `rustup toolchain install {NIGHTLY} --profile minimal -c rust-src -c clippy`",
                choice
                    .to_possible_value()
                    .map_or_else(String::new, |v| v.get_name().to_owned())
            )
        };
        Ok(route)
    }

    /// Cargo with this route's compiler and `subcommand`, for the BPF target.
    ///
    /// # Errors
    /// `PATH` cannot be extended.
    pub(crate) fn cargo(self, subcommand: &str) -> Result<Command> {
        let mut command = match self {
            Self::Debian => {
                let mut command = cargo();
                command.arg(subcommand);
                command
                    .env("RUSTC", DEBIAN_RUSTC)
                    .env("RUSTC_BOOTSTRAP", UNSTABLE_CRATES);
                command
            }
            Self::Rustup => {
                let mut command = Command::new("rustup");
                command.args(["run", NIGHTLY, "cargo", subcommand, "-Zbuild-std=core"]);
                command.env_remove("RUSTC").env_remove("LD_LIBRARY_PATH");
                command
            }
        };
        command
            .args(["--locked", "--target", TARGET])
            .env("PATH", path_with(None)?)
            // These replace our flags without a word, or wrap a compiler they were not made for.
            .env_remove("RUSTFLAGS")
            .env_remove("RUSTC_WRAPPER")
            .env_remove("RUSTC_WORKSPACE_WRAPPER");
        Ok(command)
    }
}

/// The crates that Debian's stable compiler lets use unstable features: BPF assembly is one.
///
/// By name, because `RUSTC_BOOTSTRAP=1` would change what build scripts of other crates detect.
const UNSTABLE_CRATES: &str = "aya_ebpf,lb_ebpf";

/// Whether Debian's compiler is there, new enough, and has `core` for BPF.
fn debian_is_usable() -> bool {
    let version = probe(Command::new(DEBIAN_RUSTC).arg("--version"));
    let minor = version.as_deref().and_then(minor_version);
    let libraries = ["--print", "target-libdir", "--target", TARGET];
    let libraries = probe(Command::new(DEBIAN_RUSTC).args(libraries));
    minor.is_some_and(|minor| minor >= DEBIAN_MINOR)
        && libraries.is_some_and(|dir| has_core(Path::new(dir.trim())))
}

/// Whether the dated nightly is there with the source of `core`.
fn rustup_is_usable() -> bool {
    let Some(rustup) = find("rustup") else {
        return false;
    };
    let mut which = Command::new(rustup);
    // A probe must not download a toolchain.
    which
        .args(["which", "--toolchain", NIGHTLY, "rustc"])
        .env("RUSTUP_AUTO_INSTALL", "0");
    let Some(rustc) = probe(&mut which).map(|path| PathBuf::from(path.trim())) else {
        return false;
    };
    let sysroot = rustc.ancestors().nth(2).unwrap_or(&rustc);
    sysroot
        .join("lib/rustlib/src/rust/library/core/src/lib.rs")
        .is_file()
}

/// 96 from "rustc 1.96.0 (…)".
fn minor_version(version: &str) -> Option<u32> {
    version
        .strip_prefix("rustc 1.")?
        .split('.')
        .next()?
        .parse()
        .ok()
}

fn has_core(libraries: &Path) -> bool {
    let is_core = |path: &Path| {
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        stem.is_some_and(|stem| stem.starts_with("libcore-"))
            && path
                .extension()
                .is_some_and(|extension| extension == "rlib")
    };
    libraries
        .read_dir()
        .is_ok_and(|entries| entries.flatten().any(|entry| is_core(&entry.path())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_minor_version_is_read_from_what_rustc_prints() {
        let check = |text, expected| assert_eq!(minor_version(text), expected, "{text}");
        check(
            "rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)\n",
            Some(96),
        );
        check("rustc 1.63.0\n", Some(63));
        check("cargo 1.96.0\n", None);
        check("", None);
    }
}
