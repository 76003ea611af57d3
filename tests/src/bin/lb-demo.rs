//! `lb-demo`: called by `cargo xtask demo`, which installs and builds all that it needs.
//!
//! Not here: the story (`lb_tests::demo`). Exit code 0 only if every outcome was what it should be.

#![expect(clippy::print_stdout, reason = "the demo is what it prints")]

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use lb_tests::{
    demo,
    guard::{INTERRUPTED, Interrupts},
    preflight,
};

/// Shows lb in front of a simulated Exchange pool: the article both ways, SMTP on layer 4, and wrk.
#[derive(Parser)]
#[command(bin_name = "cargo xtask demo")]
struct Arguments;

fn main() -> ExitCode {
    let interrupts = match Interrupts::install() {
        Ok(interrupts) => interrupts,
        Err(error) => return fail(&error),
    };
    let Arguments = Arguments::parse();
    match play(&interrupts) {
        Ok(wrong) if wrong.is_empty() => {
            println!("\nAll outcomes were what they should be. The lab is gone again.");
            ExitCode::SUCCESS
        }
        Ok(wrong) => {
            println!("\nNot what it should be:");
            for outcome in wrong {
                println!("  {outcome}");
            }
            ExitCode::FAILURE
        }
        Err(_) if interrupts.wanted() => {
            eprintln!("interrupted; the lab is removed");
            ExitCode::from(INTERRUPTED)
        }
        Err(error) => fail(&error),
    }
}

fn play(interrupts: &Interrupts) -> Result<Vec<String>> {
    preflight::check(preflight::LAB_TOOLS)?;
    demo::run(interrupts)
}

fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("lb-demo: {error:#}");
    ExitCode::FAILURE
}
