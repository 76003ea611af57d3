//! `lab`, `demo`, `bench`, and soaks in a lab: prepare everything, then hand over to a program of `lb-tests`.
//!
//! What these commands do is theirs to say (`--help` is passed on); here is only what must be
//! there before they can start.

use std::path::Path;

use anyhow::{Result, ensure};
use clap::Args;

use crate::toolchain::Choice;
use crate::{build_ebpf, command, setup, workspace};

const BTF: &str = "/sys/kernel/btf/vmlinux";

/// Arguments that are passed on as they are.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Arguments {
    /// Passed to the program; `--help` shows what it takes.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

impl Arguments {
    /// These words.
    pub(crate) fn new(words: &[&str]) -> Self {
        let rest = words.iter().map(|&word| word.to_owned()).collect();
        Self { rest }
    }
}

/// Sets up, builds in release mode, and runs `program` as root.
///
/// # Errors
/// Any of the steps failed, or the program did.
pub(crate) fn run(program: &str, arguments: &Arguments) -> Result<()> {
    // Asked first, so that nobody waits for a build that cannot be used.
    command::root_prefix()?;
    ensure!(
        Path::new(BTF).exists(),
        "{BTF} doesn't exist, so this kernel can't run the XDP program: use one with \
         CONFIG_DEBUG_INFO_BTF=y, as distributions build it"
    );
    setup::install()?;
    let object = build_ebpf::run(&build_ebpf::Options {
        route: Choice::Auto,
    })?;
    let mut build = command::cargo();
    build.args([
        "build",
        "--locked",
        "--release",
        "-p",
        "lb-userspace",
        "-p",
        "lb-tests",
    ]);
    command::run(build.env("LB_XDP_OBJECT", &object))?;
    let release = workspace::target().join("release");
    let mut command = command::as_root(release.join(program))?;
    command::become_it(
        command
            .env("LB_BIN", release.join("lb"))
            .env("LB_XDP_OBJECT", &object)
            .env("LB_PYTHON", workspace::venv().join("bin/python"))
            .args(&arguments.rest),
    )
}
