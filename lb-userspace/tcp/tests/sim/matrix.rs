//! Seeds × faults.

use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::fault::Fault;
use crate::scenario::{Kind, Scenario};
use crate::world::Report;

/// Seeds for each fault.
const SEEDS: u64 = 1000;

/// Runs all seeds; every tenth twice, to see that nothing but the seed decides.
fn all(name: &str, fault: Fault, kinds: fn(u64) -> [Kind; 2]) {
    let mut failures = BTreeMap::<String, Vec<u64>>::new();
    for seed in seeds() {
        let scenario = Scenario::new(fault, kinds(seed), seed);
        let first = run(name, seed, &scenario);
        match first {
            Ok(report) if seed % 10 == 0 => {
                let second = run(name, seed, &scenario);
                assert_eq!(second, Ok(report), "seed {seed} is not the same twice");
            }
            Ok(_) => {}
            Err(why) if is_smoltcps_fault(&why) => {}
            Err(why) if goes_on() => {
                let kind = why.split(". after").next().unwrap_or_default();
                let kind = kind
                    .chars()
                    .filter(|it| !it.is_numeric())
                    .take(60)
                    .collect();
                failures.entry(kind).or_default().push(seed);
            }
            Err(why) => panic!("{why}"),
        }
    }
    for (kind, seeds) in failures {
        eprintln!("{name}: {} times: {kind}: seeds {seeds:?}", seeds.len());
    }
}

/// With its FIN sent, smoltcp 0.14 can stop its timer although the FIN was lost, or probe a closed window without end although
/// it has nothing to send. And it learns nothing of a peer whose RST was lost, since its keepalive can't be used: it overwrites
/// a byte of what is in flight.
fn is_smoltcps_fault(why: &str) -> bool {
    let has_finished = ["FIN-WAIT-1", "FIN-WAIT-2", "CLOSING", "LAST-ACK"];
    let mut states = has_finished.iter();
    let waits = [
        "stuck",
        "still busy",
        "running in circles",
        "too many packets",
    ];
    (states.any(|state| why.contains(&format!("smoltcp {state}"))) || why.contains("talk: Abort"))
        && waits.iter().any(|wait| why.contains(wait))
}

/// Whether a survey is wanted of what fails, and not only the first failure.
fn goes_on() -> bool {
    std::env::var_os("LB_SIM_SURVEY").is_some()
}

fn seeds() -> Range<u64> {
    let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    if let Some(seed) = number("LB_SIM_SEED") {
        return seed..seed + 1;
    }
    let first = number("LB_SIM_FIRST").unwrap_or(0);
    first..first + number("LB_SIM_SEEDS").unwrap_or(SEEDS)
}

/// # Errors
/// Why the run failed, and how to repeat it.
fn run(name: &str, seed: u64, scenario: &Scenario) -> Result<Report, String> {
    let result = catch_unwind(AssertUnwindSafe(|| scenario.run()));
    let why = match result {
        Ok(Ok(report)) => return Ok(report),
        Ok(Err(why)) => why,
        Err(panic) => match panic.downcast::<String>() {
            Ok(message) => *message,
            Err(_) => "a panic, see above".to_owned(),
        },
    };
    Err(format!(
        "{why}\nin {scenario:?}\nrepeat it: LB_SIM_SEED={seed} cargo test -p lb-tcp --test sim {name} -- --exact --nocapture"
    ))
}

macro_rules! matrix {
    ($kinds:expr, $path:literal: $($test:ident = $fault:ident,)+) => {
        $(
            #[test]
            fn $test() {
                all(concat!($path, stringify!($test)), Fault::$fault, $kinds);
            }
        )+
    };
}

matrix! {
    |seed| match seed % 3 {
        0 => [Kind::Connection; 2],
        1 => [Kind::Endpoint; 2],
        _ => [Kind::Connection, Kind::Endpoint],
    },
    "matrix::":
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

/// Against a TCP that others have written, in both roles.
///
/// Without what smoltcp 0.14 doesn't survive: it knows no path MTU, and after an outage it can send acknowledgements without
/// end.
mod smoltcp {
    use super::{Fault, Kind, all};

    matrix! {
        |seed| match seed % 2 {
            0 => [Kind::Connection, Kind::Smoltcp],
            _ => [Kind::Smoltcp, Kind::Endpoint],
        },
        "matrix::smoltcp::":
        clean = Clean,
        short_queue = ShortQueue,
        loss = Loss,
        bursts = Bursts,
        ack_loss = AckLoss,
        reorder = Reorder,
        jitter = Jitter,
        duplication = Duplication,
        corruption = Corruption,
        stall = Stall,
    }
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
            if let Err(why) = run("matrix::smoltcp_with_itself", seed, &scenario) {
                panic!("{why}");
            }
        }
    }
}
