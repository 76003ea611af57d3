//! `test`: every check in one command, the same on a laptop and in CI.
//!
//! Steps run in a fixed order, cheap ones first, and a failed one does not hide the others; only
//! what needs its result is left out. Compilers run as the caller, test programs that make
//! namespaces or load programs as root.

use std::fmt;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};

use crate::toolchain::{Choice, Route};
use crate::{build_ebpf, command, fuzz, setup, tidy, workspace};

/// What to test.
#[derive(Args)]
pub(crate) struct Options {
    /// Only these steps and what they need; all by default.
    #[arg(value_enum)]
    steps: Vec<Step>,
}

/// A step, in the order in which they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Step {
    /// House rules that no compiler checks.
    Tidy,
    /// Formatting.
    Fmt,
    /// Build and audit the XDP object.
    Ebpf,
    /// Clippy, warnings denied; the XDP code too.
    Clippy,
    /// Documentation, warnings denied.
    Docs,
    /// Unit tests, which need neither root nor network.
    Unit,
    /// Flow entries and `AF_XDP` rings under every order of events that the memory model allows.
    Loom,
    /// Flow table and wire formats in the interpreter that finds undefined behaviour, where the toolchain has it.
    Miri,
    /// A few seconds of each fuzz target.
    Fuzz,
    /// `lb` with the XDP object inside, and the programs of the lab.
    Build,
    /// Tests with real sockets and the real kernel, in namespaces. Needs root.
    Netns,
    /// Outlook on the web with a real browser, where one is installed. Needs root.
    Browser,
}

#[derive(Debug)]
enum Outcome {
    Passed,
    Failed,
    /// This machine lacks what it takes, and need not have it.
    Skipped(&'static str),
    /// A step that it needs did not pass.
    NotRun(Step),
}

/// Runs the steps.
///
/// # Errors
/// A step failed.
pub(crate) fn run(options: &Options) -> Result<()> {
    setup::install()?;
    let mut results = Vec::new();
    for step in selected(&options.steps) {
        let blocked = step.needs().iter().find(|need| !passed(&results, **need));
        let start = Instant::now();
        let outcome = match blocked {
            Some(need) => Outcome::NotRun(*need),
            None => attempt(step),
        };
        results.push((step, outcome, start.elapsed()));
    }
    summarize(&results)
}

fn passed(results: &[(Step, Outcome, Duration)], step: Step) -> bool {
    results
        .iter()
        .any(|(done, outcome, _)| *done == step && matches!(outcome, Outcome::Passed))
}

fn attempt(step: Step) -> Outcome {
    eprintln!("\n== {step}");
    if let Some(why) = step.cannot_run() {
        eprintln!("{step}: skipped: {why}");
        return Outcome::Skipped(why);
    }
    match step.run() {
        Ok(()) => Outcome::Passed,
        Err(error) => {
            eprintln!("{step}: {error:#}");
            Outcome::Failed
        }
    }
}

/// The steps named, with what they need; all if none is named.
fn selected(named: &[Step]) -> Vec<Step> {
    let wanted = |step: &Step| {
        named.is_empty()
            || named
                .iter()
                .any(|name| name == step || name.needs().contains(step))
    };
    Step::value_variants()
        .iter()
        .copied()
        .filter(wanted)
        .collect()
}

fn summarize(results: &[(Step, Outcome, Duration)]) -> Result<()> {
    println!();
    let mut counts = [0_usize; 4];
    for (step, outcome, time) in results {
        let seconds = time.as_secs();
        let index = match outcome {
            Outcome::Passed => {
                println!("{step:8} passed   {seconds:4} s");
                0
            }
            Outcome::Failed => {
                println!("{step:8} FAILED   {seconds:4} s");
                1
            }
            Outcome::NotRun(need) => {
                println!("{step:8} not run, because {need} did not pass");
                2
            }
            Outcome::Skipped(why) => {
                println!("{step:8} skipped: {why}");
                3
            }
        };
        counts[index] += 1;
    }
    let [passed, failed, not_run, skipped] = counts;
    println!("{passed} passed, {failed} failed, {not_run} not run, {skipped} skipped");
    if passed + skipped != results.len() {
        bail!("not every step passed");
    }
    Ok(())
}

impl Step {
    /// Every step whose result this one uses, not only the direct ones.
    fn needs(self) -> &'static [Self] {
        match self {
            Self::Build => &[Self::Ebpf],
            Self::Netns | Self::Browser => &[Self::Ebpf, Self::Build],
            _ => &[],
        }
    }

    /// Why it can't run here, if it need not.
    fn cannot_run(self) -> Option<&'static str> {
        let has_miri = || command::probe(Command::new("cargo").args(["miri", "--version"]));
        match self {
            Self::Miri if has_miri().is_none() => Some(
                "this toolchain has no Miri; a nightly with it: cargo +nightly xtask test miri",
            ),
            // 64 MB to fetch and 220 on disk: more than one test is worth to everybody.
            Self::Browser if command::find(BROWSER).is_none() => {
                Some("no chromium-headless-shell; Debian's package of that name has it")
            }
            _ => None,
        }
    }

    fn run(self) -> Result<()> {
        match self {
            Self::Tidy => tidy::run(),
            Self::Fmt => {
                command::run(command::cargo().args(["fmt", "--all", "--check"]))?;
                fuzz::check_format()
            }
            Self::Ebpf => build_ebpf::run(&build_ebpf::Options {
                route: Choice::Auto,
            })
            .map(|_object| ()),
            Self::Clippy => clippy(),
            Self::Docs => command::run(
                cargo("doc")
                    .args(["--workspace", "--no-deps", "--all-features"])
                    .env("RUSTDOCFLAGS", "-Dwarnings"),
            ),
            Self::Unit => command::run(cargo("test").args(["--all-features", "--no-fail-fast"])),
            Self::Loom => loom(),
            Self::Miri => command::run(&mut miri()),
            Self::Fuzz => fuzz::smoke(),
            Self::Build => {
                command::run(cargo("build").args(["-p", "lb-userspace", "-p", "lb-tests"]))
            }
            Self::Netns => netns(&["--no-fail-fast", "--", "--skip", BROWSER_TEST]),
            Self::Browser => netns(&["--test", "exchange", BROWSER_TEST]),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.pad(value.as_ref().map_or("", |value| value.get_name()))
    }
}

/// Cargo on the host, with the object embedded wherever there is one: a variable that came and
/// went between steps would build `lb` twice.
fn cargo(subcommand: &str) -> Command {
    let mut command = command::cargo();
    command.args([subcommand, "--locked"]);
    let object = workspace::xdp_object();
    if object.exists() {
        command.env("LB_XDP_OBJECT", object);
    }
    command
}

/// A target directory of its own, because the flag is one for every package.
fn loom() -> Result<()> {
    let models: [&[&str]; 2] = [
        &["lb-ebpf", "--test", "loom"],
        // Unit tests, for the rings are private.
        &["lb-xsk", "--lib", "ring::model"],
    ];
    for selection in models {
        let mut command = cargo("test");
        command
            .args(["--release", "--target-dir"])
            .arg(workspace::target().join("loom"))
            .arg("-p")
            .args(selection)
            .env("RUSTFLAGS", "--cfg=loom")
            // Enough to find every mistake that was made on purpose; more take much longer.
            .env("LOOM_MAX_PREEMPTIONS", "2");
        command::run(&mut command)?;
    }
    Ok(())
}

/// All of the library that has unsafe code on a host, and its users; what is random there would take hours.
fn miri() -> Command {
    let mut command = Command::new("cargo");
    command
        .args(["miri", "test", "--locked", "-p", "lb-ebpf", "--lib"])
        .args(["--features", "fixtures", "--"])
        .args(["wire::", "fixtures::tests::", "flow::tests::sweeping"])
        .args(["checksum::tests::example", "tcp::"])
        .env("MIRIFLAGS", "-Zmiri-disable-isolation");
    command
}

fn clippy() -> Result<()> {
    let mut host = cargo("clippy");
    host.args([
        "--workspace",
        "--all-targets",
        "--all-features",
        "--",
        "-Dwarnings",
    ]);
    command::run(&mut host)?;
    // The host's run reads the XDP code as well, except what is only compiled for BPF. Debian's
    // compiler comes without a clippy of the same version, so only rustup's can read that.
    if let Some(route @ Route::Rustup) = Route::detect(Choice::Rustup) {
        let mut bpf = route.cargo("clippy")?;
        bpf.args([
            "-p",
            "lb-ebpf",
            "--bin",
            "lb-xdp",
            "--features",
            "xdp",
            "--target-dir",
        ]);
        command::run(bpf.arg(workspace::bpf_target()).args(["--", "-Dwarnings"]))?;
    }
    Ok(())
}

fn netns(arguments: &[&str]) -> Result<()> {
    let prefix = command::root_prefix().context("the namespace tests")?;
    // Cargo compiles as the caller; only the test programs run as root. Each process dies with the
    // one above it, so that even `kill -9` of this one leaves no test running in the lab.
    let runner = [prefix, &DIES_WITH_PARENT].concat();
    let test = cargo("test");
    let mut command = Command::new(DIES_WITH_PARENT[0]);
    command
        .args(&DIES_WITH_PARENT[1..])
        .arg(test.get_program())
        .args(test.get_args())
        .arg("--config")
        .arg(format!("target.'cfg(unix)'.runner = {runner:?}"))
        .args(["-p", "lb-tests"])
        .args(arguments)
        .env_remove("LD_LIBRARY_PATH")
        .env("LB_XDP_OBJECT", workspace::xdp_object())
        .env("LB_BIN", workspace::target().join("debug/lb"))
        .env("LB_PYTHON", workspace::venv().join("bin/python"));
    command::run(&mut command)
}

const BROWSER: &str = "chromium-headless-shell";
const BROWSER_TEST: &str = "web::a_browser_signs_in";

const DIES_WITH_PARENT: [&str; 3] = ["setpriv", "--pdeathsig", "KILL"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn naming_a_step_selects_what_it_needs_in_order() {
        let check = |named: &[Step], expected: &[Step]| assert_eq!(selected(named), expected);
        check(&[], Step::value_variants());
        check(&[Step::Unit], &[Step::Unit]);
        check(
            &[Step::Netns, Step::Fmt],
            &[Step::Fmt, Step::Ebpf, Step::Build, Step::Netns],
        );
    }

    #[test]
    fn needs_are_complete_and_come_first() {
        let all = Step::value_variants();
        let position = |step: Step| all.iter().position(|other| *other == step);
        for step in all {
            for need in step.needs() {
                assert!(
                    position(*need) < position(*step),
                    "{need} comes after {step}"
                );
                assert!(need.needs().iter().all(|deep| step.needs().contains(deep)));
            }
        }
    }

    #[test]
    fn one_failure_fails_the_run() {
        let result = |outcome| (Step::Fmt, outcome, Duration::ZERO);
        assert!(summarize(&[result(Outcome::Skipped("no such thing"))]).is_ok());
        assert!(summarize(&[result(Outcome::Passed)]).is_ok());
        assert!(summarize(&[result(Outcome::Passed), result(Outcome::Failed)]).is_err());
        assert!(summarize(&[result(Outcome::NotRun(Step::Ebpf))]).is_err());
    }
}
