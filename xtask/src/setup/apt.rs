//! Debian packages, installed without starting the services that some of them bring.
//!
//! nginx and haproxy are tools of the benchmarks here; as services they would listen on this host's
//! port 80. `policy-rc.d` keeps dpkg from starting them now, disabling them keeps the next boot from it.

use std::fs;
use std::path::Path;
use std::process::{self, Command};

use anyhow::{Context as _, Result, bail};

use crate::command::{self, as_root, find};
use crate::toolchain::NIGHTLY;
use crate::workspace;

/// Asked by Debian's maintainer scripts before they start a service; 101 means no.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// The comment by which we know our own policy; the id of the process that made it follows.
const MARK: &str = "# by `cargo xtask setup`, process ";

/// Packages of ours that bring a service.
const SERVICES: [(&str, &str); 2] = [("haproxy", "haproxy"), ("nginx-light", "nginx")];

/// Installs `packages`; `complete` tells whether they brought what was missing.
///
/// # Errors
/// No apt, not root and no sudo, or apt failed twice, the second time with fresh lists.
pub(super) fn install(packages: &[&str], complete: impl Fn() -> bool) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    if find("apt-get").is_none() {
        bail!(
            "this is not Debian: install by hand what Debian has as {}; \
             `rustup toolchain install {NIGHTLY} --profile minimal -c rust-src -c clippy` \
             replaces rustc-web and libstd-rust-web-dev-bpf",
            packages.join(" ")
        );
    }
    command::root_prefix().with_context(|| format!("cannot install {}", packages.join(" ")))?;
    let policy = Policy::install()?;
    // Lists that are missing or old show as a failure, or as a version that is too old to use.
    if apt_install(packages).is_err() || !complete() {
        println!("setup: once more, with fresh package lists");
        command::run(&mut dpkg_configure()?)?;
        command::run(as_root("apt-get")?.args(["-o", LOCK_TIMEOUT, "update"]))?;
        apt_install(packages).with_context(|| {
            format!(
                "apt could not install {}; Debian 12 with its security updates has them all, and \
                 `rustup toolchain install {NIGHTLY} --profile minimal -c rust-src -c clippy` \
                 replaces rustc-web and libstd-rust-web-dev-bpf",
                packages.join(" ")
            )
        })?;
    }
    drop(policy);
    disable_services(packages)
}

/// Another apt may be at work, for example the nightly update.
const LOCK_TIMEOUT: &str = "DPkg::Lock::Timeout=300";

fn apt_install(packages: &[&str]) -> Result<()> {
    let mut install = as_root("env")?;
    install.args([
        "DEBIAN_FRONTEND=noninteractive",
        "apt-get",
        "-o",
        LOCK_TIMEOUT,
    ]);
    // `--no-remove`: Debian's BPF compiler conflicts with other compilers of Debian's. Whether to
    // give those up is not ours to decide; apt says which they are.
    install.args([
        "install",
        "-y",
        "-qq",
        "--no-install-recommends",
        "--no-remove",
    ]);
    command::run(install.args(packages))
}

/// Finishes what a killed dpkg left half done; does nothing otherwise.
fn dpkg_configure() -> Result<Command> {
    let mut dpkg = as_root("dpkg")?;
    dpkg.args(["--configure", "-a"]);
    Ok(dpkg)
}

/// Disables the services that we brought: `update-rc.d` knows both systemd's links and its own.
fn disable_services(packages: &[&str]) -> Result<()> {
    for (package, service) in SERVICES {
        if packages.contains(&package) {
            command::run(as_root("update-rc.d")?.args([service, "disable"]))?;
        }
    }
    Ok(())
}

/// Our policy while it is in force. A policy that was there before stays, and decides.
struct Policy;

impl Policy {
    fn install() -> Result<Option<Self>> {
        if Path::new(POLICY).exists() {
            return Ok(None);
        }
        let draft = workspace::target().join("policy-rc.d");
        fs::write(
            &draft,
            format!("#!/bin/sh\n{MARK}{}\nexit 101\n", process::id()),
        )
        .with_context(|| format!("cannot write {}", draft.display()))?;
        command::run(
            as_root("install")?
                .args(["-m", "755"])
                .arg(&draft)
                .arg(POLICY),
        )?;
        Ok(Some(Self))
    }
}

impl Drop for Policy {
    fn drop(&mut self) {
        if let Err(error) = remove_policy() {
            eprintln!("warning: {POLICY} keeps services from starting, and stays: {error:#}");
        }
    }
}

fn remove_policy() -> Result<()> {
    command::run(as_root("rm")?.args(["-f", POLICY]))
}

/// Removes the policy of a setup that was killed. Without this no service of this machine would be
/// started by its package again.
///
/// # Errors
/// There is one, and it cannot be removed.
pub(super) fn remove_stale_policy() -> Result<()> {
    let policy = fs::read_to_string(POLICY).unwrap_or_default();
    match owner(&policy) {
        Some(pid) if !Path::new("/proc").join(pid).exists() => remove_policy(),
        _ => Ok(()),
    }
}

/// The process id in a policy of ours.
fn owner(policy: &str) -> Option<&str> {
    policy.lines().find_map(|line| line.strip_prefix(MARK))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_policy_has_an_owner() {
        assert_eq!(
            owner(&format!("#!/bin/sh\n{MARK}12\nexit 101\n")),
            Some("12")
        );
        assert_eq!(owner("#!/bin/sh\nexit 101\n"), None);
    }
}
