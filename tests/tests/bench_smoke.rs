//! The layer 7 benchmark in its shortest form: every contender starts, serves and is measured.
//!
//! Needs root, wrk, nginx, HAProxy and an `lb` with the XDP program inside (`cargo xtask test` builds it). What is
//! asserted is that nothing is missing or refused; how fast anyone is decides nothing.

use std::time::Duration;

use lb_tests::{
    bench::{self, Case, Contender, Plan, Report},
    guard::Interrupts,
};

#[test]
fn every_contender_is_measured() {
    let plan = Plan {
        cases: vec![Case::KeepAlive, Case::ReEncrypt],
        contenders: Contender::ALL.into(),
        rounds: 1,
        run: Duration::from_secs(1),
        idle_connections: 50,
    };
    let report = bench::run(&plan, &Interrupts::default(), &|line| eprintln!("{line}")).unwrap();
    assert!(report.failures.is_empty(), "{:?}", report.failures);
    assert_eq!(report.empty_cells(), 0);
    for contender in Contender::ALL {
        let sample = report
            .samples
            .iter()
            .find(|sample| sample.contender == contender)
            .unwrap();
        assert!(sample.requests > 0, "{contender}");
        assert_eq!(sample.errors.total(), 0, "{contender}: {:?}", sample.errors);
    }

    let json = serde_json::to_string(&report).unwrap();
    let again: Report = serde_json::from_str(&json).unwrap();
    let page = bench::page(&again);
    let table = bench::table(&again);
    for contender in Contender::ALL {
        for text in [&page, &table] {
            assert!(text.contains(contender.title()), "{contender}");
        }
    }
    for text in [&page, &table] {
        assert!(!text.contains("no result"), "{text}");
    }
}
