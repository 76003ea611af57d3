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
    /// Strangers that take a place in the full table.
    pub inserts: String,
    /// Strangers that take none.
    pub misses: String,
    /// Packets of flows in use and `inserts` in turns.
    pub with_inserts: String,
    /// The same with `misses`.
    pub with_misses: String,
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
    /// Nanoseconds of a packet of a flow in use while strangers take places, and while they don't: what a pair takes
    /// less what its stranger takes alone. All that the two do to each other counts against the flow in use.
    fn established_ns(&self, report: &Report) -> Option<(f64, f64)> {
        let rest = |pair, stranger| Some(2.0 * report.net(pair)? - report.net(stranger)?);
        let with = rest(&self.with_inserts, &self.inserts)?;
        Some((with, rest(&self.with_misses, &self.misses)?))
    }

    /// Fewer packets a second are these: `1 - without / with` of the times.
    pub(super) fn claim(&self, report: &Report) -> Show {
        let times = self.established_ns(report);
        let got = times.map(|(with, without)| (1.0 - without / with) * 100.0);
        let claim = "fewer packets/s of flows in use beside a SYN flood than beside as many stray ACKs, from what each \
                     pair takes less what its stranger takes alone";
        show(claim.to_owned(), 10.0, got, "%")
    }

    /// The plain figures behind it.
    pub(super) fn facts(&self, report: &Report) -> Vec<Fact> {
        let per_second = |pair| report.net(pair).map(|ns| 1e9 / (2.0 * ns));
        let times = self.established_ns(report);
        let fact = |what: &str, value: Option<f64>, unit| {
            Some(Fact::new(what.to_owned(), value?, unit, None))
        };
        [
            fact(
                "pairs of an established packet and a SYN that takes a place, on one CPU",
                per_second(&self.with_inserts).map(f64::round),
                "pairs/s",
            ),
            fact(
                "pairs of an established packet and a stray ACK, on one CPU",
                per_second(&self.with_misses).map(f64::round),
                "pairs/s",
            ),
            fact(
                "established packet beside a SYN flood (a pair less a SYN alone)",
                times.map(|(with, _)| with),
                "ns",
            ),
            fact(
                "established packet beside stray ACKs (a pair less an ACK alone)",
                times.map(|(_, without)| without),
                "ns",
            ),
        ]
        .into_iter()
        .flatten()
        .collect()
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
