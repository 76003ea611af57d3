//! `lb`: the command line. Exit codes: 0 fine, 1 failed, 2 bad usage or bad configuration.

use std::process::ExitCode;

use clap::Parser as _;
use lb_userspace::cli::{self, Cli};

fn main() -> ExitCode {
    // clap exits with 2 on bad usage, and with 0 after --help.
    let cli = Cli::parse();
    match cli::execute(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            failure.exit_code()
        }
    }
}
