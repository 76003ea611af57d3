//! What demo and benchmarks ask of the machine, asked before anything is changed.
//!
//! Invariant: each failure is one sentence with what to do. Not here: installing (`cargo xtask setup`).

use std::{env, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use nix::unistd::geteuid;
use socket2::{Domain, Socket, Type};

use crate::binaries;

/// Needed by every lab.
pub const LAB_TOOLS: &[&str] = &["ip", "nsenter", "setpriv", "ethtool", "curl", "wrk"];

/// Fails with the first thing that is missing: root, kernel features, `tools`, programs of this workspace.
pub fn check(tools: &[&str]) -> Result<()> {
    ensure!(
        geteuid().is_root(),
        "this needs root, to make network namespaces and to load an XDP program: run it with sudo"
    );
    kernel()?;
    for tool in tools {
        ensure!(
            is_on_path(tool),
            "{tool} is not installed: run `cargo xtask setup`"
        );
    }
    binaries::lb()?;
    binaries::sibling("lb-pool")?;
    let python = binaries::python()?;
    let works = Command::new(&python)
        .args(["-c", "import spnego, exchangelib, requests_ntlm"])
        .output()
        .is_ok_and(|output| output.status.success());
    ensure!(
        works,
        "{} lacks the packages of the tests: run `cargo xtask setup`",
        python.display()
    );
    Ok(())
}

/// Oldest kernel: 5.12 brought compare-and-swap to BPF, 5.15 is the first long-term release after it.
const OLDEST: (u32, u32) = (5, 15);
const BTF: &str = "/sys/kernel/btf/vmlinux";
/// `AF_XDP` of linux/socket.h.
const AF_XDP: i32 = 44;

fn kernel() -> Result<()> {
    let name = nix::sys::utsname::uname().context("asking for the kernel's version")?;
    let release = name.release().to_string_lossy();
    let version = version(&release).with_context(|| format!("kernel version {release:?}"))?;
    ensure!(
        version >= OLDEST,
        "kernel {release} is too old for the XDP program: use {}.{} or later (Debian 12 has 6.1)",
        OLDEST.0,
        OLDEST.1,
    );
    ensure!(
        Path::new(BTF).exists(),
        "{BTF} doesn't exist: use a kernel with CONFIG_DEBUG_INFO_BTF=y, as distributions build it"
    );
    Socket::new(Domain::from(AF_XDP), Type::RAW, None)
        .map(drop)
        .context("this kernel has no AF_XDP sockets: use one with CONFIG_XDP_SOCKETS=y")
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut next = || numbers.next()?.parse().ok();
    Some((next()?, next()?))
}

fn is_on_path(tool: &str) -> bool {
    env::var_os("PATH")
        .is_some_and(|path| env::split_paths(&path).any(|directory| directory.join(tool).is_file()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_releases_are_compared_by_number() {
        let check = |release, expected| assert_eq!(version(release), expected, "{release}");
        check("6.1.0-28-amd64", Some((6, 1)));
        check("6.18.44", Some((6, 18)));
        check("5.4-rc1", Some((5, 4)));
        check("six", None);
        check("6", None);
        assert!(version("5.15.0") >= Some(OLDEST) && version("5.4.9") < Some(OLDEST));
    }

    #[test]
    fn a_tool_is_looked_for_by_its_whole_name() {
        assert!(is_on_path("ls"));
        assert!(!is_on_path("l"));
    }
}
