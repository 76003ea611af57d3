//! The layer 4 benchmark at its smallest: every cell has a figure, every claim a result. No figure is judged.
//!
//! Needs root, nft, wrk, HAProxy, the objects of `cargo xtask build-ebpf` and an `lb` with the XDP program inside
//! (`cargo xtask test` builds these).

use lb_tests::{
    bench_l4::{self, Road, Sizes, Way},
    guard::Interrupts,
};

#[test]
fn every_cell_is_filled_and_every_claim_has_a_result() {
    let sizes = Sizes::tiny().unwrap();
    let report =
        bench_l4::run(&sizes, &Interrupts::default(), &|line| eprintln!("{line}")).unwrap();
    let loads = report.medians.len();
    assert!(loads >= 40, "{loads} loads");
    assert_eq!(report.samples.len(), loads);
    for cell in &report.medians {
        assert!(cell.raw_ns.median > 0.0, "{}", cell.load);
        assert!(cell.empty_ns.median > 0.0, "{}", cell.load);
    }
    assert_eq!(report.roads.len(), Road::ALL.len());
    for cell in &report.roads {
        assert!(cell.packets_per_second.median > 0.0, "{}", cell.road);
    }
    for of in &report.comparisons {
        let found = |title: &String| report.medians.iter().any(|cell| cell.load == *title);
        assert!(found(&of.load) && found(&of.base), "{of:?}");
    }
    for what in [
        "beyond",
        "SYN flood",
        "largest program",
        "refused",
        "XDP_TX",
    ] {
        let mut shows = report.shows.iter();
        assert!(shows.any(|show| show.claim.contains(what)), "{what}");
    }
    assert_eq!(report.connections.len(), Way::ALL.len());
    for cell in &report.connections {
        assert!(cell.requests_per_second.median > 0.0, "{}", cell.way);
    }
    for show in &report.shows {
        assert!(show.got.is_some(), "{}", show.claim);
    }
    let (table, page) = (bench_l4::table(&report), bench_l4::page(&report));
    for cell in &report.medians {
        assert!(table.contains(&cell.load) && page.contains(&cell.load));
    }
    assert!(!table.contains("no result") && !page.contains("no result"));
    assert!(!page.contains("http://") && !page.contains("https://"));
}
