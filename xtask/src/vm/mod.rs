//! `vm`: the packet path and real traffic on other kernels than this host's, each booted in an emulator.
//!
//! Everything that a machine runs was built by this workspace or is a tool of this host; kernels and the
//! emulator are Debian's packages, unpacked below `target` and never installed. What a kernel has to show is
//! in `lb-tests` (`lb-vm-guest`); here are the machine around it and the table of results.

mod initramfs;
mod kernel;
mod network;
mod package;
mod qemu;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use serde::Deserialize;

use self::initramfs::Initramfs;
use self::network::Network;
use crate::toolchain::Choice;
use crate::{build_ebpf, command, setup, workspace};

/// Which kernels.
#[derive(Args)]
pub(crate) struct Options {
    /// Only these; all by default.
    #[arg(value_enum)]
    kernels: Vec<Version>,
}

/// A kernel of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Version {
    /// Debian 12's own, the oldest that lb supports.
    #[value(name = "6.1")]
    V6_1,
    /// Debian 13's, which Debian 12 has as an update.
    #[value(name = "6.12")]
    V6_12,
    /// The one that this host runs, without an emulator.
    Host,
}

/// What a kernel's run printed: results by name, and the verdict among them.
type Results = BTreeMap<String, String>;

/// What the results begin with (`lb_tests::vm`).
const MARK: &str = "lb-vm: ";

/// Name of the last result, and what it says when all is well.
const VERDICT: &str = "verdict";
const PASSED: &str = "passed";

/// Results by their names in the output, and what people read.
const ROWS: [(&str, &str); 5] = [
    ("instructions", "verified instructions"),
    ("fixtures", "packet path tests"),
    ("veth", "veth"),
    ("vlans", "VLANs"),
    ("virtio-net", "virtio-net"),
];

/// Programs that a machine needs.
struct Programs {
    object: PathBuf,
    lb: PathBuf,
    pool: PathBuf,
    guest: PathBuf,
    prog_run: PathBuf,
}

/// Builds everything, runs the kernels one after the other, and prints a table.
///
/// # Errors
/// Something could not be built, fetched or started, or a kernel did not pass.
pub(crate) fn run(options: &Options) -> Result<()> {
    command::root_prefix()?;
    setup::install()?;
    let programs = build()?;
    let kernels = match options.kernels.as_slice() {
        [] => Version::value_variants(),
        named => named,
    };
    let mut table = Vec::new();
    for version in kernels {
        eprintln!("\n== {version}");
        // A kernel that cannot be fetched or booted does not hide what the next one shows.
        let results = examine(*version, &programs).unwrap_or_else(|error| failure(&error));
        table.push((*version, results));
    }
    summarize(&table)
}

fn build() -> Result<Programs> {
    let object = build_ebpf::run(&build_ebpf::Options {
        route: Choice::Auto,
    })?;
    let mut build = command::cargo();
    build.args(["build", "--locked", "-p", "lb-userspace", "-p", "lb-tests"]);
    command::run(build.env("LB_XDP_OBJECT", &object))?;
    let debug = workspace::target().join("debug");
    Ok(Programs {
        lb: debug.join("lb"),
        pool: debug.join("lb-pool"),
        guest: debug.join("lb-vm-guest"),
        prog_run: build_prog_run(&object)?,
        object,
    })
}

/// What cargo says about an artifact, as far as it is of interest.
#[derive(Deserialize)]
struct Artifact {
    target: Target,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

/// Test programs have a hash in their names, which only cargo knows.
fn build_prog_run(object: &Path) -> Result<PathBuf> {
    let mut build = command::cargo();
    build
        .args(["test", "--locked", "-p", "lb-tests", "--test", "prog_run"])
        .args(["--no-run", "--message-format=json-render-diagnostics"])
        .env("LB_XDP_OBJECT", object)
        .current_dir(workspace::root())
        .stderr(Stdio::inherit());
    let output = build.output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!("building the test program prog_run: {}", output.status);
    }
    find_program("prog_run", &String::from_utf8_lossy(&output.stdout))
        .context("cargo names no test program prog_run")
}

/// Cargo tells about one thing on each line, and not only about programs.
fn find_program(name: &str, messages: &str) -> Option<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Artifact>(line).ok())
        .find(|artifact| artifact.target.name == name)?
        .executable
}

fn examine(version: Version, programs: &Programs) -> Result<Results> {
    let Some(series) = version.series() else {
        return on_host(programs);
    };
    let kernel = kernel::fetch(series)?;
    let emulator = qemu::fetch()?;
    let image = workspace::target().join(format!("vm/{series}.cpio"));
    let file = fs::File::create(&image).with_context(|| format!("making {}", image.display()))?;
    initramfs(programs, &kernel)?
        .write(file)
        .with_context(|| format!("writing {}", image.display()))?;
    let network = Network::up()?;
    let log = image.with_extension("log");
    emulator.run(&kernel.image, &image, &network, &log)
}

/// The guest's file system.
fn initramfs(programs: &Programs, kernel: &kernel::Kernel) -> Result<Initramfs> {
    let mut image = Initramfs::default();
    for tool in ["curl", "ethtool", "ip", "nsenter", "setpriv", "true"] {
        let path = command::find(tool).with_context(|| format!("{tool} is not installed"))?;
        image.add_program(&path, &format!("bin/{tool}"))?;
    }
    image.add_program(&programs.lb, "lb/lb")?;
    image.add_program(&programs.pool, "lb/lb-pool")?;
    image.add_program(&programs.guest, "lb/lb-vm-guest")?;
    image.add_program(&programs.prog_run, "lb/prog_run")?;
    // What stands beside it at the lab's ends has its name from there.
    for object in ["lb-xdp", "lb-bench-xdp"] {
        let path = programs.object.with_file_name(object);
        let bytes = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        image.add_file(&format!("lb/{object}"), bytes);
    }
    for (number, module) in kernel.modules.iter().enumerate() {
        let path = format!("modules/{number:02}-{}.ko", module.name);
        image.add_file(&path, module.bytes.clone());
    }
    Ok(image)
}

/// The checks as an ordinary process of this host.
fn on_host(programs: &Programs) -> Result<Results> {
    let mut guest = command::as_root("setpriv")?;
    guest.args(["--pdeathsig", "KILL"]);
    guest.arg(&programs.guest).arg(&programs.prog_run);
    guest.env("LB_XDP_OBJECT", &programs.object);
    results_of(&mut guest, &workspace::target().join("vm/host.log"))
}

/// Runs a command to its end with all its output in `log`; the results among it.
fn results_of(command: &mut Command, log: &Path) -> Result<Results> {
    let output = fs::File::create(log).with_context(|| format!("making {}", log.display()))?;
    command.stdin(Stdio::null());
    command.stdout(output.try_clone()?).stderr(output);
    eprintln!("output goes to {}", log.display());
    let ended = command::run(command);
    let text = fs::read(log).with_context(|| format!("reading {}", log.display()))?;
    let mut results = parse(&String::from_utf8_lossy(&text));
    if !results.contains_key(VERDICT) {
        let why = ended
            .err()
            .map_or_else(String::new, |error| format!(": {error:#}"));
        let silent = format!("it ended without a verdict{why}; see {}", log.display());
        results.insert(VERDICT.to_owned(), silent);
    }
    Ok(results)
}

/// Finds the results in a machine's output; the last of a name counts.
fn parse(output: &str) -> Results {
    let results = output.lines().filter_map(|line| {
        // The kernel may have begun a line of its own before.
        let (_, result) = line.trim_end().split_once(MARK)?;
        let (key, value) = result.split_once(": ")?;
        Some((key.to_owned(), value.to_owned()))
    });
    results.collect()
}

fn failure(error: &anyhow::Error) -> Results {
    Results::from([(VERDICT.to_owned(), format!("{error:#}"))])
}

fn summarize(table: &[(Version, Results)]) -> Result<()> {
    println!();
    for (version, results) in table {
        let value = |key: &str| results.get(key).map_or("-", String::as_str);
        println!("{version} ({}): {}", value("kernel"), value(VERDICT));
        for (key, heading) in ROWS {
            println!("  {heading:22} {}", value(key));
        }
    }
    let passed = |results: &Results| results.get(VERDICT).is_some_and(|it| it == PASSED);
    let failed: Vec<String> = table
        .iter()
        .filter(|(_, results)| !passed(results))
        .map(|(version, _)| version.to_string())
        .collect();
    if !failed.is_empty() {
        bail!(
            "not every kernel passed: {}; what they printed is in {}",
            failed.join(", "),
            workspace::target().join("vm/*.log").display()
        );
    }
    Ok(())
}

impl Version {
    /// What the names of its packages begin with; this host's kernel needs none.
    fn series(self) -> Option<&'static str> {
        match self {
            Self::V6_1 => Some("6.1"),
            Self::V6_12 => Some("6.12"),
            Self::Host => None,
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.series().unwrap_or("host"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_test_program_is_found_by_its_name() {
        let messages = r#"{"reason":"compiler-message","message":"prog_run"}
            {"target":{"name":"lb_tests","kind":["lib"]},"executable":null}
            {"target":{"name":"prog_run","kind":["test"]},"executable":"/deps/prog_run-1"}
            {"target":{"name":"lb-pool","kind":["bin"]},"executable":"/lb-pool"}"#;
        let check = |name, expected: Option<&str>| {
            assert_eq!(find_program(name, messages), expected.map(PathBuf::from));
        };
        check("prog_run", Some("/deps/prog_run-1"));
        check("lb_tests", None);
        check("xsk", None);
    }

    #[test]
    fn results_are_found_among_other_output() {
        let output = "Linux version 6.1\r\nlb-vm: kernel: 6.1.0-56\r\n\
                      [ 3.0] eth0: uplb-vm: veth: 50 connections: all\r\nlb-vm: no\r\n\
                      lb-vm: verdict: passed\r\n";
        let expected = [
            ("kernel", "6.1.0-56"),
            ("verdict", "passed"),
            ("veth", "50 connections: all"),
        ];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(parse(output), Results::from(expected));
    }

    #[test]
    fn a_kernel_passes_only_by_its_own_verdict() {
        let table = |verdict: Option<&str>| {
            let results = verdict.map(|verdict| (VERDICT.to_owned(), verdict.to_owned()));
            summarize(&[(Version::V6_1, results.into_iter().collect())])
        };
        assert!(table(Some(PASSED)).is_ok());
        assert!(table(Some("failed: fixtures")).is_err());
        assert!(table(None).is_err());
    }
}
