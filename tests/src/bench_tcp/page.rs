//! The result as one HTML file that loads nothing: claims, plots, the tables below, and how it was measured.
//!
//! Not here: figures of its own. All come from the [`Report`], so the page never says more than the JSON.

use std::fmt::{self, Write as _};

use super::{Cell, Report, Row};
use crate::{
    bench::{self, Spread, claims_table, escape},
    bench_l4::{Bar, plot},
};

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
         <title>lb: TCP benchmark</title><style>\n",
    );
    html.push_str(include_str!("../../assets/bench.css"));
    html.push_str("</style></head><body>\n");
    let machine = &report.machine;
    writeln!(
        html,
        "<h1>lb's TCP over AF_XDP against the kernel's</h1>\
         <p class=\"soft\">{} CPUs ({}), {} MiB, Linux {}; congestion control {}, the host's default is {}. {}.</p>",
        machine.cpus,
        escape(&machine.cpu),
        machine.memory_mib,
        escape(&machine.kernel),
        escape(&report.congestion),
        escape(&report.host_congestion),
        escape(&machine.versions.join(", ")),
    )?;
    claims_table(html, &report.shows, "wanted", (figure, figure))?;
    plots(html, report)?;
    figures(html, report)?;
    html.push_str("<h2>How it was measured</h2><ul>\n");
    for sentence in &report.method {
        writeln!(html, "<li>{}</li>", escape(sentence))?;
    }
    html.push_str("<li>Every run is in the JSON file beside this page.</li></ul></body></html>\n");
    Ok(())
}

/// A figure of a cell, and what it is.
type Figure = (&'static str, fn(&Cell) -> Option<Spread>);

fn plots(html: &mut String, report: &Report) -> fmt::Result {
    html.push_str(
        "<h2>Plots</h2><p class=\"soft\">Bars are medians, whiskers go from the least to the greatest run.</p>\
         <div class=\"charts\">",
    );
    let figures: [Figure; 2] = [
        ("requests/s (more is better)", |cell| {
            Some(cell.requests_per_second)
        }),
        ("µs of server CPU for a request (less is better)", |cell| {
            cell.server_cpu_us
        }),
    ];
    for row in Row::ALL {
        for (what, value) in figures {
            let bars: Vec<Bar<'_>> = report
                .medians
                .iter()
                .filter(|cell| cell.row == row)
                .filter_map(|cell| {
                    Some(Bar {
                        label: cell.contender.title(),
                        spread: value(cell)?,
                        target: None,
                    })
                })
                .collect();
            if !bars.is_empty() {
                plot(html, &format!("{}: {what}", row.title()), &bars)?;
            }
        }
    }
    html.push_str("</div>\n");
    Ok(())
}

fn figures(html: &mut String, report: &Report) -> fmt::Result {
    html.push_str(
        "<h2>All figures (medians)</h2><div class=\"scroll\"><table><thead><tr><th></th><th>requests/s</th>\
         <th>least</th><th>most</th><th>µs server CPU</th><th>p50 µs</th><th>p99 µs</th><th>errors</th></tr></thead>\
         <tbody>\n",
    );
    for cell in &report.medians {
        let rate = cell.requests_per_second;
        write!(
            html,
            "<tr><td>{}: {}</td>",
            escape(cell.row.title()),
            escape(cell.contender.title())
        )?;
        for value in [
            rate.median,
            rate.min,
            rate.max,
            cell.server_cpu_us.map_or(0.0, |cpu| cpu.median),
            cell.p50_us.median,
            cell.p99_us.median,
        ] {
            write!(html, "<td>{}</td>", figure(value))?;
        }
        writeln!(html, "<td>{}</td></tr>", cell.errors)?;
    }
    html.push_str("</tbody></table></div><ul>\n");
    let idle = report.idle.iter().map(ToString::to_string);
    let flood = report.flood.iter().map(ToString::to_string);
    let failures = report.failures.iter().map(ToString::to_string);
    for line in idle.chain(flood).chain(failures) {
        writeln!(html, "<li>{}</li>", escape(&line))?;
    }
    html.push_str("</ul>\n");
    Ok(())
}

/// With a thin space between thousands, and digits behind the point where they say something.
fn figure(value: f64) -> String {
    bench::figure(
        value,
        if value.fract() == 0.0 || value >= 1000.0 {
            0
        } else {
            2
        },
    )
}
