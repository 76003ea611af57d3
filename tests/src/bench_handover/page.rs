//! The result as one HTML file that loads nothing: claims, plots, the table below, and how it was measured.
//!
//! Not here: figures of its own. All come from the [`Report`], so the page never says more than the JSON.

use std::fmt::{self, Write as _};

use super::{Case, Cell, Contender, Report, table::QUIET};
use crate::{
    bench::{self, claims_table, escape},
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
         <title>lb: hand-over benchmark</title><style>\n",
    );
    html.push_str(include_str!("../../assets/bench.css"));
    html.push_str("</style></head><body>\n");
    let machine = &report.machine;
    writeln!(
        html,
        "<h1>One connection, two TCPs: auto against its halves</h1>\
         <p class=\"soft\">{} CPUs ({}), {} MiB, Linux {}. {}.</p>",
        machine.cpus,
        escape(&machine.cpu),
        machine.memory_mib,
        escape(&machine.kernel),
        escape(&machine.versions.join(", ")),
    )?;
    if report.other_work > QUIET {
        writeln!(
            html,
            "<p class=\"fails\">Other programs took {:.0} % of the busy time during these runs: trust no figure here, \
             repeat it on a quiet machine.</p>",
            report.other_work * 100.0
        )?;
    }
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

fn cells(report: &Report, case: Case) -> impl Iterator<Item = &Cell> {
    let cells = Contender::ALL.into_iter();
    cells.filter_map(move |contender| report.cell(case, contender))
}

fn plots(html: &mut String, report: &Report) -> fmt::Result {
    html.push_str(
        "<h2>Requests per second (more is better)</h2><p class=\"soft\">Bars are medians, whiskers go from the least \
         to the greatest run.</p><div class=\"charts\">",
    );
    for &case in &report.settings.cases {
        let bar = |cell: &Cell| Bar {
            label: cell.contender.title(),
            spread: cell.requests_per_second,
            target: None,
        };
        let bars: Vec<Bar<'_>> = cells(report, case).map(bar).collect();
        if !bars.is_empty() {
            plot(html, &case.title(), &bars)?;
        }
    }
    html.push_str("</div>\n");
    Ok(())
}

fn figures(html: &mut String, report: &Report) -> fmt::Result {
    html.push_str(
        "<h2>All figures (medians)</h2><div class=\"scroll\"><table><thead><tr><th></th><th>requests/s</th>\
         <th>least</th><th>most</th><th>µs CPU of the machine</th><th>p50 µs</th><th>p99 µs</th><th>moved</th><th>errors</th>\
         <th>begins on</th></tr></thead><tbody>\n",
    );
    let cases = report.settings.cases.iter();
    for cell in cases.flat_map(|&case| cells(report, case)) {
        let rate = cell.requests_per_second;
        let contender = cell.contender;
        write!(html, "<tr><td>{}: {contender}</td>", cell.case.title())?;
        for value in [
            rate.median,
            rate.min,
            rate.max,
            cell.cpu_us_per_request.map_or(0.0, |cpu| cpu.median),
            cell.p50_us.median,
            cell.p99_us.median,
            cell.moved_per_request,
        ] {
            write!(html, "<td>{}</td>", figure(value))?;
        }
        let place = escape(cell.begins_on.as_deref().unwrap_or_default());
        writeln!(html, "<td>{}</td><td>{place}</td></tr>", cell.errors)?;
    }
    html.push_str("</tbody></table></div><ul>\n");
    for failure in &report.failures {
        writeln!(
            html,
            "<li class=\"fails\">{}</li>",
            escape(&failure.to_string())
        )?;
    }
    html.push_str("</ul>\n");
    Ok(())
}

/// With a thin space between thousands, and digits behind the point where they say something.
fn figure(value: f64) -> String {
    let whole = value.fract() == 0.0 || value >= 1000.0;
    bench::figure(value, if whole { 0 } else { 2 })
}
