//! The result: every sample as it was, what follows from them, and which claims held.
//!
//! Invariant: medians and claims are computed from the samples in the same report and from nothing else, so whoever has
//! the JSON can check them. Not here: the targets (`claims`), how it looks (`table`, `page`).

use std::fmt;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::{Contender, FloodCell, IdleCell, Row, Sizes, claims, rig::FAIR};
use crate::bench::{Errors, Machine, Show, Spread, float};

/// Everything that `target/bench/tcp.json` holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Name of the benchmark: `tcp`.
    pub name: String,
    /// Where it ran.
    pub machine: Machine,
    /// How much was run.
    pub settings: Sizes,
    /// Congestion control of the kernel as a fair peer, which is ours too.
    pub congestion: String,
    /// Congestion control that this host has for default.
    pub host_congestion: String,
    /// What a reader must know to judge the figures, a sentence each.
    pub method: Vec<String>,
    /// One entry per claim.
    pub shows: Vec<Show>,
    /// One entry per load and stack.
    pub medians: Vec<Cell>,
    /// Memory of idle connections, one entry per stack.
    pub idle: Vec<IdleCell>,
    /// Transfers beside a flood, one entry per stack.
    pub flood: Vec<FloodCell>,
    /// What gave no result.
    pub failures: Vec<Failure>,
    /// Every run.
    pub samples: Vec<Sample>,
}

/// One run of a client.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sample {
    /// The load.
    pub row: Row,
    /// Who bore it.
    pub contender: Contender,
    /// Counted from 1.
    pub round: u32,
    /// Answers that arrived whole.
    pub requests: u64,
    /// Of them, a second.
    pub requests_per_second: f64,
    /// Microseconds of CPU time of the server's stack for each; none if there was none.
    pub server_cpu_us: Option<f64>,
    /// Median latency in microseconds.
    pub p50_us: u64,
    /// Latency that 99 % stay under, in microseconds.
    pub p99_us: u64,
    /// What went wrong, by the client's count.
    pub errors: Errors,
    /// Data segments of the server on the lossy wire.
    pub segments_seen: Option<u64>,
    /// Of them, those that were lost.
    pub segments_lost: Option<u64>,
    /// Share of the machine's busy time that programs outside of the benchmark had, 0 to 1.
    pub others: f64,
    /// What our TCP counted.
    pub counters: String,
}

/// What the runs of one stack under one load come to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cell {
    /// The load.
    pub row: Row,
    /// Who bore it.
    pub contender: Contender,
    /// Answers a second.
    pub requests_per_second: Spread,
    /// Microseconds of CPU time of the server's stack for each, in the runs that had any.
    pub server_cpu_us: Option<Spread>,
    /// Median latency in microseconds.
    pub p50_us: Spread,
    /// Latency that 99 % stay under, in microseconds.
    pub p99_us: Spread,
    /// What went wrong in all runs.
    pub errors: u64,
}

/// Something without a result.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// What was tried.
    pub what: String,
    /// By whom.
    pub contender: Contender,
    /// Why not.
    pub error: String,
}

impl Report {
    pub(super) fn new(machine: Machine, settings: Sizes, host_congestion: &str) -> Self {
        Self {
            name: "tcp".to_owned(),
            machine,
            method: method(&settings, host_congestion),
            settings,
            congestion: FAIR.to_owned(),
            host_congestion: host_congestion.to_owned(),
            shows: Vec::new(),
            medians: Vec::new(),
            idle: Vec::new(),
            flood: Vec::new(),
            failures: Vec::new(),
            samples: Vec::new(),
        }
    }

    /// Takes a sample in, or what became of it; a line for people.
    pub(super) fn add(
        &mut self,
        what: &str,
        contender: Contender,
        sample: Result<Sample>,
    ) -> String {
        match sample {
            Ok(sample) => {
                let line = sample.to_string();
                self.samples.push(sample);
                line
            }
            Err(error) => self.fail(what, contender, &error),
        }
    }

    pub(super) fn add_idle(&mut self, contender: Contender, held: Result<IdleCell>) -> String {
        match held {
            Ok(cell) => {
                let line = cell.to_string();
                self.idle.push(cell);
                line
            }
            Err(error) => self.fail("idle connections", contender, &error),
        }
    }

    pub(super) fn add_flood(&mut self, contender: Contender, done: Result<FloodCell>) -> String {
        match done {
            Ok(cell) => {
                let line = cell.to_string();
                self.flood.push(cell);
                line
            }
            Err(error) => self.fail("SYN flood", contender, &error),
        }
    }

    fn fail(&mut self, what: &str, contender: Contender, error: &anyhow::Error) -> String {
        let failure = Failure {
            what: what.to_owned(),
            contender,
            error: format!("{error:#}"),
        };
        let line = failure.to_string();
        self.failures.push(failure);
        line
    }

    /// Computes what follows from the samples.
    pub(super) fn conclude(&mut self) {
        self.medians = cells(&self.samples);
        self.shows = claims::of(self);
    }

    /// What the runs of this stack under this load come to.
    pub fn cell(&self, row: Row, contender: Contender) -> Option<&Cell> {
        let mut cells = self.medians.iter();
        cells.find(|cell| cell.row == row && cell.contender == contender)
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}, round {}, {:<31}: {:>8.0} requests/s, {:>7.2} µs CPU of the server each, p99 {} µs",
            self.row.title(),
            self.round,
            self.contender,
            self.requests_per_second,
            self.server_cpu_us.unwrap_or_default(),
            self.p99_us,
        )?;
        if let Some((lost, seen)) = self.segments_lost.zip(self.segments_seen) {
            write!(f, ", {lost} of {seen} segments lost")?;
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
            "{}, {}: FAILED: {}",
            self.what, self.contender, self.error
        )
    }
}

fn cells(samples: &[Sample]) -> Vec<Cell> {
    let mut cells = Vec::new();
    for row in Row::ALL {
        for contender in Contender::ALL {
            let of = |sample: &&Sample| sample.row == row && sample.contender == contender;
            let spread =
                |value: fn(&Sample) -> f64| Spread::of(samples.iter().filter(of).map(value));
            let cell = || {
                Some(Cell {
                    row,
                    contender,
                    requests_per_second: spread(|sample| sample.requests_per_second)?,
                    server_cpu_us: Spread::of(
                        samples
                            .iter()
                            .filter(of)
                            .filter_map(|sample| sample.server_cpu_us),
                    ),
                    p50_us: spread(|sample| float(sample.p50_us))?,
                    p99_us: spread(|sample| float(sample.p99_us))?,
                    errors: samples
                        .iter()
                        .filter(of)
                        .map(|sample| sample.errors.total())
                        .sum(),
                })
            };
            cells.extend(cell());
        }
    }
    cells
}

fn method(sizes: &Sizes, host_congestion: &str) -> Vec<String> {
    let Sizes {
        rounds, seconds, ..
    } = sizes;
    vec![
        format!(
            "The same hyper service, in one program, on both transports of lb-transport: kernel sockets, and our TCP \
             over AF_XDP (copy mode: veth has no other), fed by the product's XDP program. One worker, pinned to one \
             CPU; wrk with one thread, pinned to another. One rx queue. Medians of {rounds} runs of {seconds} s, in \
             which the stacks take turns; each run has a server of its own."
        ),
        "Server CPU is user and system time of the server's CPU plus softirq time of the load's: on veth the sender's \
         context does the receiver's work, so the former's softirq time is the client's. Counted in ticks of 10 ms. The \
         client is the bottleneck more often than not, so requests/s understate what a stack could do, and CPU time \
         does not. \"Light client\" is a client of ours that makes six system calls for a connection, about half of \
         wrk's; it looks at every byte of every answer. A run in which other programs took more than 5 % of the busy time is repeated, twice at most, and \
         the quietest counts; each sample says what they took."
            .to_owned(),
        format!(
            "The kernel has {FAIR}, as ours has; \"host's default\" is this host's, {host_congestion}. Loss rows have TSO \
             off, because the wire loses segments, not bursts. A pair that is compared has the same settings of the \
             server's interface."
        ),
        "Segmentation: by default TSO is on, and on veth large pieces then cross to the client whole, uncut. \"TSO off\": \
         software GSO stays, so the kernel cuts them in front of the interface; that is what the targets for 64 KB and \
         1 MB were measured against, because ethtool's \"gso off\" changes nothing for TCP. \"TSO and GSO off\": \
         gso_max_segs is 1 as well, so the kernel's TCP sends every segment through all of the stack by itself. That is \
         a far weaker peer, and a claim that holds against it says nothing about the other. Large pieces that our TCP \
         hands over at a packet socket are cut in front of the interface under both settings."
            .to_owned(),
        "Loss is made by an XDP program on the client's interface, which drops data segments of the server by a \
         generator whose seed is the round's number, the same for all stacks. Acknowledgements get through. The round \
         trip is some 0.1 ms, so timeouts weigh more than on a real path."
            .to_owned(),
        "No RPS: on veth it halves the kernel's figures. Checksum offload is on at both ends, as veth has it: what \
         arrives from the client is not verified by either stack."
            .to_owned(),
        super::idle::METHOD.to_owned(),
        super::flood::METHOD.to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(contender: Contender, round: u32, requests_per_second: f64) -> Sample {
        Sample {
            row: Row::KeepAlive,
            contender,
            round,
            requests: 100,
            requests_per_second,
            server_cpu_us: Some(1.0),
            p50_us: 1,
            p99_us: 2,
            errors: Errors {
                connect: 1,
                ..Errors::default()
            },
            segments_seen: None,
            segments_lost: None,
            others: 0.0,
            counters: String::new(),
        }
    }

    #[test]
    fn a_cell_is_one_stack_under_one_load() {
        let samples = [
            sample(Contender::Ours, 1, 10.0),
            sample(Contender::Kernel, 1, 7.0),
            sample(Contender::Ours, 2, 30.0),
            sample(Contender::Ours, 3, 20.0),
        ];
        let found: Vec<_> = cells(&samples)
            .iter()
            .map(|cell| (cell.contender, cell.requests_per_second.median, cell.errors))
            .collect();
        assert_eq!(
            found,
            [(Contender::Ours, 20.0, 3), (Contender::Kernel, 7.0, 1)]
        );
    }
}
