//! The result as one HTML file that loads nothing: claims, charts, the table below, and how it was measured.
//!
//! Not here: figures of its own. All come from the [`Report`], so the page never says more than the JSON.

use std::fmt::{self, Write as _};

use super::{
    Case, Cell, Contender, Report, Show,
    chart::{self, Bar, figure},
    stats::Spread,
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
         <title>lb: layer 7 benchmark</title><style>\n",
    );
    html.push_str(include_str!("../../assets/bench.css"));
    html.push_str("</style></head><body>\n");
    head(html, report)?;
    claims(html, report)?;
    for &case in &report.settings.cases {
        charts(html, report, case)?;
    }
    memory(html, report)?;
    failures(html, report)?;
    cells(html, report)?;
    method(html, report)?;
    html.push_str("</body></html>\n");
    Ok(())
}

fn head(html: &mut String, report: &Report) -> fmt::Result {
    let machine = &report.machine;
    let versions = machine.versions.join(", ");
    writeln!(
        html,
        "<h1>What a request costs through lb, nginx and HAProxy</h1>\
         <p class=\"soft\">{} CPUs ({}), {} MiB, Linux {}. {}.</p>",
        machine.cpus,
        escape(&machine.cpu),
        machine.memory_mib,
        escape(&machine.kernel),
        escape(&versions),
    )?;
    if report.other_work > QUIET {
        writeln!(
            html,
            "<p class=\"fails\">Other programs took {:.0} % of the busy time during these runs: trust no figure \
             here, repeat it on a quiet machine.</p>",
            report.other_work * 100.0
        )?;
    }
    Ok(())
}

fn claims(html: &mut String, report: &Report) -> fmt::Result {
    let got = |got: f64| figure(got, if got.fract() == 0.0 { 0 } else { 2 });
    claims_table(
        html,
        &report.shows,
        "at most",
        (|target| target.to_string(), got),
    )
}

/// What was claimed, and what came of it. `wanted` heads the column of targets; targets and results are written by their own
/// functions.
pub(crate) fn claims_table(
    html: &mut String,
    shows: &[Show],
    wanted: &str,
    (target, got): (impl Fn(f64) -> String, impl Fn(f64) -> String),
) -> fmt::Result {
    writeln!(
        html,
        "<h2>Claims</h2><div class=\"scroll\"><table class=\"words\"><thead><tr><th>on this machine</th>\
         <th style=\"text-align:left\">claim</th><th>{wanted}</th><th>measured</th></tr></thead><tbody>"
    )?;
    for show in shows {
        let (class, word) = if show.holds {
            ("holds", "holds")
        } else {
            ("fails", "does not hold")
        };
        let got = show.got.map_or_else(|| "no result".to_owned(), &got);
        writeln!(
            html,
            "<tr><td class=\"{class}\">{word}</td><td>{}</td><td>{} {}</td><td>{got}</td></tr>",
            escape(&show.claim),
            target(show.target),
            escape(&show.unit),
        )?;
    }
    html.push_str("</tbody></table></div>\n");
    Ok(())
}

fn charts(html: &mut String, report: &Report, case: Case) -> fmt::Result {
    let of_case = |cell: &&Cell| cell.case == case;
    let bars = |figure: fn(&Cell) -> Option<Spread>, contenders: &[Contender]| -> Vec<Bar> {
        let cells = report.medians.iter().filter(of_case);
        cells
            .filter(|cell| contenders.contains(&cell.contender))
            .map(|cell| Bar {
                contender: cell.contender,
                spread: figure(cell),
            })
            .collect()
    };
    let (balancers, all) = (&Contender::BALANCERS, &Contender::ALL);
    let cost = bars(|cell| cell.cost_us_per_request, balancers);
    let rate = bars(|cell| cell.requests_per_second, all);
    let p99 = bars(|cell| cell.p99_us, all);
    writeln!(
        html,
        "<h2>{}</h2><div class=\"charts\">{}\n{}\n{}</div>",
        case.title(),
        chart::bars("Balancer's CPU per request, µs (less is better)", &cost, 1),
        chart::bars("Requests per second (more is better)", &rate, 0),
        chart::bars("99 % latency, µs (less is better)", &p99, 0),
    )
}

fn memory(html: &mut String, report: &Report) -> fmt::Result {
    let bars = |figure: fn(&super::MemoryCell) -> f64| -> Vec<Bar> {
        let bar = |cell: &super::MemoryCell| Bar {
            contender: cell.contender,
            spread: Spread::of([figure(cell)]),
        };
        report.memory.iter().map(bar).collect()
    };
    writeln!(
        html,
        "<h2>An idle connection, of {}</h2><div class=\"charts\">{}\n{}</div>",
        report.settings.idle_connections,
        chart::bars(
            "Bytes in the balancer's processes",
            &bars(|cell| cell.process_bytes),
            0
        ),
        chart::bars(
            "Bytes in the kernel, client's end included",
            &bars(|cell| cell.slab_bytes),
            0
        ),
    )
}

fn failures(html: &mut String, report: &Report) -> fmt::Result {
    if report.failures.is_empty() {
        return Ok(());
    }
    html.push_str("<h2>Runs without a result</h2><ul>\n");
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

fn cells(html: &mut String, report: &Report) -> fmt::Result {
    html.push_str(
        "<h2>All figures (medians)</h2><div class=\"scroll\"><table><thead><tr><th></th><th>requests/s</th>\
         <th>p50 µs</th><th>p99 µs</th><th>CPU µs per request</th><th>minus direct</th>\
         <th>errors</th></tr></thead><tbody>\n",
    );
    for &case in &report.settings.cases {
        writeln!(
            html,
            "<tr class=\"case\"><th colspan=\"7\">{} ({} connections)</th></tr>",
            case.title(),
            case.connections()
        )?;
        for cell in report.medians.iter().filter(|cell| cell.case == case) {
            let cost = match cell.contender {
                Contender::Direct => "–".to_owned(),
                _ => median(cell.cost_us_per_request, 1),
            };
            writeln!(
                html,
                "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{cost}</td><td>{}</td></tr>",
                cell.contender,
                median(cell.requests_per_second, 0),
                median(cell.p50_us, 0),
                median(cell.p99_us, 0),
                median(cell.cpu_us_per_request, 1),
                cell.errors,
            )?;
        }
    }
    html.push_str("</tbody></table></div>\n");
    Ok(())
}

fn method(html: &mut String, report: &Report) -> fmt::Result {
    let settings = &report.settings;
    writeln!(
        html,
        "<h2>How it was measured</h2><ul>\n\
         <li>Client, balancer and {workers} servers each in a network namespace, joined by veth with 2 queues; no \
         network card, so <code>AF_XDP</code> copies every frame. RPS is off. wrk has {workers} threads; every \
         balancer has {workers} workers; logs and health checks are off; servers' offloads are on.</li>\n\
         <li>{rounds} rounds of {seconds} s. In each round direct, lb af_xdp, lb kernel, nginx and HAProxy take turns, \
         and only one of them runs. Bars are medians, whiskers go from the least to the greatest run.</li>\n\
         <li>Client, balancer and servers share the CPUs, and the client is often the first to have no more. So \
         requests per second hide what a balancer costs. The balancer's CPU is the busy time of the whole machine \
         (user, nice, system, irq, softirq; without other programs') per request, minus that of the direct run in the \
         same round.</li>\n\
         <li>A direct run is routed by the edge host's kernel to the servers. With TLS in front, servers speak TLS in \
         the direct run and plain HTTP behind a balancer, so the balancer's own TLS is partly the servers' saving.</li>\n\
         <li>HAProxy's default sends the first request of a client on a connection of its own to the pool, so with a \
         connection per request it opens two for each.</li>\n\
         <li>Latency is that of a closed loop at full load: a queue, not a lone user's wait.</li>\n\
         <li>nginx keeps connections to the pool (<code>keepalive</code>), HAProxy shares them by its default \
         (<code>http-reuse safe</code>). That is what people run, and with it both can hand a connection that one user \
         has logged in to another user: nginx with NTLM, HAProxy with one-leg Negotiate. lb never does.</li>\n\
         <li>Every run is in the JSON file beside this page.</li></ul>",
        workers = settings.workers,
        rounds = settings.rounds,
        seconds = settings.seconds,
    )
}

fn median(spread: Option<Spread>, digits: usize) -> String {
    spread.map_or_else(
        || "<span class=\"fails\">no result</span>".to_owned(),
        |spread| figure(spread.median, digits),
    )
}

pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// Above this share of other programs, figures are not to be trusted.
pub(super) const QUIET: f64 = 0.05;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_others_is_escaped() {
        assert_eq!(escape("a<b> & \"c\""), "a&lt;b&gt; &amp; &quot;c&quot;");
    }
}
