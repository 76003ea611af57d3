//! Seeds × faults.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::fault::Fault;
use crate::scenario::{Kind, Scenario};

/// Seeds for each fault.
const SEEDS: u64 = 1000;

/// Runs all seeds; every tenth twice, to see that nothing but the seed decides.
fn all(name: &str, fault: Fault, kinds: fn(u64) -> [Kind; 2]) {
    for seed in seeds() {
        let scenario = Scenario::new(fault, kinds(seed), seed);
        let first = run(name, seed, &scenario);
        if seed % 10 == 0 {
            let second = run(name, seed, &scenario);
            assert_eq!(first, second, "seed {seed} is not the same twice");
        }
    }
}

fn seeds() -> Range<u64> {
    let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    if let Some(seed) = number("LB_SIM_SEED") {
        return seed..seed + 1;
    }
    let first = number("LB_SIM_FIRST").unwrap_or(0);
    first..first + number("LB_SIM_SEEDS").unwrap_or(SEEDS)
}

/// # Panics
/// If the run fails; says how to repeat it.
fn run(name: &str, seed: u64, scenario: &Scenario) -> crate::world::Report {
    let result = catch_unwind(AssertUnwindSafe(|| scenario.run()));
    let why = match result {
        Ok(Ok(report)) => return report,
        Ok(Err(why)) => why,
        Err(_) => "a panic, see above".to_owned(),
    };
    panic!(
        "{why}\nin {scenario:?}\nrepeat it: LB_SIM_SEED={seed} cargo test -p lb-tcp --test sim {name} -- --exact --nocapture"
    );
}

macro_rules! matrix {
    ($($test:ident = $fault:ident,)+) => {
        $(
            #[test]
            fn $test() {
                let name = concat!("matrix::", stringify!($test));
                all(name, Fault::$fault, |seed| match seed % 3 {
                    0 => [Kind::Connection; 2],
                    1 => [Kind::Endpoint; 2],
                    _ => [Kind::Connection, Kind::Endpoint],
                });
            }
        )+

        /// Against another TCP, in both roles.
        mod smoltcp {
            use super::{Fault, Kind, all};

            $(
                #[test]
                fn $test() {
                    let name = concat!("matrix::smoltcp::", stringify!($test));
                    all(name, Fault::$fault, |seed| match seed % 2 {
                        0 => [Kind::Connection, Kind::Smoltcp],
                        _ => [Kind::Smoltcp, Kind::Endpoint],
                    });
                }
            )+
        }
    };
}

matrix! {
    clean = Clean,
    short_queue = ShortQueue,
    loss = Loss,
    bursts = Bursts,
    ack_loss = AckLoss,
    reorder = Reorder,
    jitter = Jitter,
    duplication = Duplication,
    corruption = Corruption,
    narrow = Narrow,
    black_hole = BlackHole,
    stall = Stall,
    outage = Outage,
    everything = Everything,
}

/// What smoltcp does with itself says that the simulator is right: two ends of ours could share a mistake.
///
/// Without loss: smoltcp 0.14 stops its timer when all but a FIN is acknowledged that it has sent twice.
#[test]
fn smoltcp_with_itself() {
    for fault in [
        Fault::Clean,
        Fault::Reorder,
        Fault::Duplication,
        Fault::Stall,
        Fault::Outage,
    ] {
        for seed in seeds().take(100) {
            let scenario = Scenario::new(fault, [Kind::Smoltcp; 2], seed);
            run("matrix::smoltcp_with_itself", seed, &scenario);
        }
    }
}
