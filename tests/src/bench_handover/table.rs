//! The result as text for a terminal.

use std::fmt::{self, Write as _};

use super::{Case, Contender, Report};

/// Method, figures, and then the claims; those that don't hold are last.
pub fn table(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a string can't fail.
    let _ = write(&mut text, report);
    text
}

fn write(out: &mut String, report: &Report) -> fmt::Result {
    for sentence in &report.method {
        writeln!(out, "{sentence}")?;
    }
    writeln!(
        out,
        "\n{:<36}{:>28}{:>10}{:>28}",
        "", "requests/s", "auto /", "µs CPU of the machine each"
    )?;
    write!(out, "{:<36}", "")?;
    heads(out)?;
    write!(out, "{:>10}", "better")?;
    heads(out)?;
    writeln!(out, "{:>8}{:>8} begins on", "errors", "moved")?;
    for &case in &report.settings.cases {
        row(out, report, case)?;
    }
    if report.other_work > QUIET {
        let share = report.other_work * 100.0;
        writeln!(
            out,
            "\nOther programs took {share:.0} % of the busy time: repeat this on a quiet machine."
        )?;
    }
    writeln!(out)?;
    for failure in &report.failures {
        writeln!(out, "{failure}")?;
    }
    claims(out, report)
}

fn heads(out: &mut String) -> fmt::Result {
    for contender in Contender::ALL {
        write!(out, "{contender:>9}")?;
    }
    write!(out, " ")
}

fn row(out: &mut String, report: &Report, case: Case) -> fmt::Result {
    let cell = |contender| report.cell(case, contender);
    write!(out, "{:<36}", case.title())?;
    for contender in Contender::ALL {
        let rate = cell(contender).map(|cell| cell.requests_per_second.median);
        write!(out, "{:>9}", figure(rate, 0))?;
    }
    let rate = |contender| cell(contender).map(|cell| cell.requests_per_second.median);
    let halves = rate(Contender::AfXdp).zip(rate(Contender::Kernel));
    let ratio = rate(Contender::Auto).zip(halves);
    let ratio = ratio.map(|(auto, (one, other))| auto / one.max(other));
    write!(out, " {:>10}", figure(ratio, 2))?;
    for contender in Contender::ALL {
        let cpu = cell(contender).and_then(|cell| cell.cpu_us_per_request);
        write!(out, "{:>9}", figure(cpu.map(|cpu| cpu.median), 1))?;
    }
    let errors: u64 = Contender::ALL
        .into_iter()
        .filter_map(cell)
        .map(|cell| cell.errors)
        .sum();
    let auto = cell(Contender::Auto);
    let moved = figure(auto.map(|cell| cell.moved_per_request), 2);
    let place = auto.and_then(|cell| cell.begins_on.as_deref());
    writeln!(out, " {errors:>8}{moved:>8} {}", place.unwrap_or_default())
}

fn figure(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "none".to_owned(), |value| format!("{value:.digits$}"))
}

fn claims(out: &mut String, report: &Report) -> fmt::Result {
    for (word, holds) in [("holds", true), ("DOES NOT HOLD", false)] {
        for show in report.shows.iter().filter(|show| show.holds == holds) {
            let got = show
                .got
                .map_or_else(|| "no result".to_owned(), |got| format!("{got:.2}"));
            writeln!(
                out,
                "{word}: {} {} {}: {got}",
                show.claim, show.target, show.unit
            )?;
        }
    }
    Ok(())
}

/// Above this share of other programs, figures are not to be trusted.
pub(super) const QUIET: f64 = 0.05;
