//! One run of wrk in the client's namespace.
//!
//! wrk keeps a fixed number of requests in flight, so its latencies are those of a closed loop: at full load they say
//! how long the queue is, not what a lone user waits.

use std::{fs, net::Ipv4Addr, path::Path, process::Stdio, time::Duration};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::{Case, Contender, Errors, Rig, contender::SERVERS};
use crate::lab::Namespace;

/// What wrk counted, or another client in its place.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Counted {
    /// Answers that arrived whole.
    pub requests: u64,
    /// Length of the run in microseconds.
    pub duration_us: u64,
    /// Median latency in microseconds.
    pub p50_us: u64,
    /// Latency that 99 % stay under, in microseconds.
    pub p99_us: u64,
    /// What went wrong.
    pub errors: Errors,
}

/// Loads `contender`, which must be serving.
pub(super) fn run(
    rig: &Rig,
    case: Case,
    contender: Contender,
    length: Duration,
) -> Result<Counted> {
    let client = rig.lab().client();
    load(
        &client,
        rig.directory(),
        &contender.url(case),
        &contender.addresses(),
        case,
        length,
    )
}

/// Loads the servers of these addresses with requests for `url`, thread by thread in turns, from the client's namespace; the script is left in
/// `directory`.
pub(crate) fn load(
    client: &Namespace,
    directory: &Path,
    url: &str,
    addresses: &[Ipv4Addr],
    case: Case,
    length: Duration,
) -> Result<Counted> {
    Load {
        url: url.to_owned(),
        targets: addresses,
        threads: SERVERS.into(),
        connections: case.connections(),
        field: case.field(),
        length,
        cpu: None,
    }
    .run(client, directory)
}

/// What wrk is told.
pub(crate) struct Load<'a> {
    /// What is asked for, at the first of `targets`.
    pub(crate) url: String,
    /// Servers for the threads, in turns; the URL's for all of them if there is none.
    pub(crate) targets: &'a [Ipv4Addr],
    /// Threads.
    pub(crate) threads: u32,
    /// Connections of all threads together.
    pub(crate) connections: u32,
    /// A header field that every request has besides `Host`.
    pub(crate) field: Option<&'a str>,
    /// How long.
    pub(crate) length: Duration,
    /// CPU for all threads; any, if none is named.
    pub(crate) cpu: Option<usize>,
}

impl Load<'_> {
    /// Runs it in the client's namespace; the script is left in `directory`.
    pub(crate) fn run(&self, client: &Namespace, directory: &Path) -> Result<Counted> {
        let script = directory.join("wrk.lua");
        fs::write(&script, include_str!("../../assets/wrk.lua")).context("writing wrk.lua")?;
        let targets: Vec<String> = self.targets.iter().map(ToString::to_string).collect();
        let program = if self.cpu.is_some() { "taskset" } else { "wrk" };
        let mut wrk = client.spawn(program, |command| {
            if let Some(cpu) = self.cpu {
                command.args(["--cpu-list", &cpu.to_string(), "wrk"]);
            }
            command
                .env("LB_BENCH_TARGETS", targets.join(" "))
                .args(["--threads", &self.threads.to_string()])
                .args(["--connections", &self.connections.to_string()])
                .args(["--duration", &format!("{}s", self.length.as_secs())])
                // Long: a slow answer is a latency, not an error.
                .args(["--timeout", "10s"])
                .arg("--script")
                .arg(script)
                .args(self.field.into_iter().flat_map(|field| ["--header", field]))
                .arg(&self.url)
                .stdout(Stdio::piped());
        })?;
        let result = wrk.wait_for_line("{").context("running wrk")?;
        parse(&result.0)
    }
}

/// What a client printed at its end.
pub(crate) fn parse(line: &str) -> Result<Counted> {
    serde_json::from_str(line).with_context(|| format!("the client printed {line:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_the_script_is_understood() {
        let line = r#"{"requests":90210,"duration_us":3000123,"p50_us":812,"p99_us":4711,"errors":{"connect":1,"read":2,"write":3,"timeout":4,"status":5}}"#;
        let errors = Errors {
            connect: 1,
            read: 2,
            write: 3,
            timeout: 4,
            status: 5,
        };
        assert_eq!(errors.total(), 15);
        let expected = Counted {
            requests: 90210,
            duration_us: 3_000_123,
            p50_us: 812,
            p99_us: 4711,
            errors,
        };
        assert_eq!(parse(line).unwrap(), expected);
    }

    #[test]
    fn a_line_with_anything_missing_is_an_error() {
        for line in [
            "",
            "{",
            "{}",
            r#"{"requests":1,"duration_us":1,"p50_us":1,"p99_us":1}"#,
        ] {
            assert!(parse(line).is_err(), "{line:?}");
        }
    }
}
