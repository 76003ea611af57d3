//! The TCP benchmark at its smallest: every stack has its figures, every claim a result. No figure is judged.
//!
//! Needs root, two CPUs, wrk and the objects of `cargo xtask build-ebpf` (`cargo xtask test` builds these).

use lb_tests::{
    bench_tcp::{self, Contender, Report, Sizes},
    guard::Interrupts,
};

#[test]
fn every_stack_is_measured() {
    let sizes = Sizes::tiny();
    let report =
        bench_tcp::run(&sizes, &Interrupts::default(), &|line| eprintln!("{line}")).unwrap();
    assert!(report.failures.is_empty(), "{:?}", report.failures);
    for contender in Contender::ALL {
        let mut cells = report.medians.iter().map(|cell| cell.contender);
        assert!(cells.any(|other| other == contender), "{contender}");
    }
    for row in &sizes.rows {
        for contender in row.contenders() {
            let cell = report.cell(*row, *contender);
            assert!(cell.is_some(), "{}, {contender}", row.title());
        }
    }
    for sample in &report.samples {
        let (seen, lost) = (sample.segments_seen, sample.segments_lost);
        let is_lossy = sample.row.permille() > 0;
        assert_eq!(seen.is_some_and(|seen| seen > 0), is_lossy, "{sample}");
        assert!(lost <= seen, "{sample}");
    }
    for cell in &report.idle {
        assert_eq!(cell.connections, sizes.idle, "{cell}");
        // Resident memory may not grow at all; what is allocated does.
        assert!(cell.transport_bytes > 0.0, "{cell}");
        assert!(cell.hyper_bytes > 0.0, "{cell}");
    }
    assert_eq!((report.idle.len(), report.flood.len()), (2, 2));
    for cell in &report.flood {
        assert!(cell.syns_per_second > 0.0, "{cell}");
    }
    for show in &report.shows {
        assert!(show.got.is_some(), "{}", show.claim);
    }
    let json = serde_json::to_string(&report).unwrap();
    let again: Report = serde_json::from_str(&json).unwrap();
    let (table, page) = (bench_tcp::table(&again), bench_tcp::page(&again));
    for row in sizes.rows {
        assert!(table.contains(row.title()) && page.contains(row.title()));
    }
    assert!(!table.contains("no result") && !page.contains("no result"));
    assert!(!page.contains("http://") && !page.contains("https://"));
}
