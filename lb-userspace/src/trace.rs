//! `lb trace`: every request as it ends, with what was decided about it and where its connection lived.
//!
//! The daemon filters and sends a line of JSON for each; the command prints. What is known of a request, and what never is
//! told of it, is `lb_proxy::Traced`'s business. Not here: packets (`explain`), and connections between requests (`flows`).

use std::fmt;
use std::io::{self, Write};
use std::ops::ControlFlow;

use anyhow::Context as _;
use hyper::body::Bytes;
use lb_proxy::{Seen, Traced, Watcher};
use serde::{Deserialize, Serialize};

use crate::flows::Endpoint;

/// Which requests are asked for.
#[derive(Clone, Debug, Default, Serialize, Deserialize, clap::Args)]
pub(crate) struct Filter {
    /// Requests of this service only.
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Requests of this client only.
    #[arg(long, value_name = "ADDR[:PORT]")]
    client: Option<Endpoint>,
    /// Requests that this server was asked only.
    #[arg(long, value_name = "NAME")]
    server: Option<String>,
    /// Requests whose path begins so only.
    #[arg(long, value_name = "PREFIX")]
    path: Option<String>,
    /// Requests only that failed, broke off, or got a status from 400 on. Logins begin with 401.
    #[arg(long)]
    failed: bool,
}

impl Filter {
    fn matches(&self, request: &Traced) -> bool {
        let is = |wanted: &Option<String>, name: Option<&String>| {
            wanted.is_none() || wanted.as_ref() == name
        };
        let went_wrong = || {
            request.error.is_some()
                || !request.complete
                || request.status.is_none_or(|status| status >= 400)
        };
        is(&self.service, Some(&request.service))
            && is(&self.server, request.server.as_ref())
            && self.client.is_none_or(|client| client.is(request.client))
            && self
                .path
                .as_ref()
                .is_none_or(|prefix| request.path.starts_with(prefix))
            && (!self.failed || went_wrong())
    }

    /// The next line for whoever asked.
    pub(crate) async fn next(&self, watcher: &mut Watcher) -> anyhow::Result<Bytes> {
        loop {
            let event = match watcher.next().await {
                Seen::Request(request) if !self.matches(&request) => continue,
                Seen::Request(request) => Event::Request(Box::new(Traced::clone(&request))),
                Seen::Missed(count) => Event::Missed(count),
            };
            let mut line = serde_json::to_vec(&event)?;
            line.push(b'\n');
            return Ok(line.into());
        }
    }
}

/// One line of the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Event {
    /// A request has ended.
    Request(Box<Traced>),
    /// So many have of which nothing is told, because they came faster than they were read.
    Missed(u64),
}

/// Prints what comes, until it was as many requests as wanted.
pub(crate) struct Printer {
    pub(crate) json: bool,
    /// `None` for all.
    pub(crate) left: Option<u64>,
}

impl Printer {
    /// Prints one line of the answer.
    pub(crate) fn print(&mut self, line: &[u8]) -> anyhow::Result<ControlFlow<()>> {
        let event: Event = serde_json::from_slice(line).context("reading the daemon's answer")?;
        let mut out = io::stdout().lock();
        let written = if self.json {
            out.write_all(line).and_then(|()| out.write_all(b"\n"))
        } else {
            writeln!(out, "{event}")
        };
        match written.and_then(|()| out.flush()) {
            // Whoever read has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                return Ok(ControlFlow::Break(()));
            }
            written => written.context("printing")?,
        }
        if let (Some(left), Event::Request(_)) = (&mut self.left, event) {
            *left = left.saturating_sub(1);
        }
        Ok(match self.left {
            Some(0) => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        })
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(request) => line(request, f),
            Self::Missed(count) => write!(f, "({count} requests missed: they come too fast)"),
        }
    }
}

fn line(request: &Traced, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    clock(request.ended_ms, f)?;
    write!(f, " {} {}", request.client, request.service)?;
    // A service without routes has one of its own name.
    if let Some(route) = request
        .route
        .as_ref()
        .filter(|route| **route != request.service)
    {
        write!(f, "/{route}")?;
    }
    write!(f, " {} {}", request.method, request.path)?;
    match request.status {
        Some(status) => write!(f, " {status}")?,
        None => f.write_str(" unanswered")?,
    }
    write!(f, " {} B", request.body_bytes)?;
    if let Some(micros) = request.took_us {
        write!(f, " {}.{:03} ms", micros / 1000, micros % 1000)?;
    }
    if let (Some(server), Some(connection)) = (&request.server, request.connection) {
        write!(f, " {server}#{connection}")?;
    }
    let details = [
        ("pinned", &request.pinned),
        ("request", &request.request_leg),
        ("response", &request.response_leg),
        ("persistent-auth", &request.persistent_auth),
        ("expect", &request.expect),
        ("error", &request.error),
    ];
    for (name, value) in details {
        if let Some(value) = value {
            write!(f, " {name}={value}")?;
        }
    }
    let flags = [
        ("via-in", request.via_in),
        ("via-out", request.via_out),
        ("broken-off", !request.complete),
    ];
    for (name, _) in flags.iter().filter(|(_, is_set)| *is_set) {
        write!(f, " {name}")?;
    }
    place(request, f)
}

/// Where the connection lived, and why it is elsewhere than where it began.
fn place(request: &Traced, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Some(ended) = &request.ended_on else {
        return Ok(());
    };
    f.write_str(" on=")?;
    if let Some(began) = request.began_on.as_ref().filter(|began| *began != ended) {
        write!(f, "{began}>")?;
    }
    f.write_str(ended)?;
    match &request.bulk {
        Some(bulk) => write!(f, " bulk={bulk}"),
        None => Ok(()),
    }
}

/// The time of day in UTC.
fn clock(ms: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let seconds = ms / 1000 % 86_400;
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    write!(
        f,
        "{hours:02}:{minutes:02}:{:02}.{:03}Z",
        seconds % 60,
        ms % 1000
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Traced {
        Traced {
            ended_ms: 1_795_804_972_611,
            took_us: Some(12_034),
            service: "exchange".to_owned(),
            route: Some("ews".to_owned()),
            client: ([192, 0, 2, 1], 40_000).into(),
            listen: ([198, 51, 100, 1], 443).into(),
            method: "POST".to_owned(),
            path: "/EWS/Exchange.asmx".to_owned(),
            server: Some("ex1".to_owned()),
            connection: Some(17),
            pinned: Some("request-credential".to_owned()),
            request_leg: Some("ntlm-3".to_owned()),
            response_leg: None,
            persistent_auth: Some("false".to_owned()),
            via_in: false,
            via_out: true,
            expect: None,
            status: Some(200),
            error: None,
            body_bytes: 1_048_576,
            complete: true,
            bulk: Some("response".to_owned()),
            began_on: Some("af_xdp".to_owned()),
            ended_on: Some("kernel".to_owned()),
        }
    }

    #[test]
    fn a_line_says_what_was_decided_and_where_the_connection_went() {
        let text = Event::Request(Box::new(request())).to_string();
        let expected = "18:42:52.611Z 192.0.2.1:40000 exchange/ews POST /EWS/Exchange.asmx 200 1048576 B 12.034 ms ex1#17 \
                        pinned=request-credential request=ntlm-3 persistent-auth=false via-out on=af_xdp>kernel bulk=response";
        assert_eq!(text, expected);
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let request = Traced {
            took_us: None,
            route: None,
            server: None,
            connection: None,
            pinned: None,
            request_leg: None,
            persistent_auth: None,
            via_out: false,
            status: None,
            error: Some("no-server".to_owned()),
            complete: false,
            bulk: None,
            began_on: None,
            ended_on: None,
            ..request()
        };
        let text = Event::Request(Box::new(request)).to_string();
        let expected = "18:42:52.611Z 192.0.2.1:40000 exchange POST /EWS/Exchange.asmx unanswered 1048576 B error=no-server \
                        broken-off";
        assert_eq!(text, expected);
        let missed = Event::Missed(3).to_string();
        assert_eq!(missed, "(3 requests missed: they come too fast)");
    }

    #[test]
    fn a_filter_lets_through_what_fits_all_of_it() {
        let matches = |change: fn(&mut Filter)| {
            let mut filter = Filter::default();
            change(&mut filter);
            filter.matches(&request())
        };
        assert!(matches(|_| {}));
        assert!(matches(|f| f.service = Some("exchange".to_owned())));
        assert!(!matches(|f| f.service = Some("ews".to_owned())));
        assert!(matches(|f| f.server = Some("ex1".to_owned())));
        assert!(!matches(|f| f.server = Some("ex2".to_owned())));
        assert!(matches(|f| f.client = "192.0.2.1".parse().ok()));
        assert!(!matches(|f| f.client = "192.0.2.1:40001".parse().ok()));
        assert!(matches(|f| f.path = Some("/EWS".to_owned())));
        assert!(!matches(|f| f.path = Some("/owa".to_owned())));
        assert!(!matches(|f| f.failed = true));
    }

    #[test]
    fn what_failed_has_an_error_or_a_status_or_no_end() {
        let failed = Filter {
            failed: true,
            ..Filter::default()
        };
        let wrong: [fn(&mut Traced); 4] = [
            |r| r.status = Some(400),
            |r| r.status = None,
            |r| r.error = Some("timeout".to_owned()),
            |r| r.complete = false,
        ];
        for change in wrong {
            let mut request = request();
            change(&mut request);
            assert!(failed.matches(&request), "{request:?}");
        }
    }
}
