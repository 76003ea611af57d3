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

#[path = "handover/ends.rs"]
mod ends;
#[path = "handover/host.rs"]
mod host;
#[path = "handover/limit.rs"]
mod limit;

use lb_tests::{
    guard::Interrupts,
    moves::{Conditions, Found, Plan, crowd, request::Order},
};

/// Moves of a test: each kind of transfer in each family, many times.
const MOVES: u32 = 120;

#[test]
fn at_full_rate_nobody_notices() {
    unnoticed(Conditions::default());
}

#[test]
fn beside_loss_nobody_notices() {
    let found = unnoticed(Conditions {
        permille: 1,
        ..Conditions::default()
    });
    let served = &found.served;
    assert!(served.to_client.lost > 0 && served.to_edge.lost > 0);
}

#[test]
fn without_timestamps_nobody_notices() {
    unnoticed(lossy_without(&["tcp_timestamps"]));
}

#[test]
fn without_sack_nobody_notices() {
    unnoticed(lossy_without(&["tcp_sack"]));
}

#[test]
fn without_window_scaling_nobody_notices() {
    unnoticed(lossy_without(&["tcp_window_scaling"]));
}

#[test]
fn without_any_option_nobody_notices() {
    unnoticed(lossy_without(&[
        "tcp_timestamps",
        "tcp_sack",
        "tcp_window_scaling",
    ]));
}

/// What these tests see if it is there: between the map and the socket the kernel knows of no connection, and says so.
#[test]
fn with_the_map_before_the_socket_clients_are_reset() {
    let found = moves(Order::Naive, Conditions::default());
    assert!(!found.failures.is_empty(), "{found}");
    assert!(found.served.resets() > 0, "{found}");
}

/// The map forgets what it has no room for. Packets come to the engine then, which gives them back and notes the connection again.
#[test]
fn a_connection_that_the_map_forgot_goes_on() {
    let found = moves(Order::Evicted, Conditions::default());
    found.check(MOVES).unwrap();
    let counted = found.served.engine.moves;
    assert!(counted.astray > 0 && counted.reinjected > 0, "{counted:?}");
}

fn lossy_without<'a>(off: &'a [&'a str]) -> Conditions<'a> {
    Conditions {
        permille: 1,
        off,
        ..Conditions::default()
    }
}

fn unnoticed(conditions: Conditions<'_>) -> Found {
    let found = moves(Order::Right, conditions);
    found.check(MOVES).unwrap();
    found
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
