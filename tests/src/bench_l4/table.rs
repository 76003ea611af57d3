//! The result as text for a terminal.

use std::fmt::{self, Write as _};

use super::Report;

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
    nanoseconds(out, report)?;
    for fact in &report.facts {
        let value = if fact.value.fract() == 0.0 { 0 } else { 4 };
        writeln!(out, "{}: {:.value$} {}", fact.what, fact.value, fact.unit)?;
    }
    roads(out, report)?;
    connections(out, report)?;
    claims(out, report)
}

fn nanoseconds(out: &mut String, report: &Report) -> fmt::Result {
    writeln!(
        out,
        "\n{:<72}{:>9}{:>9}{:>9}{:>15}{:>9}",
        "nanoseconds per packet (medians)", "raw", "empty", "net", "least–most", "wanted"
    )?;
    for cell in &report.medians {
        let range = format!("{:.0}–{:.0}", cell.net_ns.min, cell.net_ns.max);
        let wanted = cell
            .target_ns
            .map_or_else(String::new, |target| format!("≤ {target:.0}"));
        writeln!(
            out,
            "{:<72}{:>9.1}{:>9.1}{:>9.1}{range:>15}{wanted:>9}",
            cell.load, cell.raw_ns.median, cell.empty_ns.median, cell.net_ns.median,
        )?;
    }
    writeln!(out)
}

fn roads(out: &mut String, report: &Report) -> fmt::Result {
    writeln!(
        out,
        "\n{:<72}{:>12}{:>24}{:>12}",
        "over veth (medians)", "packets/s", "least–most", "arrived"
    )?;
    for cell in &report.roads {
        let rate = cell.packets_per_second;
        let range = format!("{:.0}–{:.0}", rate.min, rate.max);
        writeln!(
            out,
            "{:<72}{:>12.0}{range:>24}{:>10.1} %",
            cell.road,
            rate.median,
            cell.arrived.median * 100.0
        )?;
    }
    Ok(())
}

fn connections(out: &mut String, report: &Report) -> fmt::Result {
    writeln!(
        out,
        "\n{:<72}{:>12}{:>12}{:>15}",
        "whole connections (medians)", "requests/s", "µs CPU", "beyond direct"
    )?;
    for cell in &report.connections {
        writeln!(
            out,
            "{:<72}{:>12.0}{:>12.1}{:>15.1}",
            format!("{}: {}", cell.case.title(), cell.way),
            cell.requests_per_second.median,
            cell.cpu_us.median,
            cell.beyond_direct_us,
        )?;
    }
    writeln!(out)
}

fn claims(out: &mut String, report: &Report) -> fmt::Result {
    for (word, holds) in [("holds", true), ("DOES NOT HOLD", false)] {
        for show in report.shows.iter().filter(|show| show.holds == holds) {
            let got = show
                .got
                .map_or_else(|| "no result".to_owned(), |got| format!("{got:.2}"));
            writeln!(
                out,
                "{word}: {}: {got} {unit}, at most {:.2} wanted",
                show.claim,
                show.target,
                unit = show.unit
            )?;
        }
    }
    Ok(())
}
