//! Whether this kernel can do what `lb` needs: prints results and a verdict.
//!
//! As process 1 it owns the machine: it brings it up, checks, and ends it. Otherwise it checks this host's kernel
//! and leaves the host as it was. Called by `cargo xtask vm`; the checks are in `lb_tests::vm`.

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use lb_tests::vm::{self, Place, machine};

/// Checks the kernel that it runs on.
#[derive(Parser)]
struct Arguments {
    /// The built `prog_run` test program.
    prog_run: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let place = if std::process::id() == 1 {
        Place::Guest
    } else {
        Place::Host
    };
    let brought_up = match place {
        Place::Guest => machine::bring_up(),
        Place::Host => Ok(()),
    };
    let checked = brought_up.and_then(|()| vm::check(place, &arguments.prog_run));
    let verdict = match &checked {
        Ok(()) => "passed".to_owned(),
        Err(error) => format!("failed: {error:#}"),
    };
    vm::report("verdict", &verdict);
    if place == Place::Guest {
        // If it fails, this process ends, which ends the machine by a panic of its kernel.
        if let Err(error) = machine::reset() {
            eprintln!("lb-vm-guest: {error:#}");
        }
    }
    match checked {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
