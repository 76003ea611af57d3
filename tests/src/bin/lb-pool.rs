//! One server of the simulated Exchange pool. Prints `ready` when it listens; runs until it is ended.
//!
//! Not here: what it answers (`lb_tests::pool`). Started by `lb_tests::pool::Server` inside the lab, or by hand.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::Result;
use clap::Parser;
use lb_tests::pool::{self, Options};

/// A server that behaves on the wire like Exchange behind IIS.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    options: Options,
}

fn main() -> ExitCode {
    match run(Arguments::parse().options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lb-pool: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(pool::serve(options, || {
        let mut out = io::stdout();
        writeln!(out, "ready")?;
        Ok(out.flush()?)
    }))
}
