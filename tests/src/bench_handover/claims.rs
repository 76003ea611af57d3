//! What this project claims of `transport = "auto"`, and what became of it in this run.
//!
//! Invariant: computed from the report that they stand in. A claim without a result doesn't hold; one whose load was left out
//! on purpose is not made.

use super::{Case, Contender, Report};
use crate::bench::{Show, float};

/// All of them.
pub(super) fn of(report: &Report) -> Vec<Show> {
    let broken = report.medians.iter().map(|cell| cell.errors).sum();
    let failed = report.failures.len();
    let mut shows = vec![Show {
        claim: "runs without a result, answers other than 2xx, and connections that break, at most"
            .to_owned(),
        target: 0.0,
        got: Some(float(broken) + float(failed as u64)),
        unit: "of them".to_owned(),
        holds: broken == 0 && failed == 0,
    }];
    let cases = report.settings.cases.iter();
    shows.extend(cases.map(|&case| ratio(report, case)));
    shows
}

/// `auto` in multiples of the better of its halves.
fn ratio(report: &Report, case: Case) -> Show {
    let median = |contender| {
        let cell = report.cell(case, contender)?;
        Some(cell.requests_per_second.median)
    };
    let halves = median(Contender::AfXdp).zip(median(Contender::Kernel));
    let better = halves.map(|(one, other)| one.max(other));
    let got = median(Contender::Auto).zip(better);
    let got = got.and_then(|(auto, better)| (better > 0.0).then_some(auto / better));
    let target = target(case);
    Show {
        claim: format!(
            "{}: requests/s, auto in multiples of the better of af_xdp and kernel, at least",
            case.title()
        ),
        target,
        got,
        unit: "times".to_owned(),
        holds: got.is_some_and(|got| got >= target),
    }
}

/// A move costs some 30 µs whatever the size, which is most where it pays only just, and is never paid back by a second request.
const fn target(case: Case) -> f64 {
    match (case.one_shot, case.kilobytes) {
        (true, 16..=64) => 0.85,
        _ => 0.95,
    }
}

#[cfg(test)]
mod tests {
    use super::{super::SIZES, *};
    use crate::bench::Machine;

    const CASE: Case = Case {
        kilobytes: 16,
        one_shot: true,
        tls: false,
    };

    #[test]
    fn what_counts_is_the_better_half() {
        let check = |rates: [f64; 3], holds| {
            let report = report(&Contender::ALL, rates);
            let show = report.shows.last().unwrap();
            assert_eq!(show.holds, holds, "{rates:?}: {show:?}");
        };
        check([100.0, 50.0, 85.0], true);
        check([50.0, 100.0, 85.0], true);
        check([100.0, 50.0, 84.9], false);
        check([50.0, 100.0, 84.9], false);
        check([0.0, 0.0, 1.0], false);
    }

    #[test]
    fn without_a_half_nothing_holds() {
        for missing in 0..3 {
            let mut contenders = Contender::ALL.to_vec();
            contenders.remove(missing);
            let report = report(&contenders, [100.0; 3]);
            let show = report.shows.last().unwrap();
            assert!(!show.holds && show.got.is_none(), "{show:?}");
        }
    }

    #[test]
    fn only_the_middle_sizes_one_shot_may_cost_more() {
        let eased = |one_shot| {
            SIZES.map(|kilobytes| {
                let case = Case {
                    kilobytes,
                    one_shot,
                    tls: true,
                };
                target(case) < 0.9
            })
        };
        assert_eq!(eased(true), SIZES.map(|size| [16, 32, 64].contains(&size)));
        assert_eq!(eased(false), [false; SIZES.len()]);
    }

    fn report(contenders: &[Contender], rates: [f64; 3]) -> Report {
        let machine = Machine {
            kernel: String::new(),
            cpu: String::new(),
            cpus: 2,
            memory_mib: 1,
            versions: Vec::new(),
        };
        let mut sizes = super::super::Sizes::tiny();
        sizes.cases = vec![CASE];
        let mut report = Report::new(machine, sizes);
        for contender in contenders {
            let rate = rates[Contender::ALL
                .iter()
                .position(|one| one == contender)
                .unwrap()];
            let sample = super::super::report::sample(CASE, *contender, rate);
            report.add(CASE, *contender, Ok(sample));
        }
        report.conclude();
        report
    }
}
