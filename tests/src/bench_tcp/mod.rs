//! `cargo xtask bench tcp`: our TCP over `AF_XDP` against the kernel's, under the same HTTP service.
//!
//! Invariants: one program serves on both (`tcp_server`), pinned to one CPU, the load to another; runs are interleaved,
//! so that a machine that grows slower grows slower for all; what fails is in the result, never left out. RPS on veth is
//! never turned on: it halves the kernel's figures and so flatters ours. Speed decides nothing here.
//!
//! | module | job |
//! |---|---|
//! | `row` | loads and stacks: what is measured, and who |
//! | `rig`, `cpu` | lab and servers; whose CPU time is whose |
//! | `idle`, `flood` | the two rows that are no load of wrk |
//! | `report`, `claims` | medians, claims, JSON |
//! | `table`, `page` | for people |
//!
//! Called by the binary `lb-bench` and by one test.

mod claims;
mod cpu;
mod flood;
mod idle;
mod page;
mod report;
mod rig;
mod row;
mod table;

pub use self::{
    flood::FloodCell,
    idle::IdleCell,
    page::page,
    report::{Cell, Failure, Report, Sample},
    row::{Contender, Part, Row},
    table::table,
};

use std::{net::SocketAddr, process::Stdio, time::Duration};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use self::{
    cpu::Window,
    rig::{ADDRESS, Rig, Setup, counters, url},
};
use crate::{
    bench::{
        Machine, float,
        wrk::{self, Counted, Load},
    },
    binaries,
    guard::Interrupts,
    lab::Namespace,
    tcp_server::Service,
};

/// How much to run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sizes {
    /// Loads, in this order.
    pub rows: Vec<Row>,
    /// Who bears them, of those that each load is for.
    pub contenders: Vec<Contender>,
    /// Runs of each stack under each load.
    pub rounds: u32,
    /// Seconds of a run.
    pub seconds: u64,
    /// Runs of one sample at most, if other programs use the machine meanwhile.
    pub attempts: u32,
    /// Idle connections that are wanted; with 0 they are not measured.
    pub idle: u32,
    /// Clients beside the flood; with 0 there is none.
    pub flood_clients: u32,
    /// Megabytes that each of them fetches.
    pub flood_megabytes: u32,
    /// Seconds that each of them waits for a step beside it.
    pub flood_patience: u64,
}

impl Sizes {
    /// What the claims are about. Takes about 15 minutes.
    pub fn full() -> Self {
        Self {
            rows: Row::ALL.into(),
            contenders: Contender::ALL.into(),
            rounds: 5,
            seconds: 3,
            attempts: 3,
            idle: 100_000,
            flood_clients: 100,
            flood_megabytes: 16,
            flood_patience: 60,
        }
    }

    /// A look at the same tables, not a result.
    pub fn quick() -> Self {
        Self {
            rounds: 1,
            seconds: 2,
            idle: 5_000,
            flood_megabytes: 1,
            flood_patience: 20,
            ..Self::full()
        }
    }

    /// Enough to see that each kind of row and every stack gives a figure.
    pub fn tiny() -> Self {
        Self {
            rows: vec![
                Row::KeepAlive,
                Row::CloseRush,
                Row::Body64K,
                Row::Body1MLoss10,
            ],
            seconds: 1,
            attempts: 1,
            idle: 1_500,
            flood_clients: 10,
            flood_patience: 2,
            ..Self::quick()
        }
    }

    /// The same, without what is not among these; none of them leave it as it is.
    #[must_use]
    pub fn only(mut self, parts: &[Part], contenders: &[Contender]) -> Self {
        if !parts.is_empty() {
            self.rows.retain(|row| parts.contains(&Part::Row(*row)));
            if !parts.contains(&Part::Idle) {
                self.idle = 0;
            }
            if !parts.contains(&Part::Flood) {
                self.flood_clients = 0;
            }
        }
        if !contenders.is_empty() {
            self.contenders = contenders.into();
        }
        self
    }

    /// Those that are to run.
    fn of<'a>(&'a self, candidates: &'a [Contender]) -> impl Iterator<Item = Contender> + 'a {
        let wanted = |contender: &Contender| self.contenders.contains(contender);
        candidates.iter().copied().filter(wanted)
    }

    const fn holders(&self) -> &'static [Contender] {
        if self.idle == 0 {
            &[]
        } else {
            &idle::CONTENDERS
        }
    }

    const fn flooded(&self) -> &'static [Contender] {
        if self.flood_clients == 0 {
            &[]
        } else {
            &flood::CONTENDERS
        }
    }
}

/// Measures everything; `progress` gets a line per run. Needs root and two CPUs.
///
/// Fails when the lab can't be made or the run is interrupted; what a stack fails at is in the report.
pub fn run(
    sizes: &Sizes,
    interrupts: &Interrupts,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<Report> {
    let rig = Rig::start()?;
    let mut report = Report::new(Machine::here()?, sizes.clone(), &rig.host_congestion);
    for &row in &sizes.rows {
        for round in 1..=sizes.rounds {
            for contender in sizes.of(row.contenders()) {
                interrupts.check()?;
                let sample = quiet_sample(&rig, row, contender, round, sizes);
                interrupts.check()?;
                progress(&report.add(row.title(), contender, sample));
            }
        }
    }
    for contender in sizes.of(sizes.holders()) {
        interrupts.check()?;
        let held = idle::run(&rig, contender, sizes.idle);
        interrupts.check()?;
        progress(&report.add_idle(contender, held));
    }
    for contender in sizes.of(sizes.flooded()) {
        interrupts.check()?;
        let flooded = flood::run(&rig, contender, sizes);
        interrupts.check()?;
        progress(&report.add_flood(contender, flooded));
    }
    report.conclude();
    Ok(report)
}

/// A sample during which nobody else used the machine, if one of a few is; else the one with the least of others in it.
fn quiet_sample(
    rig: &Rig,
    row: Row,
    contender: Contender,
    round: u32,
    sizes: &Sizes,
) -> Result<Sample> {
    let mut best = sample(rig, row, contender, round, sizes.seconds)?;
    for _ in 1..sizes.attempts {
        if best.others <= QUIET {
            break;
        }
        let again = sample(rig, row, contender, round, sizes.seconds)?;
        if again.others < best.others {
            best = again;
        }
    }
    Ok(best)
}

/// One run: starts the server, loads it, and ends it, so that no other one's sockets or programs are in its way.
fn sample(rig: &Rig, row: Row, contender: Contender, round: u32, seconds: u64) -> Result<Sample> {
    let server = rig.serve(Setup {
        contender,
        service: Service::Hyper,
        permille: row.permille(),
        seed: round.into(),
        max_flows: None,
    })?;
    let window = Window::open(rig.cpus)?;
    let counted = load(rig, row, seconds)?;
    let used = window.close()?;
    let counters = counters().unwrap_or_default();
    let wire = server.wire.as_ref().map(crate::lossy::Lossy::traffic);
    let wire = wire.transpose()?;
    server.stop()?;
    let requests = float(counted.requests);
    Ok(Sample {
        row,
        contender,
        round,
        requests: counted.requests,
        requests_per_second: requests / (float(counted.duration_us) / 1e6),
        server_cpu_us: (counted.requests > 0).then(|| used.server.as_secs_f64() * 1e6 / requests),
        p50_us: counted.p50_us,
        p99_us: counted.p99_us,
        errors: counted.errors,
        segments_seen: wire.map(|traffic| traffic.seen),
        segments_lost: wire.map(|traffic| traffic.lost),
        others: used.others,
        counters,
    })
}

/// Asks for answers; what came of it.
fn load(rig: &Rig, row: Row, seconds: u64) -> Result<Counted> {
    let client = rig.lab.client();
    if row.is_rush() {
        return rush(&client, rig.cpus.client, row, seconds);
    }
    let load = Load {
        url: url(&format!("bench/{}", row.body())),
        targets: &[],
        threads: 1,
        connections: row.connections(),
        field: row.field(),
        length: Duration::from_secs(seconds),
        cpu: Some(rig.cpus.client),
    };
    load.run(&client, rig.directory())
}

/// Asks by the client that does nothing but open connections.
fn rush(client: &Namespace, cpu: usize, row: Row, seconds: u64) -> Result<Counted> {
    let program = binaries::sibling("lb-tcp-client")?;
    let mut process = client.spawn("taskset", |command| {
        command
            .args(["--cpu-list", &cpu.to_string()])
            .arg(program)
            .arg("rush")
            .args(["--to", &SocketAddr::from(ADDRESS).to_string()])
            .args(["--connections", &row.connections().to_string()])
            .args(["--body", &row.body().to_string()])
            .args(["--seconds", &seconds.to_string()])
            .stdout(Stdio::piped());
    })?;
    let result = process.wait_for_line("{").context("running the client")?;
    wrk::parse(&result.0)
}

/// Share of others in a run that is taken as it is.
const QUIET: f64 = 0.05;
