//! The hand-over benchmark at its smallest: every transport has its figures, every claim a result. No figure is judged.
//!
//! Needs root, wrk, and an `lb` with the XDP program inside (`cargo xtask test` builds it).

use lb_tests::{
    bench_handover::{self, Contender, Report, Sizes},
    guard::Interrupts,
};

#[test]
fn every_transport_is_measured() {
    let sizes = Sizes::tiny();
    let progress = |line: &str| eprintln!("{line}");
    let report = bench_handover::run(&sizes, &Interrupts::default(), &progress).unwrap();
    assert!(report.failures.is_empty(), "{:?}", report.failures);
    for &case in &sizes.cases {
        for contender in Contender::ALL {
            let cell = report.cell(case, contender).unwrap();
            assert!(cell.requests_per_second.min > 0.0, "{cell:?}");
            assert_eq!(cell.errors, 0, "{cell:?}");
        }
    }
    assert_eq!(report.shows.len(), 1 + sizes.cases.len());
    for show in &report.shows {
        assert!(show.got.is_some(), "{}", show.claim);
    }

    let json = serde_json::to_string(&report).unwrap();
    let again: Report = serde_json::from_str(&json).unwrap();
    let texts = [bench_handover::table(&again), bench_handover::page(&again)];
    for text in texts {
        for case in &sizes.cases {
            assert!(text.contains(&case.title()), "{}", case.title());
        }
        assert!(!text.contains("no result") && !text.contains("NO RESULT"));
        assert!(!text.contains("http://") && !text.contains("https://"));
    }
}
