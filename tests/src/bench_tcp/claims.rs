//! What this project claims of its TCP, and what became of it in this run.
//!
//! Invariant: computed from the report that they stand in. A claim without a result doesn't hold; one whose load or stacks
//! were left out on purpose is not made.

use super::{Cell, Contender, Report, Row};
use crate::bench::Show;

/// All of them.
pub(super) fn of(report: &Report) -> Vec<Show> {
    let settings = &report.settings;
    let runs = |contender| settings.contenders.contains(&contender);
    let ratios = RATIOS
        .iter()
        .filter(|ratio| settings.rows.contains(&ratio.row) && runs(ratio.ours) && runs(ratio.peer));
    let mut shows: Vec<Show> = ratios.map(|ratio| ratio.claim(report)).collect();
    if settings.idle > 0 && runs(Contender::Ours) {
        shows.push(engine_memory(report));
    }
    if settings.flood_clients > 0 && runs(Contender::Ours) {
        shows.extend(beside_flood(report));
    }
    shows
}

/// Ours in relation to a kernel's, under the same settings of the interface.
struct Ratio {
    row: Row,
    ours: Contender,
    peer: Contender,
    figure: Figure,
    bound: Bound,
}

#[derive(Clone, Copy)]
enum Figure {
    Requests,
    ServerCpu,
}

#[derive(Clone, Copy)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

const RATIOS: [Ratio; 11] = {
    use Bound::{AtLeast, AtMost};
    use Contender::{Kernel, KernelNoGso, KernelNoTso, Ours, OursNoGso, OursNoTso};
    use Figure::{Requests, ServerCpu};
    const fn ratio(row: Row, pair: [Contender; 2], figure: Figure, bound: Bound) -> Ratio {
        let [ours, peer] = pair;
        Ratio {
            row,
            ours,
            peer,
            figure,
            bound,
        }
    }
    const TSO: [Contender; 2] = [Ours, Kernel];
    // What targets of large bodies were measured against: with `ethtool -K tso off gso off`, which leaves TCP its GSO.
    const NO_TSO: [Contender; 2] = [OursNoTso, KernelNoTso];
    // A much easier peer, and no substitute for the former.
    const NO_GSO: [Contender; 2] = [OursNoGso, KernelNoGso];
    [
        ratio(Row::KeepAlive, TSO, Requests, AtLeast(1.15)),
        ratio(Row::KeepAlive, TSO, ServerCpu, AtMost(0.6)),
        ratio(Row::Close, TSO, Requests, AtLeast(1.8)),
        ratio(Row::CloseRush, TSO, Requests, AtLeast(1.8)),
        ratio(Row::Body64K, NO_TSO, Requests, AtLeast(0.6)),
        ratio(Row::Body64K, NO_GSO, Requests, AtLeast(0.6)),
        ratio(Row::Body1MLoss1, NO_TSO, Requests, AtLeast(0.9)),
        ratio(Row::Body1MLoss1, NO_GSO, Requests, AtLeast(0.9)),
        ratio(Row::Body1MLoss10, NO_TSO, Requests, AtLeast(0.9)),
        ratio(Row::Body1MLoss10, NO_GSO, Requests, AtLeast(0.9)),
        ratio(Row::KeepAliveLoss10, NO_TSO, Requests, AtLeast(1.0)),
    ]
};

impl Ratio {
    fn claim(&self, report: &Report) -> Show {
        let (what, value): (_, fn(&Cell) -> Option<f64>) = match self.figure {
            Figure::Requests => ("requests/s", |cell| Some(cell.requests_per_second.median)),
            Figure::ServerCpu => ("server CPU per request", |cell| {
                Some(cell.server_cpu_us?.median)
            }),
        };
        let median = |contender| report.cell(self.row, contender).and_then(value);
        let got = median(self.ours).zip(median(self.peer));
        let got = got.and_then(|(ours, peer)| (peer > 0.0).then_some(ours / peer));
        let claim = format!(
            "{}: {what}, {} in multiples of {}",
            self.row.title(),
            self.ours,
            self.peer
        );
        show(&claim, self.bound, got, "times")
    }
}

/// Bytes that an idle connection may have in the engine.
const ENGINE_BYTES: f64 = 1024.0;
/// Bytes by which a flood may raise the server's memory.
const FLOOD_MIB: f64 = 32.0;

fn engine_memory(report: &Report) -> Show {
    let ours = report
        .idle
        .iter()
        .find(|cell| cell.contender == Contender::Ours);
    let wanted = report.settings.idle;
    let held = ours.map_or(0, |cell| cell.connections);
    let claim = format!(
        "bytes of the engine for each of {held} idle keep-alive connections ({wanted} wanted)"
    );
    let mut show = show(
        &claim,
        Bound::AtMost(ENGINE_BYTES),
        ours.map(|cell| cell.transport_bytes),
        "bytes",
    );
    show.holds &= held >= wanted;
    show
}

fn beside_flood(report: &Report) -> [Show; 2] {
    let ours = report
        .flood
        .iter()
        .find(|cell| cell.contender == Contender::Ours);
    let clients = f64::from(report.settings.flood_clients);
    let finished = ours.map(|cell| f64::from(cell.finished));
    let grown = ours.map(|cell| cell.flooded_mib - cell.quiet_mib);
    let mut memory = show(
        "peak memory of the server, beyond that of the same transfers without the flood",
        Bound::AtMost(FLOOD_MIB),
        grown,
        "MiB",
    );
    // A server that lets nobody in needs no memory.
    memory.holds &= finished == Some(clients);
    let finished = show(
        "clients that finish their transfers beside a SYN flood",
        Bound::AtLeast(clients),
        finished,
        "clients",
    );
    [finished, memory]
}

fn show(claim: &str, bound: Bound, got: Option<f64>, unit: &str) -> Show {
    let (words, target) = match bound {
        Bound::AtLeast(target) => ("at least", target),
        Bound::AtMost(target) => ("at most", target),
    };
    let holds = got.is_some_and(|got| match bound {
        Bound::AtLeast(target) => got >= target,
        Bound::AtMost(target) => got <= target,
    });
    Show {
        claim: format!("{claim}, {words}"),
        target,
        got,
        unit: unit.to_owned(),
        holds,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_has_a_side() {
        let check = |bound, got, holds| {
            let show = show("x", bound, got, "times");
            assert_eq!(show.holds, holds, "{} {got:?}", show.claim);
        };
        check(Bound::AtLeast(1.0), Some(1.0), true);
        check(Bound::AtLeast(1.0), Some(0.9), false);
        check(Bound::AtLeast(1.0), None, false);
        check(Bound::AtMost(1.0), Some(1.0), true);
        check(Bound::AtMost(1.0), Some(1.1), false);
        check(Bound::AtMost(1.0), None, false);
    }
}
