//! What follows from samples, and that the JSON holds it under the names that others read.

use std::time::Duration;

use super::*;

fn machine() -> Machine {
    Machine {
        kernel: "6.1.0".to_owned(),
        cpu: "a CPU".to_owned(),
        cpus: 2,
        memory_mib: 2048,
        versions: Vec::new(),
    }
}

fn settings(rounds: u32) -> Settings {
    Settings {
        cases: vec![Case::KeepAlive],
        contenders: Contender::ALL.into(),
        rounds,
        seconds: 1,
        idle_connections: 10,
        workers: 2,
    }
}

/// A run of a second with as many requests as make `cpu` µs each of a busy time of one second.
fn sample(contender: Contender, round: u32, cpu: u64) -> Sample {
    let counted = Counted {
        requests: 1_000_000 / cpu,
        duration_us: 1_000_000,
        p50_us: 5,
        p99_us: 9,
        errors: Errors::default(),
    };
    // Half of the time is a compiler's.
    let busy = Busy {
        all: Duration::from_secs(2),
        others: Duration::from_secs(1),
    };
    Sample::new(Case::KeepAlive, contender, round, &counted, busy)
}

/// Two rounds; in the second everyone is slower by 100 µs, as on a machine that others use.
fn samples() -> Vec<Sample> {
    let rounds = [(1, 0), (2, 100_u64)];
    let each = |(round, more): (u32, u64)| {
        [
            sample(Contender::Direct, round, 100 + more),
            sample(Contender::LbAfXdp, round, 125 + more),
            sample(Contender::LbKernel, round, 160 + more),
            sample(Contender::Nginx, round, 200 + more),
            sample(Contender::Haproxy, round, 150 + more),
        ]
    };
    rounds.into_iter().flat_map(each).collect()
}

fn memory() -> Vec<MemoryCell> {
    let cell = |contender| MemoryCell {
        contender,
        connections: 10,
        process_bytes: 1000.0,
        slab_bytes: 500.0,
    };
    Contender::BALANCERS.map(cell).into()
}

fn report(samples: Vec<Sample>) -> Report {
    Report::new(machine(), settings(2), samples, memory(), Vec::new())
}

fn show<'a>(report: &'a Report, start: &str) -> &'a Show {
    let found = report
        .shows
        .iter()
        .find(|show| show.claim.starts_with(start));
    found.expect(start)
}

#[test]
fn a_cost_is_taken_within_a_round() {
    let report = report(samples());
    let cost = |contender| {
        let cell = report.cell(Case::KeepAlive, contender).unwrap();
        cell.cost_us_per_request.map(|spread| spread.median.round())
    };
    assert_eq!(cost(Contender::Direct), None);
    assert_eq!(cost(Contender::LbAfXdp), Some(25.0));
    assert_eq!(cost(Contender::Haproxy), Some(50.0));
    assert_eq!(cost(Contender::Nginx), Some(100.0));
}

#[test]
fn claims_compare_with_the_better_rival() {
    let report = report(samples());
    let ratio = show(&report, "1 KB, keep-alive");
    assert_eq!(ratio.got.map(|got| (got * 100.0).round()), Some(50.0));
    assert!(ratio.holds);
    assert!(report.shows.iter().all(|show| show.holds));
    assert_eq!(report.other_work.to_string(), "0.5");
}

#[test]
fn what_is_missing_or_wrong_breaks_a_claim() {
    let mut without = samples();
    without.retain(|sample| sample.contender != Contender::Nginx);
    let report_without = report(without);
    assert_eq!(report_without.empty_cells(), 5);
    assert!(!show(&report_without, "no cell").holds);
    assert!(
        !show(&report_without, "1 KB, keep-alive").holds,
        "not compared with one"
    );

    let mut wrong = samples();
    wrong[3].errors.status = 2;
    let report_wrong = report(wrong);
    assert_eq!(show(&report_wrong, "every answer").got, Some(2.0));
    assert!(!show(&report_wrong, "every answer").holds);

    let mut slow = samples();
    for sample in &mut slow {
        if sample.contender == Contender::LbAfXdp {
            sample.cpu_us_per_request += 20.0;
        }
    }
    let report_slow = report(slow);
    assert!(
        !show(&report_slow, "1 KB, keep-alive").holds,
        "0.9 is more than 0.85"
    );
    assert_eq!(report_slow.empty_cells(), 0);
}

#[test]
fn the_json_can_be_read_again() {
    let json = serde_json::to_value(report(samples())).unwrap();
    assert_eq!(json["name"], "l7");
    assert_eq!(json["samples"].as_array().map(Vec::len), Some(10));
    assert_eq!(json["samples"][1]["contender"], "lb_af_xdp");
    assert_eq!(
        json["medians"][1]["cost_us_per_request"]["median"]
            .as_f64()
            .map(f64::round),
        Some(25.0)
    );
    for show in json["shows"].as_array().unwrap() {
        let mut keys: Vec<_> = show
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        keys.sort_unstable();
        assert_eq!(keys, ["claim", "got", "holds", "target", "unit"]);
    }
    let again: Report = serde_json::from_value(json).unwrap();
    assert_eq!(again.empty_cells(), 0);
}
