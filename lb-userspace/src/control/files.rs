//! Certificates and roots that are read again when their files change.
//!
//! Polled once a second, by what `stat` says of each file: that works for files that are written in place, renamed over,
//! reached by symbolic links that move (certbot, Kubernetes), and on network file systems, of which `inotify` tells
//! nothing. Invariant: a file is read only when nothing has moved for one poll, and what is wrong with it is told once.
//! Not here: what is in the files, and that the old ones stay in use ([`Reload`]).

use std::cell::RefCell;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use lb_proxy::tls::{self, Reload};
use tokio::time::{MissedTickBehavior, interval};

/// From one look at the files to the next.
const PERIOD: Duration = Duration::from_secs(1);

/// Something made from files.
pub(crate) struct Watched {
    /// Position of its service in the configuration.
    pub(crate) service: usize,
    /// Name of its service, for the log.
    pub(crate) label: String,
    /// What to make anew.
    pub(crate) made: Box<dyn Reload>,
}

/// What is wrong with files just now, by service; for `lb status` and `lb doctor`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Problems(Rc<RefCell<Vec<(usize, String)>>>);

impl Problems {
    /// Of the service at this position.
    pub(crate) fn of(&self, service: usize) -> Vec<String> {
        let problems = self.0.borrow();
        let problems = problems.iter().filter(|(owner, _)| *owner == service);
        problems.map(|(_, problem)| problem.clone()).collect()
    }
}

/// Looks at the files until dropped.
pub(crate) async fn follow(watched: Vec<Watched>, problems: Problems) {
    let mut files = Files::new(watched);
    let mut period = interval(PERIOD);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        period.tick().await;
        for news in files.poll() {
            news.log();
        }
        problems.0.replace(files.problems());
    }
}

/// What a look at the files brought.
#[derive(Clone, Debug, PartialEq, Eq)]
struct News {
    service: String,
    what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    /// New files are in use.
    Taken(String),
    /// Certificate and key are not those of one another, as when one was written and the other not yet.
    Halfway(String),
    /// They can't be used.
    Refused(String),
}

impl News {
    fn log(&self) {
        let service = &self.service;
        match &self.what {
            What::Taken(text) => tracing::info!(service, "new files: {text}"),
            What::Halfway(text) => {
                tracing::info!(service, "new files: waiting for the other: {text}");
            }
            What::Refused(text) => {
                tracing::warn!(
                    service,
                    "new files can't be used, the old ones stay: {text}"
                );
            }
        }
    }
}

/// What `stat` says of a file; `None` if nothing.
type Stamp = Option<(u64, u64, i64, i64, u64)>;

struct Entry {
    watched: Watched,
    /// By file.
    seen: Vec<Stamp>,
    state: State,
    problem: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Something has moved since the last reading.
    Moving,
    /// Nothing has.
    Read,
}

struct Files(Vec<Entry>);

impl Files {
    /// What was read before now may be old already: the first polls find out.
    fn new(watched: Vec<Watched>) -> Self {
        let entry = |watched: Watched| Entry {
            seen: stamps(&watched.made.files()),
            watched,
            state: State::Moving,
            problem: None,
        };
        Self(watched.into_iter().map(entry).collect())
    }

    /// Looks once. What several users of a file have to say is said once.
    fn poll(&mut self) -> Vec<News> {
        let mut all: Vec<News> = Vec::new();
        for what in self.0.iter_mut().filter_map(Entry::poll) {
            if !all.contains(&what) {
                all.push(what);
            }
        }
        all
    }

    fn problems(&self) -> Vec<(usize, String)> {
        let mut problems: Vec<_> = self
            .0
            .iter()
            .filter_map(|entry| Some((entry.watched.service, entry.problem.clone()?)))
            .collect();
        problems.dedup();
        problems
    }
}

impl Entry {
    fn poll(&mut self) -> Option<News> {
        let now = stamps(&self.watched.made.files());
        if now != self.seen {
            self.seen = now;
            self.state = State::Moving;
            return None;
        }
        if self.state == State::Read {
            return None;
        }
        self.state = State::Read;
        let outcome = self.watched.made.reload();
        let problem = outcome.as_ref().err().map(ToString::to_string);
        let is_known = problem.is_some() && self.problem == problem;
        self.problem = problem;
        let what = match outcome {
            Ok(None) => return None,
            Ok(Some(text)) => What::Taken(text),
            Err(_) if is_known => return None,
            Err(error @ tls::Error::KeyMismatch { .. }) => What::Halfway(error.to_string()),
            Err(error) => What::Refused(error.to_string()),
        };
        Some(News {
            service: self.watched.label.clone(),
            what,
        })
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Stamp> {
    let stamp = |path: &PathBuf| {
        let stamp = |at: Metadata| (at.dev(), at.ino(), at.mtime(), at.mtime_nsec(), at.size());
        std::fs::metadata(path).map(stamp).ok()
    };
    files.iter().map(stamp).collect()
}

#[cfg(test)]
mod tests;
