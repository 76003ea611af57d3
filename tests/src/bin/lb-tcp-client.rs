//! Clients of `bench tcp` on the kernel's TCP. `stay`: many idle connections; prints `open` when all are there and runs until it is
//! ended. `rush`: a connection for each request; prints a line of JSON at its end.
//!
//! Not here: what a connection does (`lb_tests::tcp_client`, `lb_tests::tcp_rush`). The benchmark starts several that stay, because a
//! process can't have as many open files as it wants connections.

use std::{
    io::{self, Write as _},
    process::ExitCode,
    thread,
};

use anyhow::Result;
use clap::{Parser, Subcommand};
use lb_tests::{tcp_client::Crowd, tcp_rush::Rush};

/// Clients on the kernel's TCP.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    clients: Clients,
}

#[derive(Subcommand)]
enum Clients {
    /// Open connections and keep them.
    Stay(Crowd),
    /// Open a connection for each request.
    Rush(Rush),
}

fn main() -> ExitCode {
    match run(&Arguments::parse().clients) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lb-tcp-client: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(clients: &Clients) -> Result<()> {
    match clients {
        Clients::Rush(rush) => print(&serde_json::to_string(&rush.run()?)?),
        Clients::Stay(crowd) => {
            let open = crowd.open()?;
            print(&format!("open {}", open.len()))?;
            loop {
                thread::park();
            }
        }
    }
}

fn print(line: &str) -> Result<()> {
    let mut out = io::stdout();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
