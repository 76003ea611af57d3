//! `soak`: the TCP simulator, users in front of a pool whose servers die, connections that move to the kernel, daemons that take
//! each other's place, or whole streams of 1 GiB, for as long as one likes, with other seeds than those of every test.
//!
//! Seeds begin where the clock says, so that no two soaks are the same, and each failure names the command that repeats it.

use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};

use crate::{command, lab};

/// What to soak, and for how long.
#[derive(Args)]
pub(crate) struct Options {
    /// What runs.
    #[arg(value_enum)]
    what: What,
    /// At least so many minutes.
    #[arg(long, value_name = "N", default_value_t = 10)]
    minutes: u64,
    /// The first seed.
    #[arg(long, value_name = "SEED")]
    first: Option<u64>,
}

/// What can be soaked.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum What {
    /// Two ends of a simulated link: `lb-userspace/tcp/tests/sim`.
    Tcp,
    /// Fifty users with every kind of login, 100,000 requests a round and transport: `tests/src/soak`. Needs root.
    Identity,
    /// 10,000 connections a round that move to the kernel in mid-transfer: `tests/src/moves`. Needs root.
    Moves,
    /// 50 daemons a round and transport that take each other's place under load: `tests/src/upgrade`. Needs root.
    Upgrade,
    /// RPC channels that carry the 1 GiB that they declare, and the memory of the daemon: `tests/src/stream.rs`. Needs root.
    Stream,
}

/// Seeds of a round, for each fault. Some tens of seconds.
const ROUND: u64 = 1000;

/// Runs the command.
///
/// # Errors
/// A run failed.
pub(crate) fn run(options: &Options) -> Result<()> {
    match options.what {
        What::Tcp => tcp(options),
        What::Identity => in_lab("identity", options),
        What::Moves => in_lab("moves", options),
        What::Upgrade => without_seed("upgrade", options),
        What::Stream => without_seed("stream", options),
    }
}

/// Ends as `lb-soak` does.
fn in_lab(what: &str, options: &Options) -> Result<()> {
    let first = options.first.map_or_else(seed_of_now, Ok)?.to_string();
    let minutes = options.minutes.to_string();
    let words = [what, "--minutes", &minutes, "--first", &first];
    lab::run("lb-soak", &lab::Arguments::new(&words))
}

/// There is no chance in it, and so no seed.
fn without_seed(what: &str, options: &Options) -> Result<()> {
    let minutes = options.minutes.to_string();
    lab::run(
        "lb-soak",
        &lab::Arguments::new(&[what, "--minutes", &minutes]),
    )
}

fn tcp(options: &Options) -> Result<()> {
    let end = Instant::now() + Duration::from_mins(options.minutes);
    let mut first = options.first.map_or_else(seed_of_now, Ok)?;
    while Instant::now() < end {
        let mut cargo = command::cargo();
        cargo
            .args(["test", "--locked", "-p", "lb-tcp", "--test", "sim"])
            // What smoltcp doesn't survive with itself is nothing of ours.
            .args(["--", "--skip", "smoltcp_with_itself"])
            .env("LB_SIM_FIRST", first.to_string())
            .env("LB_SIM_SEEDS", ROUND.to_string());
        command::run(&mut cargo)?;
        first += ROUND;
    }
    Ok(())
}

/// Far from those that `cargo test` takes.
fn seed_of_now() -> Result<u64> {
    let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Ok(time.context("the clock is before 1970")?.as_secs() * ROUND)
}
