//! The HTTP server of `bench tcp`, on kernel sockets or on our TCP. Prints `ready` when it listens; runs until it is
//! ended.
//!
//! Not here: what it answers (`lb_tests::tcp_server`). Started by the benchmark on the edge, or by hand there.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::Parser;
use lb_tests::tcp_server::{self, Options};

/// One service, two transports.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    options: Options,
}

fn main() -> ExitCode {
    let ready = || {
        let mut out = io::stdout();
        writeln!(out, "ready")?;
        Ok(out.flush()?)
    };
    match tcp_server::run(&Arguments::parse().options, ready) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lb-tcp-server: {error:#}");
            ExitCode::FAILURE
        }
    }
}
