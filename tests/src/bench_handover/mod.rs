//! `cargo xtask bench handover`: what `transport = "auto"` makes of the better of its two halves, at every size of body.
//!
//! Invariants: the three transports are services of one `lb`, in front of the same servers; each case has an `lb` of its own, so that
//! what a service has found out in one doesn't count in the next; in each case they take turns,
//! in another order each round, so that neither a machine that grows slower nor who comes after whom favours one; what fails is
//! in the result, never left out. RPS on veth is never turned on: it halves the kernel's figures. Speed decides nothing
//! here: the benchmark measures, it does not judge.
//!
//! | module | job |
//! |---|---|
//! | `case` | loads and transports: what is measured, and who |
//! | `lives` | where `auto` had its connections |
//! | `settle` | until it has found out where to begin them |
//! | `report`, `claims` | medians, claims, JSON |
//! | `table`, `page` | for people |
//!
//! The lab and the servers are those of the layer 7 benchmark. Called by the binary `lb-bench` and by one test.

mod case;
mod claims;
mod lives;
mod page;
mod report;
mod settle;
mod table;

pub use self::{
    case::{Case, Contender, Part, SIZES},
    lives::Lives,
    page::page,
    report::{Cell, Failure, Report, Sample},
    table::table,
};

use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::{
    address::server,
    bench::{
        Machine, Rig, Window, float,
        wrk::{Counted, Load},
    },
    guard::Interrupts,
};

/// How much to run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sizes {
    /// Loads, in this order.
    pub cases: Vec<Case>,
    /// Runs of each transport under each load.
    pub rounds: u32,
    /// Seconds of a run.
    pub seconds: u64,
    /// Seconds of a run of each transport before those that count, when `auto` has settled; with 0 there is neither.
    pub warm_up: u64,
}

impl Sizes {
    /// What the claims are about, or those cases of it that `parts` name. Takes about 20 minutes.
    pub fn full(parts: &[Part]) -> Self {
        Self {
            cases: Part::select(parts),
            rounds: 6,
            seconds: 1,
            warm_up: 1,
        }
    }

    /// A look at the same table, not a result.
    pub fn quick(parts: &[Part]) -> Self {
        Self {
            rounds: 1,
            ..Self::full(parts)
        }
    }

    /// Enough to see that each kind of load and every transport gives a figure.
    pub fn tiny() -> Self {
        let mut tiny = Self::quick(&[Part::Size(1), Part::Size(1024)]);
        tiny.warm_up = 0;
        tiny
    }
}

/// Measures everything; `progress` gets a line per run. Needs root.
///
/// Fails when the lab can't be made, `lb` doesn't start or ends, or the run is interrupted; a run that gives no result is in the report.
pub fn run(sizes: &Sizes, interrupts: &Interrupts, progress: &dyn Fn(&str)) -> Result<Report> {
    let rig = Rig::start()?;
    let urls: Vec<String> = Part::select(&[Part::Size(1), Part::OneShot])
        .into_iter()
        .flat_map(|case| Contender::ALL.map(|contender| contender.url(case)))
        .collect();
    let mut report = Report::new(Machine::here()?, sizes.clone());
    for &case in &sizes.cases {
        let mut balancer = rig.balance(configuration(&rig), &urls)?;
        if sizes.warm_up > 0 {
            progress(&settle::settle(&rig, &mut balancer, case, interrupts)?);
            for contender in Contender::ALL {
                interrupts.check()?;
                // What is wrong shows in the runs that count.
                let _ = load(&rig, case, contender, case.connections(), sizes.warm_up);
            }
        }
        for round in 1..=sizes.rounds {
            for contender in Contender::order(round) {
                interrupts.check()?;
                let sample = sample(&rig, case, contender, round, sizes.seconds);
                interrupts.check()?;
                balancer.check()?;
                progress(&report.add(case, contender, sample));
            }
        }
        balancer.stop()?;
    }
    report.conclude();
    Ok(report)
}

/// All services in one configuration.
fn configuration(rig: &Rig) -> String {
    let mut template = include_str!("../../assets/bench-handover.toml").to_owned();
    for contender in Contender::ALL {
        let [plain, tls] = contender.ports();
        let service = include_str!("../../assets/bench-handover-service.toml")
            .replace("@SERVICE@", &contender.title().replace('_', "-"))
            .replace("@TRANSPORT@", contender.title())
            .replace("@PLAIN@", &plain.to_string())
            .replace("@TLS@", &tls.to_string());
        template.push_str(&service);
    }
    rig.fill(&template, |number, port| {
        format!("\"{}:{port}\",", server(number))
    })
}

fn sample(rig: &Rig, case: Case, contender: Contender, round: u32, seconds: u64) -> Result<Sample> {
    let before = Lives::of(rig, contender, case)?;
    let window = Window::open()?;
    let counted = load(rig, case, contender, case.connections(), seconds)?;
    let busy = window.close()?;
    let lives = Lives::of(rig, contender, case)?.since(&before);
    let requests = float(counted.requests);
    let (all, others) = (busy.all.as_secs_f64(), busy.others.as_secs_f64());
    let others = others.min(all);
    Ok(Sample {
        case,
        contender,
        round,
        requests: counted.requests,
        requests_per_second: requests / (float(counted.duration_us) / 1e6),
        cpu_us_per_request: (counted.requests > 0).then(|| (all - others) * 1e6 / requests),
        p50_us: counted.p50_us,
        p99_us: counted.p99_us,
        errors: counted.errors,
        others: others / all.max(f64::MIN_POSITIVE),
        lives,
    })
}

fn load(
    rig: &Rig,
    case: Case,
    contender: Contender,
    connections: u32,
    seconds: u64,
) -> Result<Counted> {
    let load = Load {
        url: contender.url(case),
        targets: &[],
        threads: 2,
        connections,
        field: case.field(),
        length: Duration::from_secs(seconds),
        cpu: None,
    };
    load.run(&rig.lab().client(), rig.directory())
}
