//! wrk through `lb` on both transports and past it: a look, with one short run each. `cargo xtask bench l7` measures.

use std::time::Duration;

use anyhow::Result;

use super::{Stage, say};
use crate::bench::{self, Case, Contender, Rig};

pub(super) fn play(stage: &mut Stage<'_>) -> Result<()> {
    stage.step(
        "wrk against the pool: direct and through lb (3 s each; `cargo xtask bench l7` measures)",
    )?;
    let rig = Rig::start()?;
    for case in [Case::KeepAlive, Case::PerRequest] {
        say(&format!(
            "{}, {} connections",
            case.title(),
            case.connections()
        ));
        say(&format!(
            "  {:<10}{:>12}{:>10}{:>10}{:>14}",
            "", "requests/s", "p50 µs", "p99 µs", "CPU µs/req"
        ));
        let mut broken = 0;
        for contender in [Contender::Direct, Contender::LbAfXdp, Contender::LbKernel] {
            stage.interrupts.check()?;
            let sample = bench::sample(&rig, case, contender, 1, RUN)?;
            say(&format!(
                "  {contender:<10}{:>12.0}{:>10.0}{:>10.0}{:>14.1}",
                sample.requests_per_second, sample.p50_us, sample.p99_us, sample.cpu_us_per_request,
            ));
            broken += sample.errors.total();
        }
        stage.outcome("every answer was 200 and no connection broke", &broken, &0);
    }
    Ok(())
}

const RUN: Duration = Duration::from_secs(3);
