//! Waits until `auto` has found out what kind of connections a case has.
//!
//! A service that finds most of its connections to be bulk begins those after them on the kernel. It looks once a second and wants to have
//! seen enough of them end; the figures are of a service that has been through that, as one that has run for a minute is. Not
//! here: the daemon's rule (`control/begin.rs` of `lb`), and what is measured afterwards.

use std::{thread, time::Duration};

use anyhow::Result;

use super::{Case, Contender, Lives};
use crate::{
    bench::{Rig, Running},
    guard::Interrupts,
};

/// Loads `auto`, and again as long as the load before has changed where its connections begin; a line for people.
pub(super) fn settle(
    rig: &Rig,
    balancer: &mut Running,
    case: Case,
    interrupts: &Interrupts,
) -> Result<String> {
    let place = || anyhow::Ok(Lives::of(rig, Contender::Auto, case)?.begins_on);
    let mut before = place()?;
    for run in 1..=MOST {
        interrupts.check()?;
        // What is wrong shows in the runs that count.
        let connections = case.connections().max(ENOUGH);
        let _ = super::load(rig, case, Contender::Auto, connections, 1);
        thread::sleep(LOOK);
        balancer.check()?;
        let now = place()?;
        if now == before {
            return Ok(line(case, now.as_deref(), run));
        }
        before = now;
    }
    let title = case.title();
    Ok(format!(
        "{title}: where auto begins its connections still changes after {MOST} runs"
    ))
}

fn line(case: Case, place: Option<&str>, runs: u32) -> String {
    let (title, place) = (case.title(), place.unwrap_or("nobody knows what"));
    let runs = if runs == 1 {
        "one run".to_owned()
    } else {
        format!("{runs} runs")
    };
    format!("{title}: after {runs} auto begins its connections on {place}")
}

/// So many connections end with a run: as many as a decision takes.
const ENOUGH: u32 = 64;

/// Longer than the daemon waits between two looks at a service.
const LOOK: Duration = Duration::from_millis(1500);

/// One that hasn't settled by then never will.
const MOST: u32 = 5;
