//! `lb-soak identity`: many users for a long time, and nobody is ever somebody else. `lb-soak moves`: many connections that move to
//! the kernel in mid-transfer, and nobody notices. `lb-soak upgrade`: daemons that take each other's place. `lb-soak stream`: 1 GiB
//! both ways through one RPC connection. Called by `cargo xtask soak`.
//!
//! Not here: what they do (`lb_tests::soak`, `lb_tests::moves`, `lb_tests::upgrade`, `lb_tests::stream`). A line for each run on standard output. Exit code 1 if anything was wrong;
//! the seed in the line makes the same users do the same again.

#![expect(clippy::print_stdout, reason = "the answer of a command line tool")]

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};
use lb_tests::{
    edge::Edge,
    guard::{INTERRUPTED, Interrupts},
    moves::{self, Conditions, request::Order},
    preflight,
    soak::{self, Plan},
    stream,
    upgrade::{self, Transport},
};

/// Long runs of lb in a lab.
#[derive(Parser)]
#[command(bin_name = "cargo xtask soak")]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Fifty users with every kind of login on three servers that die now and then.
    Identity(Options),
    /// Uploads, downloads and echoes at full rate in both families, each of which moves.
    Moves(MovesOptions),
    /// Daemons that take each other's place under mixed load.
    Upgrade(UpgradeOptions),
    /// An RPC connection whose channels carry all that they declare, and the daemon's memory meanwhile.
    Stream(StreamOptions),
}

#[derive(clap::Args)]
struct Options {
    /// Requests of a run; there is one on each transport.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    requests: u64,
    /// Deaths of servers in a run.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(0..=1000))]
    deaths: u64,
    /// The first seed; every further round has the next.
    #[arg(long, default_value_t = 2015)]
    first: u64,
    /// Rounds are begun for so many minutes; one in any case.
    #[arg(long, default_value_t = 0)]
    minutes: u64,
}

#[derive(clap::Args)]
struct MovesOptions {
    /// Moves of a round, over all conditions.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(10..=10_000_000))]
    moves: u32,
    /// The first seed; every further round has the next.
    #[arg(long, default_value_t = 793)]
    first: u64,
    /// Rounds are begun for so many minutes; one in any case.
    #[arg(long, default_value_t = 0)]
    minutes: u64,
}

#[derive(clap::Args)]
struct UpgradeOptions {
    /// Upgrades of a run; there is one on each transport.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    upgrades: u32,
    /// MiB of each long transfer.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1024))]
    mib: u32,
    /// Rounds are begun for so many minutes; one in any case.
    #[arg(long, default_value_t = 0)]
    minutes: u64,
}

#[derive(clap::Args)]
struct StreamOptions {
    /// MiB of each channel.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..=1024))]
    mib: u64,
    /// Rounds are begun for so many minutes; one in any case.
    #[arg(long, default_value_t = 0)]
    minutes: u64,
}

/// KiB that a stream may cost.
const STREAM_MEMORY: u64 = 1000;

/// What a client may do without.
const OFF: [&[&str]; 5] = [
    &[],
    &["tcp_timestamps"],
    &["tcp_sack"],
    &["tcp_window_scaling"],
    &["tcp_timestamps", "tcp_sack", "tcp_window_scaling"],
];

/// Losses, in thousandths.
const LOSS: [u32; 2] = [0, 1];

fn main() -> ExitCode {
    let interrupts = match Interrupts::install() {
        Ok(interrupts) => interrupts,
        Err(error) => return fail(&error),
    };
    let done = match Arguments::parse().what {
        What::Identity(options) => identity(&options, &interrupts),
        What::Moves(options) => moves(&options, &interrupts),
        What::Upgrade(options) => upgrade(&options, &interrupts),
        What::Stream(options) => stream(&options, &interrupts),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) if interrupts.wanted() => ExitCode::from(INTERRUPTED),
        Err(error) => fail(&error),
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("lb-soak: {error:#}");
    ExitCode::FAILURE
}

fn identity(options: &Options, interrupts: &Interrupts) -> Result<()> {
    preflight::check(preflight::LAB_TOOLS)?;
    let end = Instant::now() + Duration::from_secs(options.minutes * 60);
    let mut seed = options.first;
    loop {
        for transport in ["af_xdp", "kernel"] {
            let plan = Plan {
                requests: options.requests,
                seed,
                transport,
                deaths: options.deaths,
            };
            let started = Instant::now();
            let found = soak::identity(plan, interrupts)?;
            let seconds = started.elapsed().as_secs();
            println!("{transport}, seed {seed}, {seconds} s: {found}");
            if !found.wrong.is_empty() {
                bail!("{}", found.wrong.join("\n"));
            }
        }
        seed += 1;
        if Instant::now() >= end {
            return Ok(());
        }
    }
}

fn upgrade(options: &UpgradeOptions, interrupts: &Interrupts) -> Result<()> {
    preflight::check(preflight::LAB_TOOLS)?;
    let end = Instant::now() + Duration::from_secs(options.minutes * 60);
    loop {
        for transport in [Transport::AfXdp, Transport::Auto, Transport::Kernel] {
            let plan = upgrade::Plan {
                upgrades: options.upgrades,
                failures: 0,
                transport,
                size: usize::try_from(options.mib)? << 20,
            };
            let started = Instant::now();
            let outcome = upgrade::run(plan, || interrupts.check())?;
            let seconds = started.elapsed().as_secs();
            println!("{transport:?}, {seconds} s: {outcome}");
            if !outcome.found.failed.is_empty() {
                bail!("{}", outcome.found.failed.join("\n"));
            }
        }
        if Instant::now() >= end {
            return Ok(());
        }
    }
}

fn stream(options: &StreamOptions, interrupts: &Interrupts) -> Result<()> {
    preflight::check(preflight::LAB_TOOLS)?;
    let end = Instant::now() + Duration::from_secs(options.minutes * 60);
    let edge = Edge::start_measured()?;
    loop {
        for front in &edge.fronts {
            interrupts.check()?;
            let streamed = stream::through(&edge, front, options.mib << 20)?;
            println!("{}: {streamed}", front.transport);
            if streamed.growth.peak > STREAM_MEMORY {
                bail!("more than {STREAM_MEMORY} KiB");
            }
        }
        if Instant::now() >= end {
            return Ok(());
        }
    }
}

fn moves(options: &MovesOptions, interrupts: &Interrupts) -> Result<()> {
    preflight::check(preflight::LAB_TOOLS)?;
    let end = Instant::now() + Duration::from_secs(options.minutes * 60);
    let cases = OFF.len() * LOSS.len();
    let connections = options.moves.div_ceil(u32::try_from(cases)?);
    let mut seed = options.first;
    loop {
        let mut moved = 0;
        for off in OFF {
            for permille in LOSS {
                let plan = moves::Plan {
                    connections,
                    order: Order::Right,
                    conditions: Conditions {
                        permille,
                        seed,
                        off,
                        ..Conditions::default()
                    },
                };
                let found = moves::crowd(plan, interrupts)?;
                println!("seed {seed}, {permille} permille lost, without {off:?}: {found}");
                found.check(connections)?;
                moved += found.moved;
            }
        }
        println!("seed {seed}: {moved} moves, nobody noticed");
        seed += 1;
        if Instant::now() >= end {
            return Ok(());
        }
    }
}
