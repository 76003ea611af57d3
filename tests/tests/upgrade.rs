//! A daemon takes the place of another one under load, and nobody notices.
//!
//! Needs root and an `lb` with the XDP program inside (`cargo xtask test` builds it). `cargo xtask soak upgrade` does the same for
//! longer.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers as well"
)]

use lb_tests::upgrade::{self, Outcome, Plan, Transport};

/// Long enough to span several upgrades.
const SIZE: usize = 16 << 20;

fn check(transport: Transport, upgrades: u32, failures: u32) -> Outcome {
    let plan = Plan {
        upgrades,
        failures,
        transport,
        size: SIZE,
    };
    let outcome = upgrade::run(plan, || Ok(())).unwrap();
    println!("{transport:?}: {outcome}");
    let (found, logs) = (&outcome.found, outcome.log.join("---\n"));
    assert!(found.failed.is_empty(), "{:#?}\n{logs}", found.failed);
    // Without TLS a kept connection lives through all of it.
    assert_eq!(found.kept[0], 3, "{logs}");
    assert!(found.transfers > 0 && found.requests > 100, "{outcome}");
    outcome
}

#[test]
fn nobody_notices_on_the_kernel() {
    check(Transport::Kernel, 5, 0);
}

/// Long transfers are in the workers' TCP when their daemon leaves.
#[test]
fn nobody_notices_on_af_xdp() {
    let outcome = check(Transport::AfXdp, 5, 0);
    // Four long transfers at least are under way at any time, and were on `AF_XDP` when the first daemon left.
    assert!(outcome.moved[0] >= 4, "{outcome}");
}

/// Twice a daemon fails after the one that runs has left its rx queues: that one goes back, and nobody notices that either.
#[test]
fn nobody_notices_a_successor_that_fails() {
    check(Transport::AfXdp, 1, 2);
}
