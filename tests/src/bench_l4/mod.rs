//! `cargo xtask bench l4`: what a packet costs in the XDP program, and how many a second it forwards over veth.
//!
//! Invariants: the program under test is the product's object, unchanged; a sample counts only if every packet got the
//! verdict that it was sent for; runs are interleaved, so that a machine that grows slower grows slower for all.
//! Speed decides nothing here: the benchmark measures, it does not judge.
//!
//! | module | job |
//! |---|---|
//! | `rows` | modes and packets: what is measured |
//! | `kernel`, `wrapper` | the program under test, and what runs it a million times |
//! | `measure`, `load` | nanoseconds per packet |
//! | `road` | packets per second between namespaces |
//! | `connections` | whole TCP connections, through HAProxy as well |
//! | `report`, `claims` | medians, claims, JSON |
//! | `table`, `page` | for people |
//!
//! Called by the binary `lb-bench` and by one test.

mod claims;
mod connections;
mod kernel;
mod load;
mod measure;
mod page;
mod report;
mod road;
mod rows;
mod table;
mod wrapper;

pub use self::{
    claims::{Comparison, Flood},
    connections::{ConnectionSample, Way},
    page::page,
    report::{Cell, ConnectionCell, Fact, Report, RoadCell, RoadSample, Sample},
    road::Road,
    table::table,
};
pub(crate) use self::{
    page::{Bar, plot},
    road::{link, sending_to, xdp},
};

use std::thread;

use anyhow::{Context as _, Result};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};

use crate::{
    bench::{Case, Machine},
    guard::Interrupts,
};

/// How much to run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sizes {
    /// Runs of each load.
    pub rounds: u32,
    /// Packets of a run.
    pub repeat: u32,
    /// Packets of a run in which each opens a flow.
    pub opened: u32,
    /// Numbers of flows, ascending powers of two; the last is what the table is made for.
    pub flows: [u32; 3],
    /// Sets of the flow table: a power of two.
    pub sets: u32,
    /// SYNs of the flood.
    pub flood: u32,
    /// Live flows beside it.
    pub beside: u32,
    /// Runs of each forwarder between namespaces.
    pub road_rounds: u32,
    /// Packets of each.
    pub road_packets: u32,
    /// Loads of whole connections.
    pub connection_cases: Vec<Case>,
    /// Runs of each through each balancer.
    pub connection_rounds: u32,
    /// Seconds of a run.
    pub connection_seconds: u64,
    /// CPU that everything else runs on.
    pub cpu: usize,
}

impl Sizes {
    /// What the claims are about: a table of lb's default size. Takes some minutes and 2.1 GB.
    pub fn full() -> Result<Self> {
        Ok(Self {
            rounds: 15,
            repeat: 1_000_000,
            opened: 50_000,
            flows: [1, 1 << 16, 1 << 20],
            sets: 1 << 20,
            flood: 10_000_000,
            beside: 10_000,
            road_rounds: 7,
            road_packets: 1_000_000,
            connection_cases: vec![Case::KeepAlive, Case::PerRequest],
            connection_rounds: 5,
            connection_seconds: 2,
            cpu: last_cpu()?,
        })
    }

    /// A look at the same tables, not a result.
    pub fn quick() -> Result<Self> {
        Ok(Self {
            rounds: 3,
            repeat: 200_000,
            road_rounds: 2,
            road_packets: 200_000,
            connection_rounds: 1,
            ..Self::full()?
        })
    }

    /// Enough to fill every cell of the report with something.
    pub fn tiny() -> Result<Self> {
        Ok(Self {
            rounds: 1,
            repeat: 2_000,
            opened: 500,
            flows: [1, 64, 1024],
            sets: 1024,
            flood: 5_000,
            beside: 100,
            road_rounds: 1,
            road_packets: 5_000,
            connection_cases: vec![Case::KeepAlive],
            connection_rounds: 1,
            connection_seconds: 1,
            ..Self::full()?
        })
    }
}

/// Measures everything; `progress` gets a line now and then. Needs root and about 2.1 GB of memory at full size.
pub fn run(
    sizes: &Sizes,
    interrupts: &Interrupts,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<Report> {
    let measured = pinned(sizes.cpu, || measure::run(sizes, interrupts, progress))
        .context("measuring nanoseconds")?;
    let roads = road::run(sizes, interrupts, progress)?;
    // What took minutes to measure is not thrown away for the last table.
    let connections = connections::run(sizes, interrupts, progress).unwrap_or_else(|error| {
        progress(&format!("whole connections are left out: {error:#}"));
        Vec::new()
    });
    let machine = Machine::here()?;
    Ok(Report::new(
        machine,
        sizes.clone(),
        measured,
        roads,
        connections,
    ))
}

/// Calls `work` on a thread that stays on one CPU.
pub(crate) fn pinned<T: Send>(cpu: usize, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let work = || {
        let mut cpus = CpuSet::new();
        cpus.set(cpu)?;
        sched_setaffinity(Pid::from_raw(0), &cpus).with_context(|| format!("taking CPU {cpu}"))?;
        work()
    };
    thread::scope(|scope| match scope.spawn(work).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

/// The first one often serves interrupts as well.
fn last_cpu() -> Result<usize> {
    let mine = sched_getaffinity(Pid::from_raw(0)).context("asking which CPUs are ours")?;
    let is_ours = |cpu: &usize| mine.is_set(*cpu).unwrap_or(false);
    (0..CpuSet::count())
        .rev()
        .find(is_ours)
        .context("no CPU is ours")
}
