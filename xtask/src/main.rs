//! `cargo xtask`: every command a developer or CI needs, each in its own file.
//!
//! This file is the command line and nothing else. The commands print every process that they
//! start, so what they do can be repeated by hand; none of them goes through a shell.

#![expect(
    clippy::print_stdout,
    reason = "a command line tool answers on standard output"
)]

mod audit;
mod build_ebpf;
mod command;
mod fuzz;
mod lab;
mod setup;
mod soak;
mod test;
mod tidy;
mod toolchain;
mod vm;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Commands of the lb workspace.
#[derive(Parser)]
#[command(bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Xtask,
}

#[derive(Subcommand)]
enum Xtask {
    /// Install what the other commands need; does nothing when it is all there.
    Setup(setup::Options),
    /// Build the XDP object and audit it.
    BuildEbpf(build_ebpf::Options),
    /// Run every check and test, or only the steps named.
    Test(test::Options),
    /// What CI runs: the same as `test`.
    Ci(test::Options),
    /// Fuzz what reads foreign bytes: `fuzz`, `fuzz decide --seconds 3600`.
    Fuzz(fuzz::Options),
    /// For long: TCP over simulated faulty links (`soak tcp --minutes 60`), identities in a lab (`soak identity`), moves of
    /// connections (`soak moves`), upgrades (`soak upgrade`), whole streams of 1 GiB (`soak stream`).
    Soak(soak::Options),
    /// Check the house rules that no compiler checks.
    Tidy,
    /// Make, remove or enter the namespace lab: `up`, `down`, `exec NAMESPACE -- COMMAND`.
    Lab(lab::Arguments),
    /// Show lb in front of a simulated Exchange pool, from nothing to a result table.
    Demo(lab::Arguments),
    /// Measure: `bench l7`, `bench l4`, `bench tcp`, `bench handover`, `bench identity`.
    Bench(lab::Arguments),
    /// Try the packet path and real traffic on other kernels: `vm 6.1 6.12 host`, or all of them.
    Vm(vm::Options),
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Xtask) -> Result<()> {
    match command {
        Xtask::Setup(options) => setup::run(&options),
        Xtask::BuildEbpf(options) => build_ebpf::run(&options).map(|_object| ()),
        Xtask::Test(options) | Xtask::Ci(options) => test::run(&options),
        Xtask::Fuzz(options) => fuzz::run(&options),
        Xtask::Soak(options) => soak::run(&options),
        Xtask::Tidy => tidy::run(),
        Xtask::Lab(arguments) => lab::run("lb-lab", &arguments),
        Xtask::Demo(arguments) => lab::run("lb-demo", &arguments),
        Xtask::Bench(arguments) => lab::run("lb-bench", &arguments),
        Xtask::Vm(options) => vm::run(&options),
    }
}
