//! The result as text for a terminal.

use std::fmt::Write as _;

use super::{Contender, Report, page::QUIET, stats::Spread};

/// Tables of loads and memory, then what gave no result, then the claims; those that don't hold are last.
pub fn table(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a string can't fail.
    let _ = write(&mut text, report);
    text
}

fn write(out: &mut String, report: &Report) -> std::fmt::Result {
    for case in &report.settings.cases {
        let (title, connections) = (case.title(), case.connections());
        writeln!(out, "{title} ({connections} connections, medians)")?;
        writeln!(
            out,
            "  {:<10}{:>12}{:>11}{:>11}{:>14}{:>14}{:>8}",
            "", "requests/s", "p50 µs", "p99 µs", "CPU µs/req", "balancer's", "errors",
        )?;
        for cell in report.medians.iter().filter(|cell| cell.case == *case) {
            let cost = match cell.contender {
                Contender::Direct => "–".to_owned(),
                _ => figure(cell.cost_us_per_request, 1),
            };
            writeln!(
                out,
                "  {:<10}{:>12}{:>11}{:>11}{:>14}{cost:>14}{:>8}",
                cell.contender,
                figure(cell.requests_per_second, 0),
                figure(cell.p50_us, 0),
                figure(cell.p99_us, 0),
                figure(cell.cpu_us_per_request, 1),
                cell.errors,
            )?;
        }
        writeln!(out)?;
    }
    if !report.memory.is_empty() {
        writeln!(out, "idle connection, bytes")?;
        writeln!(
            out,
            "  {:<10}{:>12}{:>24}",
            "", "processes", "kernel, with client's"
        )?;
        for cell in &report.memory {
            let (process, slab) = (cell.process_bytes, cell.slab_bytes);
            writeln!(out, "  {:<10}{process:>12.0}{slab:>24.0}", cell.contender)?;
        }
        writeln!(out)?;
    }
    if report.other_work > QUIET {
        let share = report.other_work * 100.0;
        writeln!(
            out,
            "Other programs took {share:.0} % of the busy time: repeat this on a quiet machine."
        )?;
    }
    for failure in &report.failures {
        writeln!(out, "{failure}")?;
    }
    for show in report.shows.iter().filter(|show| show.holds) {
        writeln!(out, "holds: {show}")?;
    }
    for show in report.shows.iter().filter(|show| !show.holds) {
        writeln!(out, "DOES NOT HOLD: {show}")?;
    }
    Ok(())
}

fn figure(spread: Option<Spread>, digits: usize) -> String {
    spread.map_or_else(
        || "no result".to_owned(),
        |spread| format!("{:.digits$}", spread.median),
    )
}
