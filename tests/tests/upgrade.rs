//! A daemon takes the place of another one under load, and nobody notices.
//!
//! Needs root and an `lb` with the XDP program inside (`cargo xtask test` builds it). `cargo xtask soak upgrade` does the same for
//! longer.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers as well"
)]

use lb_tests::upgrade::{self, Plan};

const UPGRADES: u32 = 5;

/// Long enough to span several upgrades.
const SIZE: usize = 16 << 20;

fn check(transport: &'static str) {
    let outcome = upgrade::run(Plan {
        upgrades: UPGRADES,
        transport,
        size: SIZE,
    })
    .unwrap();
    let found = &outcome.found;
    let logs = outcome.log.join("---\n");
    assert!(
        found.failed.is_empty(),
        "{transport}, {outcome}: {:#?}\n{logs}",
        found.failed
    );
    // Without TLS a kept connection lives through all of it.
    assert_eq!(found.kept[0], 3, "{transport}, {outcome}\n{logs}");
    assert!(found.transfers > 0 && found.requests > 100, "{outcome}");
    println!("{transport}: {outcome}");
}

#[test]
fn nobody_notices_on_the_kernel() {
    check("kernel");
}
