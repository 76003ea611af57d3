//! What the runs come to: claims about `lb`, words about everyone, JSON and a table.
//!
//! Invariant: claims and words are computed from the samples in the same report and from nothing else. Not here: the
//! lab.

use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};

use super::{super::Show, Machine, Proxy};
use crate::client::Identities;

/// Everything that `target/bench/identity.json` holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Name of the benchmark: `identity`.
    pub name: String,
    /// Where it ran.
    pub machine: Machine,
    /// What was run.
    pub settings: Settings,
    /// One entry per claim.
    pub shows: Vec<Show>,
    /// What became of each other proxy, and whether the requests were dangerous at all.
    pub words: Vec<String>,
    /// Every run.
    pub samples: Vec<Sample>,
    /// Runs without a result.
    pub failures: Vec<Failure>,
}

/// What was run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settings {
    /// Users' requests of each run.
    pub requests: u32,
    /// Users.
    pub users: usize,
    /// Numbers of servers.
    pub pools: Vec<u8>,
}

/// One run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sample {
    /// Who was between users and servers.
    pub proxy: Proxy,
    /// Servers.
    pub servers: u8,
    /// Users' requests.
    pub requests: u32,
    /// Logins among them.
    pub logins: u32,
    /// Users' requests that were refused: logins, and requests on connections that were logged in.
    pub refused: u32,
    /// Users' requests that were answered as someone else.
    pub wrong: u32,
    /// Requests of strangers, besides.
    pub strangers: u32,
    /// Those among them that were not refused.
    pub strangers_served: u32,
    /// Connections to servers that carried all these requests.
    pub upstream_connections: usize,
    /// The first of the answers as someone else.
    pub example: Option<String>,
}

/// A run that gave no result.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// Who was between users and servers.
    pub proxy: Proxy,
    /// Servers.
    pub servers: u8,
    /// What happened.
    pub reason: String,
}

impl Sample {
    pub(super) fn new(
        proxy: Proxy,
        servers: u8,
        found: &Identities,
        upstream_connections: usize,
    ) -> Self {
        let mut examples = found.wrong.iter().chain(&found.stranger_served);
        Self {
            proxy,
            servers,
            requests: found.requests,
            logins: found.logins,
            refused: count(&found.refused),
            wrong: count(&found.wrong),
            strangers: found.strangers,
            strangers_served: count(&found.stranger_served),
            upstream_connections,
            example: examples.next().cloned(),
        }
    }
}

impl Failure {
    pub(super) fn new(proxy: Proxy, servers: u8, error: &anyhow::Error) -> Self {
        Self {
            proxy,
            servers,
            reason: format!("{error:#}"),
        }
    }
}

impl Report {
    /// Computes what follows from the samples.
    pub fn new(
        machine: Machine,
        settings: Settings,
        samples: Vec<Sample>,
        failures: Vec<Failure>,
    ) -> Self {
        let total = |proxy| Total::of(&samples, proxy, settings.pools.len());
        let shows = Proxy::OURS
            .iter()
            .flat_map(|&proxy| claims(proxy, total(proxy).as_ref()))
            .collect();
        let others = Proxy::ALL
            .into_iter()
            .filter(|proxy| !Proxy::OURS.contains(proxy));
        let mut words: Vec<String> = others
            .map(|proxy| words(proxy, total(proxy).as_ref()))
            .collect();
        words.push(verdict(&Proxy::LEAKY.map(total)));
        Self {
            name: "identity".to_owned(),
            machine,
            settings,
            shows,
            words,
            samples,
            failures,
        }
    }

    /// The result as text for a terminal; claims that don't hold are last.
    pub fn table(&self) -> String {
        let mut text = String::new();
        // Writing to a string can't fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, out: &mut String) -> fmt::Result {
        writeln!(
            out,
            "{} users log in by NTLM, by NTLM in SPNEGO, and with one leg, which stands in for a Kerberos ticket.\n",
            self.settings.users
        )?;
        for &servers in &self.settings.pools {
            writeln!(out, "{}", pool(servers))?;
            writeln!(
                out,
                "  {:<30}{:>10}{:>8}{:>9}{:>16}{:>18}{:>22}",
                "",
                "requests",
                "logins",
                "refused",
                "wrong identity",
                "strangers served",
                "upstream connections",
            )?;
            for sample in self
                .samples
                .iter()
                .filter(|sample| sample.servers == servers)
            {
                writeln!(
                    out,
                    "  {:<30}{:>10}{:>8}{:>9}{:>16}{:>18}{:>22}",
                    sample.proxy,
                    sample.requests,
                    sample.logins,
                    sample.refused,
                    sample.wrong,
                    format!("{} of {}", sample.strangers_served, sample.strangers),
                    sample.upstream_connections,
                )?;
            }
            writeln!(out)?;
        }
        for failure in &self.failures {
            writeln!(out, "{failure}")?;
        }
        for words in &self.words {
            writeln!(out, "{words}")?;
        }
        writeln!(out)?;
        for show in self.shows.iter().filter(|show| show.holds) {
            writeln!(out, "holds: {show}")?;
        }
        for show in self.shows.iter().filter(|show| !show.holds) {
            writeln!(out, "DOES NOT HOLD: {show}")?;
        }
        Ok(())
    }
}

fn pool(servers: u8) -> String {
    match servers {
        1 => "1 server".to_owned(),
        _ => format!("{servers} servers"),
    }
}

/// The sum of all runs of one proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Total {
    requests: u32,
    refused: u32,
    wrong: u32,
    strangers: u32,
    strangers_served: u32,
    example: Option<String>,
}

impl Total {
    /// `None` when any of the `runs` that there should be gave no result.
    fn of(samples: &[Sample], proxy: Proxy, runs: usize) -> Option<Self> {
        let mine: Vec<_> = samples
            .iter()
            .filter(|sample| sample.proxy == proxy)
            .collect();
        (mine.len() == runs).then(|| {
            mine.into_iter().fold(Self::default(), |sum, sample| Self {
                requests: sum.requests + sample.requests,
                refused: sum.refused + sample.refused,
                wrong: sum.wrong + sample.wrong,
                strangers: sum.strangers + sample.strangers,
                strangers_served: sum.strangers_served + sample.strangers_served,
                example: sum.example.or_else(|| sample.example.clone()),
            })
        })
    }

    fn leaks(&self) -> bool {
        self.wrong > 0 || self.strangers_served > 0
    }
}

/// No list is longer than the number of requests, which is a `u32`.
fn count(list: &[String]) -> u32 {
    u32::try_from(list.len()).unwrap_or(u32::MAX)
}

fn claims(proxy: Proxy, total: Option<&Total>) -> [Show; 3] {
    let none = |what: &str, got: Option<u32>| Show {
        claim: format!("{proxy}: {what}"),
        target: 0.0,
        got: got.map(f64::from),
        unit: "requests".to_owned(),
        holds: got == Some(0),
    };
    [
        none("answers as someone else", total.map(|total| total.wrong)),
        none(
            "strangers served",
            total.map(|total| total.strangers_served),
        ),
        none(
            "logins refused, at once or later",
            total.map(|total| total.refused),
        ),
    ]
}

/// What a proxy did, in a sentence.
fn words(proxy: Proxy, total: Option<&Total>) -> String {
    let Some(total) = total else {
        return format!("{proxy}: no result, so nothing is known about it.");
    };
    let leaks = total.leaks();
    let Total {
        requests,
        refused,
        wrong,
        strangers,
        strangers_served,
        example,
    } = total;
    let leak = if leaks {
        let example = example.as_deref().unwrap_or("not told");
        format!(
            "LEAKED: {wrong} of {requests} users' requests were answered as someone else, and {strangers_served} of \
             {strangers} strangers were served (first: {example})"
        )
    } else {
        "did not leak".to_owned()
    };
    let login = match refused {
        0 => "no login was refused".to_owned(),
        _ => format!("{refused} of {requests} users' requests were refused: logins break"),
    };
    format!("{proxy}: {leak}; {login}.")
}

/// Whether this run could have shown a leak.
fn verdict(leaky: &[Option<Total>; 2]) -> String {
    let seen = leaky.iter().flatten().filter(|total| total.leaks()).count();
    match seen {
        0 => "None of the proxies that are known to leak did so: this run proves nothing about lb.",
        1 => "One of the two proxies that are known to leak did so: a leak would have been seen.",
        _ => "Both proxies that are known to leak did so: a leak would have been seen.",
    }
    .to_owned()
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<30}{}: {} wrong, {} refused, {} strangers served",
            self.proxy,
            pool(self.servers),
            self.wrong,
            self.refused,
            self.strangers_served,
        )
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            proxy,
            servers,
            reason,
        } = self;
        write!(f, "{proxy}, {}: NO RESULT: {reason}", pool(*servers))
    }
}

#[cfg(test)]
mod tests;
