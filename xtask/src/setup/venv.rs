//! The Python environment of the tests' clients, with exact versions.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::{command, workspace};

/// Debian's Python, because that is the one whose `venv` module setup can install.
pub(super) const PYTHON: &str = "/usr/bin/python3";

/// Whether the environment was made from the requirements as they are now.
pub(super) fn is_current() -> bool {
    let wanted = fs::read(requirements());
    // Written after the packages: an environment that was killed half-way has none.
    let installed = fs::read(stamp());
    matches!((wanted, installed), (Ok(wanted), Ok(installed)) if wanted == installed)
}

/// Makes it anew, which takes seconds: repairing an unknown state would save little.
///
/// # Errors
/// Python failed, or packages could not be fetched.
pub(super) fn install() -> Result<()> {
    let venv = workspace::venv();
    command::run(
        Command::new(PYTHON)
            .args(["-m", "venv", "--clear"])
            .arg(&venv),
    )?;
    let mut pip = Command::new(venv.join("bin/python"));
    pip.args([
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        "--quiet",
        "--requirement",
    ]);
    command::run(pip.arg(requirements()))?;
    fs::copy(requirements(), stamp())
        .with_context(|| format!("cannot write {}", stamp().display()))?;
    Ok(())
}

fn requirements() -> PathBuf {
    workspace::root().join("tests/python/requirements.txt")
}

fn stamp() -> PathBuf {
    workspace::venv().join("installed-requirements.txt")
}
