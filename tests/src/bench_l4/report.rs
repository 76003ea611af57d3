//! The result: every sample as it was, what follows from them, and which claims of this project held.
//!
//! Invariant: medians and claims are computed from the samples and facts in the same report and from nothing else,
//! so whoever has the JSON can check them. Not here: how it looks (`table`, `page`).

use serde::{Deserialize, Serialize};

use super::{
    Sizes,
    claims::{Comparison, Flood, facts_of_roads, of_roads},
    connections::{ConnectionSample, Way},
    measure::Measured,
    road::Road,
};
use crate::bench::{Case, Machine, Show, Spread};

/// Everything that `target/bench/l4.json` holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Name of the benchmark: `l4`.
    pub name: String,
    /// Where it ran.
    pub machine: Machine,
    /// How much was run.
    pub settings: Sizes,
    /// What a reader must know to judge the figures, a sentence each.
    pub method: Vec<String>,
    /// One entry per claim.
    pub shows: Vec<Show>,
    /// One entry per load.
    pub medians: Vec<Cell>,
    /// What was counted, not timed, and what follows from the medians without being claimed.
    pub facts: Vec<Fact>,
    /// Which loads are compared with which.
    pub comparisons: Vec<Comparison>,
    /// The loads that tell what a flood costs.
    pub flood: Flood,
    /// Packets per second between namespaces, one entry per forwarder.
    pub roads: Vec<RoadCell>,
    /// Whole connections, one entry per load and balancer.
    pub connections: Vec<ConnectionCell>,
    /// Every run of the program.
    pub samples: Vec<Sample>,
    /// Every run between namespaces.
    pub road_samples: Vec<RoadSample>,
    /// Every run of wrk.
    pub connection_samples: Vec<ConnectionSample>,
}

/// One run of a load.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sample {
    /// Its title.
    pub load: String,
    /// Counted from 1.
    pub round: u32,
    /// Packets of the run.
    pub packets: u32,
    /// Nanoseconds for each, wrapper and loop included.
    pub raw_ns: f64,
    /// Nanoseconds for each of the empty program in the same wrapper, right after.
    pub empty_ns: f64,
    /// Nanoseconds that the difference may be.
    pub target_ns: Option<f64>,
}

/// What the runs of one load come to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cell {
    /// Its title.
    pub load: String,
    /// Nanoseconds per packet, wrapper and loop included.
    pub raw_ns: Spread,
    /// Nanoseconds per packet of the empty program.
    pub empty_ns: Spread,
    /// Nanoseconds per packet of the program alone: the difference in each round.
    pub net_ns: Spread,
    /// At most this is wanted.
    pub target_ns: Option<f64>,
}

/// A figure in words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fact {
    /// What, in words.
    pub what: String,
    /// How much.
    pub value: f64,
    /// Of what.
    pub unit: String,
    /// At most this is wanted.
    pub target: Option<f64>,
}

/// One run between namespaces.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RoadSample {
    /// Who forwarded.
    pub road: Road,
    /// Counted from 1.
    pub round: u32,
    /// Packets that were sent.
    pub sent: u32,
    /// Packets that arrived behind the forwarder, a second.
    pub packets_per_second: f64,
    /// Share of the packets that arrived, 0 to 1.
    pub arrived: f64,
}

/// What the runs of one forwarder come to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RoadCell {
    /// Who forwarded.
    pub road: Road,
    /// Packets a second behind it.
    pub packets_per_second: Spread,
    /// Share of the packets that arrived, 0 to 1.
    pub arrived: Spread,
}

/// What the runs of one load through one balancer come to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConnectionCell {
    /// Through whom.
    pub way: Way,
    /// The load.
    pub case: Case,
    /// Answers a second.
    pub requests_per_second: Spread,
    /// Microseconds of CPU time of the whole machine for a request.
    pub cpu_us: Spread,
    /// What that is more than the direct run's, of the medians.
    pub beyond_direct_us: f64,
}

impl Fact {
    pub(super) fn new(what: String, value: f64, unit: &str, target: Option<f64>) -> Self {
        Self {
            what,
            value,
            unit: unit.to_owned(),
            target,
        }
    }

    fn claim(&self) -> Option<Show> {
        let target = self.target?;
        Some(show(
            self.what.clone(),
            target,
            Some(self.value),
            &self.unit,
        ))
    }
}

impl Report {
    /// Computes what follows from the samples.
    pub(super) fn new(
        machine: Machine,
        settings: Sizes,
        measured: Measured,
        road_samples: Vec<RoadSample>,
        connection_samples: Vec<ConnectionSample>,
    ) -> Self {
        let mut report = Self {
            name: "l4".to_owned(),
            machine,
            method: method(&settings),
            settings,
            shows: Vec::new(),
            medians: cells(&measured.samples),
            facts: measured.facts,
            comparisons: measured.comparisons,
            flood: measured.flood,
            roads: roads(&road_samples),
            connections: connections(&connection_samples),
            samples: measured.samples,
            road_samples,
            connection_samples,
        };
        let derived = [report.flood.facts(&report), facts_of_roads(&report)];
        report.facts.extend(derived.into_iter().flatten());
        report.shows = report.claims();
        report
    }

    fn claims(&self) -> Vec<Show> {
        let loads = self.medians.iter().filter_map(|cell| {
            let claim = cell.load.clone();
            let got = cell.net_ns.median;
            Some(show(claim, cell.target_ns?, Some(got), "ns"))
        });
        let compared = self.comparisons.iter().map(|of| of.claim(self));
        let facts = self.facts.iter().filter_map(Fact::claim);
        loads
            .chain(compared)
            .chain(facts)
            .chain([self.flood.claim(self)])
            .chain(of_roads(self))
            .collect()
    }

    /// Median of the load with this title, in nanoseconds.
    pub(super) fn net(&self, load: &str) -> Option<f64> {
        let mut cells = self.medians.iter();
        Some(cells.find(|cell| cell.load == load)?.net_ns.median)
    }

    /// Median of this forwarder, in packets a second.
    pub(super) fn rate(&self, road: Road) -> Option<f64> {
        let mut roads = self.roads.iter();
        let cell = roads.find(|cell| cell.road == road)?;
        Some(cell.packets_per_second.median)
    }
}

/// A claim that holds when `got` is not above `target`.
pub(super) fn show(claim: String, target: f64, got: Option<f64>, unit: &str) -> Show {
    Show {
        claim,
        target,
        got,
        unit: unit.to_owned(),
        holds: got.is_some_and(|got| got <= target),
    }
}

fn cells(samples: &[Sample]) -> Vec<Cell> {
    let mut titles: Vec<&str> = Vec::new();
    for sample in samples {
        if !titles.contains(&sample.load.as_str()) {
            titles.push(&sample.load);
        }
    }
    let cell = |title: &str| {
        let of = || samples.iter().filter(move |sample| sample.load == title);
        Some(Cell {
            load: title.to_owned(),
            raw_ns: Spread::of(of().map(|sample| sample.raw_ns))?,
            empty_ns: Spread::of(of().map(|sample| sample.empty_ns))?,
            net_ns: Spread::of(of().map(|sample| sample.raw_ns - sample.empty_ns))?,
            target_ns: of().find_map(|sample| sample.target_ns),
        })
    };
    titles.into_iter().filter_map(cell).collect()
}

fn roads(samples: &[RoadSample]) -> Vec<RoadCell> {
    let cell = |road| {
        let of = || samples.iter().filter(move |sample| sample.road == road);
        Some(RoadCell {
            road,
            packets_per_second: Spread::of(of().map(|sample| sample.packets_per_second))?,
            arrived: Spread::of(of().map(|sample| sample.arrived))?,
        })
    };
    Road::ALL.into_iter().filter_map(cell).collect()
}

fn connections(samples: &[ConnectionSample]) -> Vec<ConnectionCell> {
    let mut cells = Vec::new();
    for case in Case::ALL {
        let of = |way| {
            let of = move |sample: &&ConnectionSample| sample.way == way && sample.case == case;
            samples.iter().filter(of)
        };
        let cpu_us = |way| Spread::of(of(way).map(|sample| sample.cpu_us));
        let cell = |way| {
            Some(ConnectionCell {
                way,
                case,
                requests_per_second: Spread::of(of(way).map(|sample| sample.requests_per_second))?,
                cpu_us: cpu_us(way)?,
                beyond_direct_us: cpu_us(way)?.median - cpu_us(Way::Direct)?.median,
            })
        };
        cells.extend(Way::ALL.into_iter().filter_map(cell));
    }
    cells
}

fn method(sizes: &Sizes) -> Vec<String> {
    let Sizes {
        rounds,
        repeat,
        opened,
        sets,
        cpu,
        ..
    } = sizes;
    vec![
        format!(
            "Nanoseconds are those of BPF_PROG_TEST_RUN, which repeats the product's own program, unchanged, \
             {repeat} times ({opened} where packets open flows, a fifth of it in modes other than full NAT) on CPU \
             {cpu}; medians of {rounds} rounds in \
             which the loads take turns, each followed by its empty run. As many packets of established flows go \
             before, unmeasured, because the loads push each other out of the caches."
        ),
        "A wrapper restores the frame before each run, gives it the client of its turn and jumps to the program. \
         Net is raw minus what the same wrapper takes around an empty program in the same round. The kernel reports \
         whole nanoseconds."
            .to_owned(),
        "The headers of a tunnel are taken off again by the wrapper, which calls bpf_xdp_adjust_head around the empty \
         program too, with zero: the helper does the same work. So the undoing is subtracted, and the product's own \
         call of the helper is not."
            .to_owned(),
        "Clients are drawn by a linear congruential generator; all 48 bits of address and port differ from client \
         to client. Repeated runs overlap on the CPU as packets of one batch do, and more than those of a slow link."
            .to_owned(),
        format!(
            "Tables have {sets} sets of four entries, what lb takes for its default number of flows unless the run \
             is a tiny one. Each number of flows of full NAT over IPv4 has a table of its own; all other modes share \
             one table of each family, with {} flows of each mode in it and a service for each.",
            sizes.flows[1]
        ),
        "What a SYN flood costs the flows in use: their packets are sent in turns with SYNs, each of which takes a \
         place in the full table, and in turns with stray ACKs, which look for a flow and a service in the same way \
         and take no place. From each pair is taken off what its stranger costs alone, so whatever the two do to each \
         other counts against the flow in use. Pairs a second are given beside it: of a CPU that is busy, the SYNs \
         take their own share as well."
            .to_owned(),
        "The program's counters say what became of every packet: a load whose packets did not all get its verdict \
         is an error, not a sample. The first packets of each mode are compared, byte by byte, with what the same \
         function does on the host."
            .to_owned(),
        "Packets per second: an XDP program in the client's namespace sends frames of established flows over veth \
         to the edge, which forwards them to the next namespace, or back if it is one-armed, where an XDP program \
         counts and drops them. Everything runs on one CPU, so a rate is one over the sum of all parts, generator and \
         sink included. Bare redirect and bare XDP_TX swap hardware addresses, without which no \
         frame would arrive on a real link, and do nothing else."
            .to_owned(),
        "HAProxy is not on this road: it ends connections, and this generator sends frames of connections that have no \
         other end. Instead wrk asks one server for 1 KB bodies through each in turn. On two CPUs client and server \
         saturate first; the balancer's cost is the CPU time of the whole machine for a request, less the direct run's, \
         other programs' subtracted. The direct run is routed by the edge's kernel; who forwards by XDP spares that, and \
         can cost less than nothing."
            .to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(load: &str, round: u32, raw_ns: f64, empty_ns: f64) -> Sample {
        Sample {
            load: load.to_owned(),
            round,
            packets: 10,
            raw_ns,
            empty_ns,
            target_ns: Some(20.0),
        }
    }

    #[test]
    fn net_is_the_difference_within_a_round() {
        let samples = [
            sample("a", 1, 50.0, 30.0),
            sample("b", 1, 31.0, 30.0),
            sample("a", 2, 90.0, 69.0),
            sample("b", 2, 31.0, 30.0),
            sample("a", 3, 60.0, 30.0),
            sample("b", 3, 31.0, 30.0),
        ];
        let cells = cells(&samples);
        let found: Vec<_> = cells
            .iter()
            .map(|cell| (cell.load.as_str(), cell.net_ns.median))
            .collect();
        assert_eq!(found, [("a", 21.0), ("b", 1.0)]);
    }

    #[test]
    fn a_claim_without_a_result_does_not_hold() {
        let check = |got, holds| {
            let show = show("x".to_owned(), 1.0, got, "ns");
            assert_eq!(show.holds, holds, "{got:?}");
        };
        check(Some(1.0), true);
        check(Some(1.1), false);
        check(None, false);
    }
}
