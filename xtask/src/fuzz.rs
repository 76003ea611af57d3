//! `fuzz`: libFuzzer against what reads bytes that others have written.
//!
//! The targets are the package `lb-ebpf/fuzz`. It is built with LLVM's coverage by flags that every compiler takes, so that
//! neither a nightly toolchain nor another tool is needed; libFuzzer itself comes with the package `libfuzzer-sys` and is
//! compiled here. No sanitizer: the code under test has next to no unsafe, and what it has Miri reads better.
//!
//! What libFuzzer learns stays in `target/fuzz/corpus`. A failure is written there too, named in the last lines, and
//! belongs into `lb-ebpf/fuzz/corpus`, whose files the unit tests replay.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};

use crate::{command, workspace};

/// What to fuzz, and for how long.
#[derive(Args)]
pub(crate) struct Options {
    /// Only this target; one after the other by default.
    #[arg(value_enum)]
    target: Option<Target>,
    /// Seconds for each target.
    #[arg(long, value_name = "N", default_value_t = 300)]
    seconds: u32,
}

/// A target, called as its file in `lb-ebpf/fuzz/fuzz_targets`.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Target {
    /// One frame of any bytes.
    Decide,
    /// Packets, time and sweeps in any order.
    Sequence,
    /// What `lb explain` reads.
    Explain,
    /// The configuration file.
    Config,
    /// What happens to one TCP connection.
    TcpConnection,
    /// What happens to a TCP endpoint.
    TcpEndpoint,
}

/// Runs the command.
///
/// # Errors
/// The targets don't build, or one has failed on an input.
pub(crate) fn run(options: &Options) -> Result<()> {
    let all = Target::value_variants();
    let targets = options.target.as_ref().map_or(all, std::slice::from_ref);
    let host = host()?;
    command::run(&mut build(&host))?;
    for target in targets {
        command::run(&mut target.fuzzer(&host, options.seconds)?)
            .with_context(|| target.where_failures_are())?;
    }
    Ok(())
}

/// A few seconds of each target: whether they still work, and what is easily found. Says only how it ended.
///
/// # Errors
/// As [`run`].
pub(crate) fn smoke() -> Result<()> {
    let host = host()?;
    command::run(&mut build(&host))?;
    for target in Target::value_variants() {
        let log = workspace::fuzz_target().join(format!("{}.log", target.name()));
        let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let result = command::run(target.fuzzer(&host, SMOKE_SECONDS)?.stderr(file));
        let said = fs::read_to_string(&log).unwrap_or_default();
        // libFuzzer ends with a dictionary of hundreds of lines.
        for line in said.lines().filter(|line| is_of_interest(line)) {
            eprintln!("{line}");
        }
        result.with_context(|| target.where_failures_are())?;
    }
    Ok(())
}

const SMOKE_SECONDS: u32 = 4;

fn is_of_interest(line: &str) -> bool {
    [
        "stat::number_of",
        "artifact_prefix",
        "==",
        "assert",
        "  left",
        " right",
        "thread ",
    ]
    .iter()
    .any(|start| line.starts_with(start))
}

/// The package is no member of the workspace, so `cargo fmt --all` leaves it out.
///
/// # Errors
/// It is formatted in another way.
pub(crate) fn check_format() -> Result<()> {
    let mut cargo = command::cargo();
    cargo.args(["fmt", "--check", "--manifest-path"]);
    command::run(cargo.arg(package().join("Cargo.toml")))
}

/// With a target named, the flags are not those of build scripts, which would not link.
fn build(host: &str) -> Command {
    let mut cargo = command::cargo();
    cargo.args(["build", "--locked", "--release", "--target", host]);
    cargo
        .arg("--manifest-path")
        .arg(package().join("Cargo.toml"));
    cargo.arg("--target-dir").arg(workspace::fuzz_target());
    cargo.env("RUSTFLAGS", COVERAGE.join(" "));
    cargo
}

/// What libFuzzer learns from: which edges were taken how often, and what was compared with what.
const COVERAGE: [&str; 6] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "--cfg=fuzzing",
];

impl Target {
    fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Above the longest that means anything.
    fn max_len(self) -> u32 {
        match self {
            Self::Decide => 1600,
            Self::Sequence => 800,
            Self::Explain | Self::Config | Self::TcpConnection | Self::TcpEndpoint => 4096,
        }
    }

    fn learnt(self) -> PathBuf {
        workspace::fuzz_target().join("corpus").join(self.name())
    }

    fn where_failures_are(self) -> String {
        format!("the failing input is beside {}", self.learnt().display())
    }

    fn fuzzer(self, host: &str, seconds: u32) -> Result<Command> {
        let learnt = self.learnt();
        fs::create_dir_all(&learnt)
            .with_context(|| format!("cannot create {}", learnt.display()))?;
        let programs = workspace::fuzz_target().join(host).join("release");
        let mut fuzzer = Command::new(programs.join(self.name()));
        fuzzer
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-max_len={}", self.max_len()))
            .arg(format!("-artifact_prefix={}-", learnt.display()))
            .args(["-timeout=10", "-print_final_stats=1"])
            .arg(&learnt)
            .arg(package().join("corpus").join(self.name()));
        Ok(fuzzer)
    }
}

fn package() -> PathBuf {
    workspace::root().join("lb-ebpf/fuzz")
}

/// The host's triple, as rustc says it.
fn host() -> Result<String> {
    let said = command::probe(Command::new("rustc").arg("-vV")).context("rustc does not run")?;
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host
        .context("rustc does not say for which host it is")?
        .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both the file that cargo builds and the corpus that it starts from are found by name.
    #[test]
    fn each_target_has_its_file_and_corpus() {
        for target in Target::value_variants() {
            let name = target.name();
            let file = package().join(format!("fuzz_targets/{name}.rs"));
            assert!(file.exists(), "{}", file.display());
            let corpus = package().join("corpus").join(name);
            assert!(fs::read_dir(corpus).unwrap().next().is_some());
        }
    }
}
