//! The result: every sample as it was, what follows from them, and which claims of this project held.
//!
//! Invariant: [`Report::new`] computes medians and claims from the samples in the same report and from nothing else,
//! so whoever has the JSON can check them. Not here: how it looks (`table`, `page`).

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    Case, Contender, Plan,
    contender::SERVERS,
    cpu::Busy,
    machine::Machine,
    stats::{Spread, float},
    wrk::Counted,
};

/// Everything that `target/bench/l7.json` holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Name of the benchmark: `l7`.
    pub name: String,
    /// Where it ran.
    pub machine: Machine,
    /// What was run.
    pub settings: Settings,
    /// Share of all busy time that processes outside of the benchmark took, 0 to 1.
    pub other_work: f64,
    /// One entry per claim.
    pub shows: Vec<Show>,
    /// One entry per case and contender.
    pub medians: Vec<Cell>,
    /// One entry per balancer.
    pub memory: Vec<MemoryCell>,
    /// Every run.
    pub samples: Vec<Sample>,
    /// Runs without a result.
    pub failures: Vec<Failure>,
}

/// What was run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settings {
    /// Cases.
    pub cases: Vec<Case>,
    /// Who was measured.
    pub contenders: Vec<Contender>,
    /// Runs of each contender in each case.
    pub rounds: u32,
    /// Length of a run.
    pub seconds: u64,
    /// Idle connections of the memory measurement.
    pub idle_connections: u32,
    /// Servers, workers of each balancer, and threads of wrk.
    pub workers: u8,
}

/// One run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sample {
    /// Load.
    pub case: Case,
    /// Who answered it.
    pub contender: Contender,
    /// Counted from 1.
    pub round: u32,
    /// Answers that arrived whole.
    pub requests: u64,
    /// Those in a second.
    pub requests_per_second: f64,
    /// Median latency in microseconds.
    pub p50_us: f64,
    /// Latency that 99 % stay under, in microseconds.
    pub p99_us: f64,
    /// Time that all CPUs together were busy in this run, in microseconds.
    pub busy_us: f64,
    /// The part of it that processes outside of the benchmark took, in microseconds.
    pub others_us: f64,
    /// CPU time of the whole machine per request, without the others', in microseconds.
    pub cpu_us_per_request: f64,
    /// What went wrong.
    pub errors: Errors,
}

/// Answers that were not, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Errors {
    /// Connections that could not be made.
    pub connect: u64,
    /// Connections that broke while an answer was awaited.
    pub read: u64,
    /// Requests that could not be sent.
    pub write: u64,
    /// Answers that took longer than 10 s.
    pub timeout: u64,
    /// Answers with a status of 400 or more. The pool has nothing but 200 for these paths.
    pub status: u64,
}

impl Errors {
    /// All of them.
    pub const fn total(self) -> u64 {
        self.connect + self.read + self.write + self.timeout + self.status
    }
}

/// A run that gave no result.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// Title of the load.
    pub what: String,
    /// Who should have answered.
    pub contender: Contender,
    /// Counted from 1.
    pub round: u32,
    /// What happened.
    pub reason: String,
}

impl Failure {
    pub(super) fn new(what: &str, contender: Contender, round: u32, error: &anyhow::Error) -> Self {
        Self {
            what: what.to_owned(),
            contender,
            round,
            reason: format!("{error:#}"),
        }
    }
}

/// What the runs of one contender in one case come to. `None` where no run gave a result.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cell {
    /// Load.
    pub case: Case,
    /// Who answered it.
    pub contender: Contender,
    /// Answers in a second.
    pub requests_per_second: Option<Spread>,
    /// Median latency in microseconds.
    pub p50_us: Option<Spread>,
    /// 99 % latency in microseconds.
    pub p99_us: Option<Spread>,
    /// CPU time of the whole machine per request, without that of others, in microseconds.
    pub cpu_us_per_request: Option<Spread>,
    /// That, minus what the direct run of the same round took: the balancer's own cost. Empty for the direct run.
    pub cost_us_per_request: Option<Spread>,
    /// Errors of all runs.
    pub errors: u64,
}

/// Memory of an idle connection through one balancer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MemoryCell {
    /// The balancer.
    pub contender: Contender,
    /// Connections that it was divided by.
    pub connections: u32,
    /// Anonymous memory of its processes, bytes per connection.
    pub process_bytes: f64,
    /// Unreclaimable slab of the machine, bytes per connection; the client's end is in it.
    pub slab_bytes: f64,
}

/// A claim and what became of it on this machine. It holds when `got` is not above `target`, or, where the claim says "at
/// least", not below.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Show {
    /// In words.
    pub claim: String,
    /// At most this; at least this, where the claim says so.
    pub target: f64,
    /// Measured; `None` when a run that it needs gave no result.
    pub got: Option<f64>,
    /// Of both.
    pub unit: String,
    /// Whether it held.
    pub holds: bool,
}

impl Settings {
    pub(super) fn of(plan: &Plan) -> Self {
        Self {
            cases: plan.cases.clone(),
            contenders: plan.contenders.clone(),
            rounds: plan.rounds,
            seconds: plan.run.as_secs(),
            idle_connections: plan.idle_connections,
            workers: SERVERS,
        }
    }
}

impl Sample {
    pub(super) fn new(
        case: Case,
        contender: Contender,
        round: u32,
        counted: &Counted,
        busy: Busy,
    ) -> Self {
        let seconds = float(counted.duration_us.max(1)) / 1e6;
        let [busy_us, others_us] = [busy.all, busy.others].map(|time| time.as_secs_f64() * 1e6);
        Self {
            case,
            contender,
            round,
            requests: counted.requests,
            requests_per_second: float(counted.requests) / seconds,
            p50_us: float(counted.p50_us),
            p99_us: float(counted.p99_us),
            busy_us,
            others_us,
            cpu_us_per_request: (busy_us - others_us) / float(counted.requests.max(1)),
            errors: counted.errors,
        }
    }
}

impl Report {
    /// Computes what follows from the samples.
    pub fn new(
        machine: Machine,
        settings: Settings,
        samples: Vec<Sample>,
        memory: Vec<MemoryCell>,
        failures: Vec<Failure>,
    ) -> Self {
        let contenders = settings.contenders.clone();
        let cells = |&case: &Case| {
            let cells = contenders
                .iter()
                .map(|&contender| cell(&samples, case, contender));
            cells.collect::<Vec<_>>()
        };
        let mut report = Self {
            name: "l7".to_owned(),
            machine,
            medians: settings.cases.iter().flat_map(cells).collect(),
            settings,
            other_work: other_work(&samples),
            shows: Vec::new(),
            memory,
            samples,
            failures,
        };
        report.shows = report.claims();
        report
    }

    /// Cells of the table that should hold a figure and don't.
    pub fn empty_cells(&self) -> usize {
        let figures = self.medians.iter().flat_map(|cell| {
            let cost = cell.cost_us_per_request;
            let has_floor = self.settings.contenders.contains(&Contender::Direct);
            let needs_cost = has_floor && cell.contender != Contender::Direct;
            [
                cell.requests_per_second.is_none(),
                cell.p50_us.is_none(),
                cell.p99_us.is_none(),
                cell.cpu_us_per_request.is_none(),
                needs_cost && cost.is_none(),
            ]
        });
        let balancers = self
            .settings
            .contenders
            .iter()
            .filter(|&&one| one != Contender::Direct);
        let wanted = if self.settings.idle_connections > 0 {
            balancers.count()
        } else {
            0
        };
        let memory = wanted.saturating_sub(self.memory.len());
        figures.filter(|empty| *empty).count() + memory
    }

    /// The figures of one contender in one case.
    pub fn cell(&self, case: Case, contender: Contender) -> Option<&Cell> {
        self.medians
            .iter()
            .find(|cell| (cell.case, cell.contender) == (case, contender))
    }

    fn claims(&self) -> Vec<Show> {
        let errors = self.medians.iter().map(|cell| cell.errors).sum::<u64>();
        let mut shows = vec![
            Show::new(
                "no cell of the table is empty",
                0.0,
                Some(float(self.empty_cells() as u64)),
                "cells",
            ),
            Show::new(
                "every answer is 2xx and no connection breaks, for every contender",
                0.0,
                Some(float(errors)),
                "answers",
            ),
        ];
        let wanted = [
            (Case::KeepAlive, Contender::LbAfXdp, 0.85),
            (Case::ReEncrypt, Contender::LbAfXdp, 0.95),
            (Case::PerRequest, Contender::LbAfXdp, 0.7),
            (Case::Body1M, Contender::LbKernel, 1.1),
        ];
        for (case, ours, target) in wanted {
            if !self.settings.cases.contains(&case) {
                continue;
            }
            let claim = format!(
                "{}: {ours}'s CPU time per request against the better of nginx and HAProxy",
                case.title()
            );
            let cost = |cell: &Cell| Some(cell.cost_us_per_request?.median);
            shows.push(Show::new(
                &claim,
                target,
                self.ratio(case, ours, cost),
                "times",
            ));
            let claim = format!(
                "{}: {ours}'s p99 against the better of nginx and HAProxy",
                case.title()
            );
            let p99 = |cell: &Cell| Some(cell.p99_us?.median);
            shows.push(Show::new(&claim, 1.0, self.ratio(case, ours, p99), "times"));
        }
        if self.settings.idle_connections > 0 {
            for ours in [Contender::LbAfXdp, Contender::LbKernel] {
                let claim = format!(
                    "an idle TLS connection: memory of {ours} against the lesser of nginx and HAProxy"
                );
                shows.push(Show::new(&claim, 1.0, self.memory_ratio(ours), "times"));
            }
        }
        shows
    }

    /// A figure of `ours` in multiples of the lower of nginx' and HAProxy's.
    fn ratio(
        &self,
        case: Case,
        ours: Contender,
        figure: impl Fn(&Cell) -> Option<f64>,
    ) -> Option<f64> {
        let of = |contender| figure(self.cell(case, contender)?);
        ratio(of(ours), of(Contender::Nginx), of(Contender::Haproxy))
    }

    fn memory_ratio(&self, ours: Contender) -> Option<f64> {
        let of = |contender| {
            let cell = self
                .memory
                .iter()
                .find(|cell| cell.contender == contender)?;
            Some(cell.process_bytes + cell.slab_bytes)
        };
        ratio(of(ours), of(Contender::Nginx), of(Contender::Haproxy))
    }
}

fn ratio(ours: Option<f64>, nginx: Option<f64>, haproxy: Option<f64>) -> Option<f64> {
    let better = nginx?.min(haproxy?);
    // A cost of nothing can only be noise, and a ratio to it means nothing.
    (better > 0.0).then_some(ours? / better)
}

impl Show {
    fn new(claim: &str, target: f64, got: Option<f64>, unit: &str) -> Self {
        Self {
            claim: claim.to_owned(),
            target,
            got,
            unit: unit.to_owned(),
            holds: got.is_some_and(|got| got <= target),
        }
    }
}

fn other_work(samples: &[Sample]) -> f64 {
    let busy: f64 = samples.iter().map(|sample| sample.busy_us).sum();
    let others: f64 = samples.iter().map(|sample| sample.others_us).sum();
    if busy > 0.0 { others / busy } else { 0.0 }
}

fn cell(samples: &[Sample], case: Case, contender: Contender) -> Cell {
    let of = |contender| {
        samples
            .iter()
            .filter(move |sample| (sample.case, sample.contender) == (case, contender))
    };
    let spread = |figure: fn(&Sample) -> f64| Spread::of(of(contender).map(figure));
    let costs = of(contender).filter_map(|sample| {
        let direct = of(Contender::Direct).find(|direct| direct.round == sample.round)?;
        Some(sample.cpu_us_per_request - direct.cpu_us_per_request)
    });
    Cell {
        case,
        contender,
        requests_per_second: spread(|sample| sample.requests_per_second),
        p50_us: spread(|sample| sample.p50_us),
        p99_us: spread(|sample| sample.p99_us),
        cpu_us_per_request: spread(|sample| sample.cpu_us_per_request),
        cost_us_per_request: Spread::of(costs).filter(|_| contender != Contender::Direct),
        errors: of(contender).map(|sample| sample.errors.total()).sum(),
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            case,
            contender,
            round,
            requests_per_second,
            cpu_us_per_request,
            ..
        } = self;
        write!(
            f,
            "{}, round {round}, {contender:<9}: {requests_per_second:>8.0} requests/s, {cpu_us_per_request:>8.1} µs CPU each",
            case.title()
        )?;
        match self.errors.total() {
            0 => Ok(()),
            errors => write!(f, ", {errors} errors: {:?}", self.errors),
        }
    }
}

impl fmt::Display for MemoryCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            contender,
            connections,
            process_bytes,
            slab_bytes,
        } = self;
        write!(
            f,
            "{connections} idle connections, {contender:<9}: {process_bytes:>6.0} bytes each in its processes, \
             {slab_bytes:>6.0} in the kernel"
        )
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            what,
            contender,
            round,
            reason,
        } = self;
        write!(f, "{what}, round {round}, {contender}: NO RESULT: {reason}")
    }
}

impl fmt::Display for Show {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            claim,
            target,
            unit,
            ..
        } = self;
        match self.got {
            Some(got) => write!(f, "{claim}: {} {unit}, at most {target} wanted", short(got)),
            None => write!(f, "{claim}: no result, at most {target} {unit} wanted"),
        }
    }
}

/// Two digits behind the point where they say something.
fn short(number: f64) -> String {
    if number.fract() == 0.0 {
        format!("{number:.0}")
    } else {
        format!("{number:.2}")
    }
}

#[cfg(test)]
mod tests;
