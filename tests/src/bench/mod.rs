//! `cargo xtask bench l7`: what a request costs through `lb`, nginx and HAProxy, and without any of them.
//!
//! Invariants: every contender has the same two servers, the same number of workers and the same load; runs are
//! interleaved, so that a machine that grows slower grows slower for all; a run that fails or answers anything but
//! 2xx is in the result, never left out. RPS on veth is never turned on: it halves the kernel's figures and so
//! flatters ours. Speed decides nothing here: the benchmark measures, it does not judge.
//!
//! | module | job |
//! |---|---|
//! | `case`, `contender` | what is measured, and who |
//! | `rig` | lab and pool; starts and stops contenders |
//! | `wrk`, `cpu`, `memory` | one measurement each |
//! | `stats`, `report` | medians, claims, JSON |
//! | `table`, `chart`, `page` | for people |
//! | `identity` | the other benchmark: `cargo xtask bench identity` |
//!
//! Called by the binary `lb-bench`, by the demo and by one test.

mod case;
mod chart;
mod contender;
mod cpu;
pub mod identity;
mod machine;
mod memory;
mod page;
mod report;
mod rig;
mod stats;
mod table;
pub(crate) mod wrk;

pub use self::{
    case::Case,
    contender::Contender,
    machine::Machine,
    page::page,
    report::{Cell, Errors, Failure, MemoryCell, Report, Sample, Settings, Show},
    rig::{Rig, Running},
    stats::Spread,
    table::table,
};
pub(crate) use self::{
    chart::figure,
    cpu::Window,
    page::{claims_table, escape},
    stats::float,
};

use std::time::Duration;

use anyhow::Result;

use crate::guard::Interrupts;

/// What to measure, and how long.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Cases, in this order.
    pub cases: Vec<Case>,
    /// Who is measured, in this order.
    pub contenders: Vec<Contender>,
    /// Runs of each contender in each case.
    pub rounds: u32,
    /// Length of one run.
    pub run: Duration,
    /// Idle connections of the memory measurement.
    pub idle_connections: u32,
}

/// Measures everything in the plan; `progress` gets one line per run.
///
/// Fails when the lab can't be made or the run is interrupted. A contender that doesn't start or a run that fails is
/// a [`Failure`] in the report.
pub fn run(plan: &Plan, interrupts: &Interrupts, progress: &dyn Fn(&str)) -> Result<Report> {
    let rig = Rig::start()?;
    let mut samples = Vec::new();
    let mut failures = Vec::new();
    for &case in &plan.cases {
        for round in 1..=plan.rounds {
            for &contender in &plan.contenders {
                interrupts.check()?;
                let line = match sample(&rig, case, contender, round, plan.run) {
                    Ok(sample) => {
                        let line = sample.to_string();
                        samples.push(sample);
                        line
                    }
                    Err(error) => {
                        interrupts.check()?;
                        let failure = Failure::new(case.title(), contender, round, &error);
                        let line = failure.to_string();
                        failures.push(failure);
                        line
                    }
                };
                progress(&line);
            }
        }
    }
    let mut memory = Vec::new();
    let balancers = plan
        .contenders
        .iter()
        .filter(|&&contender| contender != Contender::Direct);
    for &contender in balancers.filter(|_| plan.idle_connections > 0) {
        interrupts.check()?;
        let measured = memory::idle(&rig, contender, plan.idle_connections);
        let line = match measured {
            Ok(sample) => {
                let line = sample.to_string();
                memory.push(sample);
                line
            }
            Err(error) => {
                interrupts.check()?;
                let failure = Failure::new("idle connections", contender, 1, &error);
                let line = failure.to_string();
                failures.push(failure);
                line
            }
        };
        progress(&line);
    }
    let settings = Settings::of(plan);
    let machine = Machine::here()?;
    Ok(Report::new(machine, settings, samples, memory, failures))
}

/// One run: starts the contender, loads it, and stops it, so that no other one's sockets or programs are in its way.
pub fn sample(
    rig: &Rig,
    case: Case,
    contender: Contender,
    round: u32,
    length: Duration,
) -> Result<Sample> {
    let running = rig.run(contender)?;
    let window = Window::open()?;
    let counted = wrk::run(rig, case, contender, length)?;
    let busy = window.close()?;
    running.stop()?;
    Ok(Sample::new(case, contender, round, &counted, busy))
}
