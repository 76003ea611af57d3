//! `setup`: find what is missing, install exactly that, look again.
//!
//! Order matters only in that apt brings the libraries and the `venv` module that the later steps
//! build on. Nothing is downloaded, and no package list refreshed, when all of it is there. Called
//! by every command that needs more than Rust.

mod apt;
mod linker;
mod needs;
mod venv;

use anyhow::{Result, bail};
use clap::Args;

use self::needs::Need;

/// What to do about missing things.
#[derive(Args)]
pub(crate) struct Options {
    /// Only say what is missing, and fail if anything is.
    #[arg(long)]
    check: bool,
}

/// Runs the command.
///
/// # Errors
/// As [`install`]; with `--check`, anything missing.
pub(crate) fn run(options: &Options) -> Result<()> {
    if options.check { check() } else { install() }
}

/// Installs what is missing.
///
/// # Errors
/// Not root and no sudo, no apt, or an installation that failed or did not bring what it should.
pub(crate) fn install() -> Result<()> {
    apt::remove_stale_policy()?;
    let missing = needs::missing();
    if missing.is_empty() {
        println!("setup: nothing to do");
        return Ok(());
    }
    println!("setup: missing: {}", names(&missing));
    let packages: Vec<&str> = missing.iter().flat_map(Need::packages).collect();
    apt::install(&packages, || {
        !needs::missing().iter().any(Need::is_from_apt)
    })?;
    for need in &missing {
        match need {
            Need::Linker => linker::install()?,
            Need::Clients => venv::install()?,
            Need::Tool(_) | Need::Services | Need::Compiler => {}
        }
    }
    let left = needs::missing();
    if !left.is_empty() {
        bail!("installed, but still not usable: {}", names(&left));
    }
    println!("setup: done");
    Ok(())
}

fn check() -> Result<()> {
    let missing = needs::missing();
    if !missing.is_empty() {
        bail!(
            "missing: {}; `cargo xtask setup` installs it",
            names(&missing)
        );
    }
    println!("setup: nothing is missing");
    Ok(())
}

fn names(needs: &[Need]) -> String {
    needs
        .iter()
        .map(Need::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}
