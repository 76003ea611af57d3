//! `lb-bench l4` and `lb-bench l7`, the benchmarks of both layers, `lb-bench tcp`, `lb-bench handover` and
//! `lb-bench identity`; called by `cargo xtask bench`, which builds all that they need.
//!
//! Not here: what is measured (`lb_tests::bench_l4`, `lb_tests::bench`, `lb_tests::bench_tcp`,
//! `lb_tests::bench_handover`). Progress goes to standard error, the table to standard output, JSON and page to
//! files. Exit code 0 even where a claim doesn't hold: it measures, it does not judge.

#![expect(clippy::print_stdout, reason = "the answer of a command line tool")]

use std::{env, fs, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand};
use lb_tests::{
    bench::{self, Case, Contender, Plan},
    bench_handover,
    bench_l4::{self, Sizes},
    bench_tcp,
    guard::{INTERRUPTED, Interrupts},
    preflight,
};

/// Benchmarks of lb.
#[derive(Parser)]
#[command(bin_name = "cargo xtask bench")]
struct Arguments {
    #[command(subcommand)]
    benchmark: Benchmark,
}

#[derive(Subcommand)]
enum Benchmark {
    /// What a packet costs in the XDP program, and how many a second it forwards over veth.
    L4(L4Options),
    /// wrk through lb (`AF_XDP` and kernel sockets), nginx and HAProxy, and without a balancer.
    L7(Options),
    /// Our TCP over `AF_XDP` against the kernel's, under the same HTTP service.
    Tcp(TcpOptions),
    /// `transport = "auto"` against `af_xdp` and `kernel`, from 1 KB to 4 MB.
    Handover(HandoverOptions),
    /// Users with connection-bound logins through lb, nginx and HAProxy: who gets answers as someone else?
    Identity(IdentityOptions),
}

#[derive(Args)]
struct Options {
    /// One round of short runs: a look, not a result.
    #[arg(long, conflicts_with_all = ["rounds", "seconds"])]
    quick: bool,
    /// Runs of each contender in each case.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=50))]
    rounds: u32,
    /// Seconds of a run.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// These loads alone; the result goes to l7-part.json and l7-part.html, beside that of all.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Case>,
    /// These contenders alone, likewise.
    #[arg(long, value_enum, value_delimiter = ',')]
    contenders: Vec<Contender>,
    /// Idle connections of the memory measurement; 0 leaves it out.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(0..=20_000))]
    idle: u32,
    /// Directory for l7.json and l7.html [default: `bench` in the target directory].
    #[arg(long)]
    out: Option<PathBuf>,
}

#[derive(Args)]
struct L4Options {
    /// Few and short runs: a look, not a result.
    #[arg(long)]
    quick: bool,
    /// Directory for l4.json and l4.html [default: `bench` in the target directory].
    #[arg(long)]
    out: Option<PathBuf>,
}

#[derive(Args)]
struct TcpOptions {
    /// One round of short runs, and fewer connections: a look, not a result.
    #[arg(long, conflicts_with_all = ["rounds", "seconds", "idle"])]
    quick: bool,
    /// Runs of each stack under each load.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=50))]
    rounds: u32,
    /// Seconds of a run.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// Idle connections.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    idle: u32,
    /// These loads alone; the result goes to tcp-part.json and tcp-part.html, beside that of all.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<bench_tcp::Part>,
    /// These stacks alone, likewise.
    #[arg(long, value_enum, value_delimiter = ',')]
    contenders: Vec<bench_tcp::Contender>,
    /// Directory for tcp.json and tcp.html [default: `bench` in the target directory].
    #[arg(long)]
    out: Option<PathBuf>,
}

#[derive(Args)]
struct HandoverOptions {
    /// One round: a look, not a result.
    #[arg(long, conflicts_with_all = ["rounds", "seconds"])]
    quick: bool,
    /// Runs of each transport under each load; multiples of six have every order equally often.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=60))]
    rounds: u32,
    /// Seconds of a run.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// These loads alone, such as `64k,one-shot`; the result goes to handover-part.json and handover-part.html, beside
    /// that of all.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<bench_handover::Part>,
    /// Directory for handover.json and handover.html [default: `bench` in the target directory].
    #[arg(long)]
    out: Option<PathBuf>,
}

#[derive(Args)]
struct IdentityOptions {
    /// Users' requests through each proxy, in front of each size of pool.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    requests: u32,
    /// Directory for identity.json [default: `bench` in the target directory].
    #[arg(long)]
    out: Option<PathBuf>,
}

fn main() -> ExitCode {
    let interrupts = match Interrupts::install() {
        Ok(interrupts) => interrupts,
        Err(error) => return fail(&error),
    };
    let done = match Arguments::parse().benchmark {
        Benchmark::L4(options) => l4(options, &interrupts),
        Benchmark::L7(options) => l7(options, &interrupts),
        Benchmark::Tcp(options) => tcp(options, &interrupts),
        Benchmark::Handover(options) => handover(options, &interrupts),
        Benchmark::Identity(options) => identity(options, &interrupts),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) if interrupts.wanted() => ExitCode::from(INTERRUPTED),
        Err(error) => fail(&error),
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("lb-bench: {error:#}");
    ExitCode::FAILURE
}

fn l4(options: L4Options, interrupts: &Interrupts) -> Result<()> {
    check_machine()?;
    preflight::check(&["nft"])?;
    let directory = directory(options.out)?;
    let sizes = if options.quick {
        Sizes::quick()
    } else {
        Sizes::full()
    };
    let report = bench_l4::run(&sizes?, interrupts, &|line| eprintln!("{line}"))?;
    let (json, html) = (directory.join("l4.json"), directory.join("l4.html"));
    fs::write(&json, serde_json::to_vec_pretty(&report)?)
        .with_context(|| format!("writing {}", json.display()))?;
    fs::write(&html, bench_l4::page(&report))
        .with_context(|| format!("writing {}", html.display()))?;
    println!("\nwritten: {}, {}\n", json.display(), html.display());
    print!("{}", bench_l4::table(&report));
    Ok(())
}

fn l7(options: Options, interrupts: &Interrupts) -> Result<()> {
    check_machine()?;
    let (rounds, seconds) = if options.quick {
        (1, 2)
    } else {
        (options.rounds, options.seconds)
    };
    let directory = directory(options.out)?;
    let all = options.only.is_empty() && options.contenders.is_empty();
    let or_all = |some: Vec<Case>| {
        if some.is_empty() {
            Case::ALL.into()
        } else {
            some
        }
    };
    let contenders = if options.contenders.is_empty() {
        Contender::ALL.into()
    } else {
        options.contenders
    };
    let plan = Plan {
        cases: or_all(options.only),
        contenders,
        rounds,
        run: Duration::from_secs(seconds),
        idle_connections: options.idle,
    };
    let report = bench::run(&plan, interrupts, &|line| eprintln!("{line}"))?;
    let json = directory.join(if all { "l7.json" } else { "l7-part.json" });
    let html = json.with_extension("html");
    fs::write(&json, serde_json::to_vec_pretty(&report)?)
        .with_context(|| format!("writing {}", json.display()))?;
    fs::write(&html, bench::page(&report))
        .with_context(|| format!("writing {}", html.display()))?;
    println!("\nwritten: {}, {}\n", json.display(), html.display());
    print!("{}", bench::table(&report));
    Ok(())
}

fn tcp(options: TcpOptions, interrupts: &Interrupts) -> Result<()> {
    check_machine()?;
    preflight::check(&["taskset"])?;
    let directory = directory(options.out)?;
    let sizes = if options.quick {
        bench_tcp::Sizes::quick()
    } else {
        bench_tcp::Sizes {
            rounds: options.rounds,
            seconds: options.seconds,
            idle: options.idle,
            ..bench_tcp::Sizes::full()
        }
    };
    let name = if options.only.is_empty() && options.contenders.is_empty() {
        "tcp"
    } else {
        "tcp-part"
    };
    let sizes = sizes.only(&options.only, &options.contenders);
    let report = bench_tcp::run(&sizes, interrupts, &|line| eprintln!("{line}"))?;
    let json = directory.join(name).with_extension("json");
    let html = json.with_extension("html");
    fs::write(&json, serde_json::to_vec_pretty(&report)?)
        .with_context(|| format!("writing {}", json.display()))?;
    fs::write(&html, bench_tcp::page(&report))
        .with_context(|| format!("writing {}", html.display()))?;
    println!("\nwritten: {}, {}\n", json.display(), html.display());
    print!("{}", bench_tcp::table(&report));
    Ok(())
}

fn handover(options: HandoverOptions, interrupts: &Interrupts) -> Result<()> {
    check_machine()?;
    let directory = directory(options.out)?;
    let sizes = if options.quick {
        bench_handover::Sizes::quick(&options.only)
    } else {
        bench_handover::Sizes {
            rounds: options.rounds,
            seconds: options.seconds,
            ..bench_handover::Sizes::full(&options.only)
        }
    };
    let name = if options.only.is_empty() {
        "handover"
    } else {
        "handover-part"
    };
    let report = bench_handover::run(&sizes, interrupts, &|line| eprintln!("{line}"))?;
    let json = directory.join(name).with_extension("json");
    let html = json.with_extension("html");
    fs::write(&json, serde_json::to_vec_pretty(&report)?)
        .with_context(|| format!("writing {}", json.display()))?;
    fs::write(&html, bench_handover::page(&report))
        .with_context(|| format!("writing {}", html.display()))?;
    println!("\nwritten: {}, {}\n", json.display(), html.display());
    print!("{}", bench_handover::table(&report));
    Ok(())
}

fn identity(options: IdentityOptions, interrupts: &Interrupts) -> Result<()> {
    check_machine()?;
    let json = directory(options.out)?.join("identity.json");
    let progress = |line: &str| eprintln!("{line}");
    let report = bench::identity::run(options.requests, interrupts, &progress)?;
    fs::write(&json, serde_json::to_vec_pretty(&report)?)
        .with_context(|| format!("writing {}", json.display()))?;
    println!("\nwritten: {}\n", json.display());
    print!("{}", report.table());
    Ok(())
}

fn check_machine() -> Result<()> {
    let tools: Vec<&str> = [preflight::LAB_TOOLS, &["nginx", "haproxy"]].concat();
    preflight::check(&tools)
}

fn directory(wanted: Option<PathBuf>) -> Result<PathBuf> {
    let directory = wanted.map_or_else(default_directory, Ok)?;
    fs::create_dir_all(&directory).with_context(|| format!("making {}", directory.display()))?;
    Ok(directory)
}

/// This program is in `<target directory>/<profile>`.
fn default_directory() -> Result<PathBuf> {
    let program = env::current_exe().context("asking for the path of this program")?;
    let target = program.ancestors().nth(2);
    Ok(target
        .context("no target directory above this program")?
        .join("bench"))
}
