//! The result: every sample as it was, what follows from them, and which claims held.
//!
//! Invariant: medians and claims are computed from the samples in the same report and from nothing else, so whoever has
//! the JSON can check them. Not here: the targets (`claims`), how it looks (`table`, `page`).

use std::fmt;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::{Case, Contender, Lives, Sizes, claims};
use crate::bench::{Errors, Machine, Show, Spread, float};

/// Everything that `target/bench/handover.json` holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Name of the benchmark: `handover`.
    pub name: String,
    /// Where it ran.
    pub machine: Machine,
    /// How much was run.
    pub settings: Sizes,
    /// What a reader must know to judge the figures, a sentence each.
    pub method: Vec<String>,
    /// Share of all busy time that programs outside of the benchmark had, 0 to 1.
    pub other_work: f64,
    /// One entry per claim.
    pub shows: Vec<Show>,
    /// One entry per load and transport.
    pub medians: Vec<Cell>,
    /// Runs without a result.
    pub failures: Vec<Failure>,
    /// Every run.
    pub samples: Vec<Sample>,
}

/// One run of a client.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sample {
    /// The load.
    pub case: Case,
    /// Who bore it.
    pub contender: Contender,
    /// Counted from 1.
    pub round: u32,
    /// Answers that arrived whole.
    pub requests: u64,
    /// Of them, a second.
    pub requests_per_second: f64,
    /// Microseconds of CPU time of the whole machine for each, without that of others; none if there was none.
    pub cpu_us_per_request: Option<f64>,
    /// Median latency in microseconds.
    pub p50_us: u64,
    /// Latency that 99 % stay under, in microseconds.
    pub p99_us: u64,
    /// What went wrong, by the client's count.
    pub errors: Errors,
    /// Share of the machine's busy time that programs outside of the benchmark had, 0 to 1.
    pub others: f64,
    /// Where its connections were.
    pub lives: Lives,
}

/// What the runs of one transport under one load come to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cell {
    /// The load.
    pub case: Case,
    /// Who bore it.
    pub contender: Contender,
    /// Answers a second.
    pub requests_per_second: Spread,
    /// Microseconds of CPU time of the whole machine for each, in the runs that had any.
    pub cpu_us_per_request: Option<Spread>,
    /// Median latency in microseconds.
    pub p50_us: Spread,
    /// Latency that 99 % stay under, in microseconds.
    pub p99_us: Spread,
    /// What went wrong in all runs.
    pub errors: u64,
    /// Connections that moved for each answer, in all runs.
    pub moved_per_request: f64,
    /// Where new ones began in the end of the last run, if that may change.
    pub begins_on: Option<String>,
}

/// A run without a result.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// The load.
    pub case: Case,
    /// Who should have borne it.
    pub contender: Contender,
    /// Why not.
    pub error: String,
}

impl Report {
    pub(super) fn new(machine: Machine, settings: Sizes) -> Self {
        Self {
            name: "handover".to_owned(),
            machine,
            method: method(&settings),
            settings,
            other_work: 0.0,
            shows: Vec::new(),
            medians: Vec::new(),
            failures: Vec::new(),
            samples: Vec::new(),
        }
    }

    /// Takes a sample in, or what became of it; a line for people.
    pub(super) fn add(
        &mut self,
        case: Case,
        contender: Contender,
        sample: Result<Sample>,
    ) -> String {
        match sample {
            Ok(sample) => {
                let line = sample.to_string();
                self.samples.push(sample);
                line
            }
            Err(error) => {
                let failure = Failure {
                    case,
                    contender,
                    error: format!("{error:#}"),
                };
                let line = failure.to_string();
                self.failures.push(failure);
                line
            }
        }
    }

    /// Computes what follows from the samples.
    pub(super) fn conclude(&mut self) {
        let others: f64 = self.samples.iter().map(|sample| sample.others).sum();
        self.other_work = others / float(self.samples.len().max(1) as u64);
        let cases = self.settings.cases.iter();
        let pairs = cases.flat_map(|&case| Contender::ALL.map(|contender| (case, contender)));
        self.medians = pairs
            .filter_map(|(case, contender)| cell(&self.samples, case, contender))
            .collect();
        self.shows = claims::of(self);
    }

    /// What the runs of this transport under this load come to.
    pub fn cell(&self, case: Case, contender: Contender) -> Option<&Cell> {
        let mut cells = self.medians.iter();
        cells.find(|cell| cell.case == case && cell.contender == contender)
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}, round {}, {:<6}: {:>8.0} requests/s, {:>8.1} µs CPU each, p99 {} µs",
            self.case.title(),
            self.round,
            self.contender,
            self.requests_per_second,
            self.cpu_us_per_request.unwrap_or_default(),
            self.p99_us,
        )?;
        if let Some(place) = &self.lives.begins_on {
            write!(f, ", {} moved, now begin on {place}", self.lives.moved)?;
        }
        if self.errors.total() > 0 {
            write!(f, ", {} errors", self.errors.total())?;
        }
        Ok(())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}, {}: NO RESULT: {}",
            self.case.title(),
            self.contender,
            self.error
        )
    }
}

fn cell(samples: &[Sample], case: Case, contender: Contender) -> Option<Cell> {
    let of = |sample: &&Sample| sample.case == case && sample.contender == contender;
    let own = || samples.iter().filter(of);
    let spread = |value: fn(&Sample) -> f64| Spread::of(own().map(value));
    Some(Cell {
        case,
        contender,
        requests_per_second: spread(|sample| sample.requests_per_second)?,
        cpu_us_per_request: Spread::of(own().filter_map(|sample| sample.cpu_us_per_request)),
        p50_us: spread(|sample| float(sample.p50_us))?,
        p99_us: spread(|sample| float(sample.p99_us))?,
        errors: own().map(|sample| sample.errors.total()).sum(),
        moved_per_request: float(own().map(|sample| sample.lives.moved).sum())
            / float(own().map(|sample| sample.requests).sum::<u64>().max(1)),
        begins_on: own().next_back()?.lives.begins_on.clone(),
    })
}

fn method(sizes: &Sizes) -> Vec<String> {
    let Sizes {
        rounds,
        seconds,
        warm_up,
        ..
    } = sizes;
    vec![
        format!(
            "Client, lb and two servers each in a network namespace, joined by veth with 2 queues; no network card, so \
             AF_XDP copies every frame. One lb with two workers, a new one for each case, has a plain and a TLS service on each \
             transport; the servers are asked in plain HTTP. wrk with two threads. In each case the transports take turns, in another \
             order each round: {rounds} rounds of {seconds} s after {warm_up} s that don't count. Figures are medians; \
             a ratio is one of medians."
        ),
        "CPU is the busy time of the whole machine per request, without other programs', in ticks of 10 ms: client and \
         servers are in it, so it tells transports apart but is no balancer's cost."
            .to_owned(),
        "Client, lb and servers share the CPUs. With TLS and a connection per request the handshake is most of the work, \
         whatever the transport."
            .to_owned(),
        "A figure of auto is that of a service that has had such clients for a while: before a case's runs it is loaded, with 64 \
         connections at least, until another such load no longer changes where it begins its connections."
            .to_owned(),
        "\"Moved\" is the connections of auto that moved for each answer, and where new ones began in the end: a service most of \
         whose connections become bulk begins them on the kernel."
            .to_owned(),
        "RPS is off: on veth it halves the kernel's figures. Interfaces have TSO, as cards do.".to_owned(),
    ]
}

/// A run at this rate.
#[cfg(test)]
pub(super) fn sample(case: Case, contender: Contender, requests_per_second: f64) -> Sample {
    Sample {
        case,
        contender,
        round: 1,
        requests: 100,
        requests_per_second,
        cpu_us_per_request: Some(1.0),
        p50_us: 1,
        p99_us: 2,
        errors: Errors::default(),
        others: 0.5,
        lives: Lives::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_one_transport_under_one_load() {
        let [one, other] = [1, 4].map(|kilobytes| Case {
            kilobytes,
            one_shot: false,
            tls: false,
        });
        let samples = [
            sample(one, Contender::Auto, 10.0),
            sample(one, Contender::Kernel, 7.0),
            sample(other, Contender::Auto, 99.0),
            sample(one, Contender::Auto, 30.0),
            sample(one, Contender::Auto, 20.0),
        ];
        let median = |case, contender| {
            let cell = cell(&samples, case, contender)?;
            Some(cell.requests_per_second.median)
        };
        assert_eq!(median(one, Contender::Auto), Some(20.0));
        assert_eq!(median(one, Contender::Kernel), Some(7.0));
        assert_eq!(median(other, Contender::Auto), Some(99.0));
        assert_eq!(median(other, Contender::AfXdp), None);
    }
}
