//! The result as one HTML file that loads nothing: claims, plots, the tables below, and how it was measured.
//!
//! Not here: figures of its own. All come from the [`Report`], so the page never says more than the JSON.

use std::fmt::{self, Write as _};

use super::Report;
use crate::bench::{Spread, claims_table, escape};

/// The whole file.
pub fn page(report: &Report) -> String {
    let mut html = String::new();
    // Writing to a string can't fail.
    let _ = write(&mut html, report);
    html
}

fn write(html: &mut String, report: &Report) -> fmt::Result {
    html.push_str(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>lb: layer 4 benchmark</title><style>\n",
    );
    html.push_str(include_str!("../../assets/bench.css"));
    html.push_str(".charts.wide { grid-template-columns: 1fr; } .target { stroke: var(--bad); stroke-width: 2; }\n");
    html.push_str("</style></head><body>\n");
    let machine = &report.machine;
    writeln!(
        html,
        "<h1>What a packet costs in lb's XDP program</h1>\
         <p class=\"soft\">{} CPUs ({}), {} MiB, Linux {}. {}.</p>",
        machine.cpus,
        escape(&machine.cpu),
        machine.memory_mib,
        escape(&machine.kernel),
        escape(&machine.versions.join(", ")),
    )?;
    claims_table(html, &report.shows, "at most", (figure, figure))?;
    plots(html, report)?;
    figures(html, report)?;
    html.push_str("<h2>How it was measured</h2><ul>\n");
    for sentence in &report.method {
        writeln!(html, "<li>{}</li>", escape(sentence))?;
    }
    html.push_str("<li>Every run is in the JSON file beside this page.</li></ul></body></html>\n");
    Ok(())
}

fn plots(html: &mut String, report: &Report) -> fmt::Result {
    let loads: Vec<Bar<'_>> = report
        .medians
        .iter()
        .map(|cell| Bar {
            label: &cell.load,
            spread: cell.net_ns,
            target: cell.target_ns,
        })
        .collect();
    let roads: Vec<Bar<'_>> = report
        .roads
        .iter()
        .map(|cell| Bar {
            label: cell.road.title(),
            spread: cell.packets_per_second,
            target: None,
        })
        .collect();
    html.push_str("<h2>Plots</h2><p class=\"soft\">Bars are medians, whiskers go from the least to the greatest run; \
                   a red line is what is wanted at most.</p><div class=\"charts wide\">");
    plot(html, "Nanoseconds per packet, net (less is better)", &loads)?;
    plot(
        html,
        "Packets per second over veth (more is better)",
        &roads,
    )?;
    html.push_str("</div>\n");
    Ok(())
}

/// One bar of a plot.
pub(crate) struct Bar<'a> {
    pub(crate) label: &'a str,
    pub(crate) spread: Spread,
    /// Where the red line is.
    pub(crate) target: Option<f64>,
}

/// A bar chart as SVG.
pub(crate) fn plot(html: &mut String, title: &str, bars: &[Bar<'_>]) -> fmt::Result {
    let most = bars.iter().fold(f64::MIN_POSITIVE, |most, bar| {
        most.max(bar.spread.max).max(bar.target.unwrap_or(0.0))
    });
    let x = |value: f64| LABEL + value.max(0.0) / most * (WIDTH - LABEL - VALUE);
    let tops = bars.iter().scan(HEAD, |top, _| {
        *top += ROW;
        Some(*top - ROW)
    });
    let height = tops.clone().last().unwrap_or(HEAD) + ROW;
    write!(
        html,
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{title}\">\
         <text class=\"title\" x=\"0\" y=\"13\">{title}</text>"
    )?;
    for (bar, top) in bars.iter().zip(tops) {
        let (middle, base) = (top + ROW / 2.0, top + ROW / 2.0 + 4.0);
        let [least, end, greatest] = [bar.spread.min, bar.spread.median, bar.spread.max].map(x);
        write!(
            html,
            "<text x=\"{label_end}\" y=\"{base}\" text-anchor=\"end\">{label}</text>\
             <rect class=\"lb-af-xdp\" x=\"{LABEL}\" y=\"{y}\" width=\"{width:.1}\" height=\"14\" rx=\"2\"/>\
             <path class=\"whisker\" d=\"M{least:.1} {middle}H{greatest:.1}\"/>\
             <text class=\"value\" x=\"{after:.1}\" y=\"{base}\">{value}</text>",
            label_end = LABEL - 8.0,
            label = escape(bar.label),
            y = middle - 7.0,
            width = end - LABEL,
            after = greatest.max(bar.target.map_or(0.0, x)) + 6.0,
            value = figure(bar.spread.median),
        )?;
        if let Some(target) = bar.target.map(x) {
            write!(
                html,
                "<path class=\"target\" d=\"M{target:.1} {top}v{ROW}\"/>"
            )?;
        }
    }
    html.push_str("</svg>\n");
    Ok(())
}

fn figures(html: &mut String, report: &Report) -> fmt::Result {
    html.push_str(
        "<h2>All figures (medians)</h2><div class=\"scroll\"><table><thead><tr><th>nanoseconds per packet</th>\
         <th>raw</th><th>empty program</th><th>net</th><th>least</th><th>most</th></tr></thead><tbody>\n",
    );
    for cell in &report.medians {
        let net = cell.net_ns;
        let [raw, empty] = [cell.raw_ns, cell.empty_ns].map(|spread| figure(spread.median));
        let [median, least, most] = [net.median, net.min, net.max].map(figure);
        writeln!(
            html,
            "<tr><td>{}</td><td>{raw}</td><td>{empty}</td><td>{median}</td><td>{least}</td><td>{most}</td></tr>",
            escape(&cell.load),
        )?;
    }
    html.push_str(
        "</tbody></table></div>\n<div class=\"scroll\"><table><thead><tr><th>over veth</th><th>packets/s</th>\
         <th>least</th><th>most</th><th>arrived</th></tr></thead><tbody>\n",
    );
    for cell in &report.roads {
        let rate = cell.packets_per_second;
        let [median, least, most] = [rate.median, rate.min, rate.max].map(figure);
        let arrived = cell.arrived.median * 100.0;
        writeln!(
            html,
            "<tr><td>{}</td><td>{median}</td><td>{least}</td><td>{most}</td><td>{arrived:.1} %</td></tr>",
            cell.road,
        )?;
    }
    html.push_str("</tbody></table></div>\n");
    connections(html, report)?;
    html.push_str("<ul>\n");
    for fact in &report.facts {
        let (value, unit) = (figure(fact.value), escape(&fact.unit));
        writeln!(html, "<li>{}: {value} {unit}</li>", escape(&fact.what))?;
    }
    html.push_str("</ul>\n");
    Ok(())
}

fn connections(html: &mut String, report: &Report) -> fmt::Result {
    html.push_str(
        "<div class=\"scroll\"><table><thead><tr><th>whole connections</th><th>requests/s</th>\
         <th>µs CPU of the machine for a request</th><th>beyond direct</th></tr></thead><tbody>\n",
    );
    for cell in &report.connections {
        let [rate, cpu] = [cell.requests_per_second, cell.cpu_us].map(|of| figure(of.median));
        writeln!(
            html,
            "<tr><td>{}: {}</td><td>{rate}</td><td>{cpu}</td><td>{}</td></tr>",
            escape(cell.case.title()),
            cell.way,
            figure(cell.beyond_direct_us),
        )?;
    }
    html.push_str("</tbody></table></div>\n");
    Ok(())
}

/// With a thin space between thousands, and a digit behind the point where it says something.
fn figure(value: f64) -> String {
    crate::bench::figure(value, if value.fract() == 0.0 { 0 } else { 2 })
}

/// Units of the view box; the page scales it.
const WIDTH: f64 = 900.0;
const HEAD: f64 = 22.0;
const ROW: f64 = 24.0;
/// Room for a title.
const LABEL: f64 = 430.0;
/// Room for a figure behind the longest bar.
const VALUE: f64 = 80.0;
