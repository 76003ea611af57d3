//! Claims that put several loads or roads in relation.
//!
//! Invariant: computed from the medians of the report that they stand in, and from nothing else. Not here: claims about
//! a single load or fact (`report`).

use serde::{Deserialize, Serialize};

use super::{
    report::{Fact, Report, show},
    road::Road,
};
use crate::bench::Show;

/// One load may take this much longer than another.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Comparison {
    /// Title of the load.
    pub load: String,
    /// Title of the one that it is compared with.
    pub base: String,
    /// Nanoseconds.
    pub beyond_ns: f64,
}

/// Titles of the loads from which follows what a flood costs the flows in use.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Flood {
    /// Packets of flows in use, timed in bursts between which strangers take as many places in the full table.
    pub after_inserts: String,
    /// The same between bursts of strangers that take none.
    pub after_misses: String,
    /// Packets of flows in use and strangers that take a place, in turns.
    pub with_inserts: String,
    /// The same with strangers that take none.
    pub with_misses: String,
    /// Strangers that take a place, alone.
    pub inserts: String,
    /// Strangers that take none, alone.
    pub misses: String,
}

impl Comparison {
    pub(super) fn claim(&self, report: &Report) -> Show {
        let net = |title| report.net(title);
        let got = net(&self.load).zip(net(&self.base)).map(|(a, b)| a - b);
        let claim = format!("{}, beyond {}", self.load, self.base);
        show(claim, self.beyond_ns, got, "ns")
    }
}

impl Flood {
    /// By how much less is done in a second: `1 - without / with` of the times.
    pub(super) fn claim(&self, report: &Report) -> Show {
        let times = report.net(&self.after_inserts);
        let times = times.zip(report.net(&self.after_misses));
        let got = times.map(|(with, without)| (1.0 - without / with) * 100.0);
        let claim = "fewer packets/s of flows in use between bursts of as many SYNs that take places than between \
                     bursts of stray ACKs";
        show(claim.to_owned(), 10.0, got, "%")
    }

    /// The plain figures, in which strangers' own time counts.
    pub(super) fn facts(&self, report: &Report) -> Vec<Fact> {
        let fact = |what: &str, pair: &str| {
            let per_second = 1e9 / (2.0 * report.net(pair)?);
            let what = format!("pairs of an established packet and a {what}, on one CPU");
            Some(Fact::new(what, per_second.round(), "pairs/s", None))
        };
        let rest = |what: &str, pair: &str, alone: &str| {
            let ns = 2.0 * report.net(pair)? - report.net(alone)?;
            let what = format!("what such a pair takes beyond a {what} among its like");
            Some(Fact::new(what, ns, "ns", None))
        };
        let pairs = [
            fact("SYN that takes a place", &self.with_inserts),
            rest("SYN", &self.with_inserts, &self.inserts),
            fact("stray ACK", &self.with_misses),
            rest("stray ACK", &self.with_misses, &self.misses),
        ];
        pairs.into_iter().flatten().collect()
    }
}

/// What `lb` takes for a packet beyond a floor, where all parts of the road share one CPU.
pub(super) fn facts_of_roads(report: &Report) -> Vec<Fact> {
    let fact = |(ours, floor): (Road, Road)| {
        let ns = |road| Some(1e9 / report.rate(road)?);
        let what = format!("a packet of {ours} over veth, beyond {floor}");
        Some(Fact::new(what, ns(ours)? - ns(floor)?, "ns", None))
    };
    FLOORS.into_iter().filter_map(fact).collect()
}

/// Claims about what `lb` forwards between namespaces, as multiples of it, so that less is better.
pub(super) fn of_roads(report: &Report) -> Vec<Show> {
    let claim = |other: Road, ours: Road, target| {
        let got = report.rate(other).zip(report.rate(ours));
        let got = got.and_then(|(other, ours)| (ours > 0.0).then_some(other / ours));
        let claim = format!("packets/s of {other}, in multiples of {ours}");
        show(claim, target, got, "times")
    };
    let floors = FLOORS.map(|(ours, floor)| claim(floor, ours, 1.0 / 0.9));
    let nftables = claim(Road::Nftables, Road::Lb, 0.25);
    floors.into_iter().chain([nftables]).collect()
}

/// Who is compared with which floor.
const FLOORS: [(Road, Road); 2] = [
    (Road::Lb, Road::Redirect),
    (Road::LbOneArmed, Road::Transmit),
];
