//! Many idle connections of one process, for `bench tcp`. Prints `open` when all are there; runs until it is ended.
//!
//! Not here: what each does first (`lb_tests::tcp_client`). The benchmark starts several, because a process can't have
//! as many open files as it wants connections.

use std::{
    io::{self, Write as _},
    process::ExitCode,
    thread,
};

use anyhow::Result;
use clap::Parser;
use lb_tests::tcp_client::Crowd;

/// Clients who stay.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    crowd: Crowd,
}

fn main() -> ExitCode {
    match run(&Arguments::parse().crowd) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lb-tcp-client: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(crowd: &Crowd) -> Result<()> {
    let open = crowd.open()?;
    let mut out = io::stdout();
    writeln!(out, "open {}", open.len())?;
    out.flush()?;
    loop {
        thread::park();
    }
}
