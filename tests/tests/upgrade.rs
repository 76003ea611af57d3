//! A daemon takes the place of another one under load, and nobody notices.
//!
//! Needs root and an `lb` with the XDP program inside (`cargo xtask test` builds it). `cargo xtask soak upgrade` does the same for
//! longer.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers as well"
)]

#[path = "upgrade/ends.rs"]
mod ends;
#[path = "upgrade/fates.rs"]
mod fates;

use lb_tests::{
    upgrade::{self, Outcome, PinDirectory, Plan, Transport},
    world::{Balancer, World, http},
};

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
    eprintln!("{transport:?}: {outcome}");
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

const URL: &str = "http://10.203.1.100/owa/healthcheck.htm";

fn configuration(flows: u32) -> String {
    format!(
        "[flows]\nmax = {flows}\n\n[[service]]\nname = \"web\"\nlisten = \"10.203.1.100:80\"\nmode = \"http\"\n\
         servers = [\"{}\"]\nhealth = {{ kind = \"none\" }}\n",
        http(1)
    )
}

/// It ends, says why, and the daemon that runs hasn't done anything.
fn refused(mut successor: Balancer, why: &str, daemon: &mut Balancer) {
    assert!(!successor.wait().unwrap().success());
    let log = successor.log();
    assert!(log.contains(why), "{why:?} is not in {log}");
    daemon.until_served(URL).unwrap();
    assert!(!daemon.log().contains("another lb takes over"));
}

#[test]
fn who_can_not_take_over_says_why_and_changes_nothing() {
    let world = World::start(1).unwrap();
    let (pins, others) = (PinDirectory::new("succeeded"), PinDirectory::new("other"));
    let ours = configuration(10_000);
    let mut daemon = world.balance_pinned(&ours, pins.path()).unwrap();
    daemon.until_served(URL).unwrap();
    let without = world.balance(&ours).unwrap();
    refused(without, "with the same --pin", &mut daemon);
    let elsewhere = world.balance_pinned(&ours, others.path()).unwrap();
    refused(elsewhere, "the lb that runs has --pin", &mut daemon);
    // Found out with the lock of the pins in hand, and before anything was asked for.
    let larger = configuration(1_000_000);
    let larger = world.balance_pinned(&larger, pins.path()).unwrap();
    refused(larger, "flows.max", &mut daemon);
    // Whoever fits can still take over, and is the daemon then.
    let mut successor = world.balance_pinned(&ours, pins.path()).unwrap();
    successor.until_served(URL).unwrap();
    assert!(daemon.wait().unwrap().success());
    successor.until_served(URL).unwrap();
    assert!(successor.stop().unwrap().success());
}

#[test]
fn a_daemon_without_pins_hands_over_to_nobody() {
    let world = World::start(1).unwrap();
    let pins = PinDirectory::new("succeeding");
    let mut daemon = world.balance(&configuration(10_000)).unwrap();
    daemon.until_served(URL).unwrap();
    let pinned = world.balance_pinned(&configuration(10_000), pins.path());
    refused(pinned.unwrap(), "has no --pin", &mut daemon);
}
