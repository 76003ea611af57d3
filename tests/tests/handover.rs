//! Connections that move from our TCP to the kernel's in the midst of transfers, in a lab of namespaces: every byte is there, nobody is
//! reset, nobody waits.
//!
//! The engine, its moves and the XDP program are the product's, the client is Linux; the long form of the first tests is
//! `cargo xtask soak moves`. Loss is by segment and seed. What breaks where the order is wrong is shown as well. Needs root, and the
//! objects and `lb` that `cargo xtask test` builds. Not here: the socket alone (`repair.rs`), what is worth a move (`lb-proxy`).
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers as well"
)]

use lb_tests::{
    guard::Interrupts,
    moves::{Conditions, Found, Plan, crowd, request::Order},
};

/// Moves of a test: each kind of transfer in each family, many times.
const MOVES: u32 = 150;

#[test]
fn at_full_rate_nobody_notices() {
    let found = moves(Order::Right, Conditions::default());
    expect_nothing_wrong(&found);
    assert_eq!(found.stalls, 0, "{found}");
}

fn moves(order: Order, conditions: Conditions<'_>) -> Found {
    let plan = Plan {
        connections: MOVES,
        order,
        conditions,
    };
    let found = crowd(plan, &Interrupts::default()).unwrap();
    eprintln!("{found}");
    found
}

fn expect_nothing_wrong(found: &Found) {
    assert!(found.failures.is_empty(), "{:#?}", found.failures);
    assert_eq!(found.served.resets(), 0, "{found}");
    assert_eq!((found.moved, found.stayed), (MOVES - found.begun, 0), "{found}");
}
