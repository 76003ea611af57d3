//! What one kernel has to show: the packet path's own tests, then real traffic through `lb run`.
//!
//! Invariant: every step's result is a line that begins with `lb-vm: `, and the last of them is the verdict, so
//! that `cargo xtask vm` can read them from a serial console among whatever else the kernel prints.
//! Used by `lb-vm-guest` only, which is the first process of a virtual machine, or an ordinary one of this host.
//! Not here: making virtual machines (xtask), and what the program must do with a packet (`tests/prog_run.rs`).

pub mod machine;
mod traffic;
mod virtio;

use std::{
    ffi::OsStr,
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

/// What a line of results begins with; `key: value` follows.
const MARK: &str = "lb-vm: ";

/// Where the checks run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a virtual machine with multi-queue network cards, as its first process.
    Guest,
    /// On this host, next to others: there are no cards to take.
    Host,
}

/// Runs every step and prints its result; `prog_run` is the test program that compares the loaded program with
/// the pure function.
///
/// Fails with the first step that does.
pub fn check(place: Place, prog_run: &Path) -> Result<()> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").context("kernel release")?;
    report("kernel", release.trim_end());
    report("fixtures", &fixtures(prog_run).context("fixtures")?);
    let veth = traffic::over_veth().context("traffic over veth")?;
    report("instructions", &veth.instructions.to_string());
    report("veth", &veth.summary);
    if place == Place::Guest {
        let tagged = traffic::over_vlans().context("traffic over VLANs")?;
        report("vlans", &tagged);
        let virtio = traffic::over_virtio().context("traffic over virtio-net")?;
        report("virtio-net", &virtio.summary);
    }
    Ok(())
}

/// Prints one result.
pub fn report(key: &str, value: &str) {
    eprintln!("{MARK}{key}: {value}");
}

/// Runs the test program; how many of its tests passed.
fn fixtures(prog_run: &Path) -> Result<String> {
    let output = Command::new(prog_run)
        // One at a time: the tests pin their threads to processors, and the counters are per processor.
        .args(["--test-threads", "1"])
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("starting {}", prog_run.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{}\n{text}", output.status);
    let passed = text.lines().find_map(passed_tests);
    passed.with_context(|| format!("no test result in:\n{text}"))
}

/// `test result: ok. 4 passed; 0 failed; …` of the standard test harness, as `4 of 4`.
fn passed_tests(line: &str) -> Option<String> {
    let counts = line.strip_prefix("test result: ok. ")?;
    let mut numbers = counts
        .split("; ")
        .map(|count| count.split(' ').next()?.parse::<usize>().ok());
    let (passed, failed) = (numbers.next()??, numbers.next()??);
    (passed > 0).then(|| format!("{passed} of {}", passed + failed))
}

/// Runs `program` to its end; an error carries what it printed.
fn run<S: AsRef<OsStr>>(program: &str, arguments: impl IntoIterator<Item = S>) -> Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| format!("starting {program}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{program}: {}: {}",
        output.status,
        errors.trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::passed_tests;

    #[test]
    fn a_test_result_is_read_only_when_tests_ran_and_passed() {
        let check = |line: &str, expected: Option<&str>| {
            assert_eq!(passed_tests(line).as_deref(), expected);
        };
        let rest = "0 ignored; 0 measured; 0 filtered out; finished in 1.73s";
        check(
            &format!("test result: ok. 4 passed; 0 failed; {rest}"),
            Some("4 of 4"),
        );
        check(
            &format!("test result: ok. 0 passed; 0 failed; {rest}"),
            None,
        );
        check(
            &format!("test result: FAILED. 3 passed; 1 failed; {rest}"),
            None,
        );
        check("running 4 tests", None);
    }
}
