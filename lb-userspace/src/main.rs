//! `lb`: the command line. Exit codes: 0 fine, 1 failed, 2 bad usage or bad configuration.

use std::process::ExitCode;

use clap::Parser as _;
use lb_userspace::cli::{self, Cli};
use mimalloc::MiMalloc;

/// A connection or request takes and gives back buffers of 8 KiB and tasks of some KiB, for which the C library's allocator
/// has no cache of its own for each thread: it keeps what is below 1,033 bytes there.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

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
