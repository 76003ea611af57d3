//! The result as text for a terminal.

use std::fmt::{self, Write as _};

use super::{Report, Row};

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
    for row in Row::ALL {
        let cells = || report.medians.iter().filter(|cell| cell.row == row);
        if cells().next().is_none() {
            continue;
        }
        writeln!(
            out,
            "\n{:<34}{:>12}{:>22}{:>14}{:>10}{:>10}{:>8}",
            row.title(),
            "requests/s",
            "least–most",
            "server CPU µs",
            "p50 µs",
            "p99 µs",
            "errors"
        )?;
        for cell in cells() {
            let rate = cell.requests_per_second;
            let range = format!("{:.0}–{:.0}", rate.min, rate.max);
            writeln!(
                out,
                "{:<34}{:>12.0}{range:>22}{:>14.2}{:>10.0}{:>10.0}{:>8}",
                cell.contender,
                rate.median,
                cell.server_cpu_us.map_or(0.0, |cpu| cpu.median),
                cell.p50_us.median,
                cell.p99_us.median,
                cell.errors,
            )?;
        }
    }
    writeln!(out)?;
    for cell in &report.idle {
        writeln!(out, "{cell}")?;
    }
    for cell in &report.flood {
        writeln!(out, "{cell}")?;
    }
    for failure in &report.failures {
        writeln!(out, "{failure}")?;
    }
    writeln!(out)?;
    claims(out, report)
}

fn claims(out: &mut String, report: &Report) -> fmt::Result {
    for (word, holds) in [("holds", true), ("DOES NOT HOLD", false)] {
        for show in report.shows.iter().filter(|show| show.holds == holds) {
            let got = show
                .got
                .map_or_else(|| "no result".to_owned(), |got| format!("{got:.2}"));
            writeln!(
                out,
                "{word}: {} {:.2} {unit}: {got}",
                show.claim,
                show.target,
                unit = show.unit
            )?;
        }
    }
    Ok(())
}
