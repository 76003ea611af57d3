//! What a pool server saw, one JSON object a line: tests count connections and logins in it.
//!
//! Invariant: the line about a request is in the file before its answer leaves, so whoever has the answer
//! can read the line. Written by `lb-pool --journal`, read by [`read`].

use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    net::SocketAddr,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

/// One line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// Microseconds since 1970.
    pub time: u128,
    /// Number of the connection, counted from 1 by each server.
    pub connection: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// What happened on a connection.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A client connected.
    Open {
        /// The address the server sees.
        peer: SocketAddr,
    },
    /// A request was decided.
    Request(Request),
    /// The connection ended.
    Close,
}

/// A request as the server saw it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// Method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// The kind of credential it carried.
    pub leg: AuthLeg,
    /// The user it was served as.
    pub user: Option<String>,
    /// Status of the answer.
    pub status: u16,
    /// Header fields in the order of the wire, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The head as it came.
    #[serde(default)]
    pub head: String,
}

impl Request {
    /// First value of the header field `name`, which is in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Kind of credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthLeg {
    /// No `Authorization`.
    None,
    /// NTLM type 1, raw or in SPNEGO.
    First,
    /// NTLM type 3, raw or in SPNEGO.
    Later,
    /// The stand-in for Kerberos.
    OneLeg,
    /// Basic.
    Basic,
    /// Not understood.
    Malformed,
}

/// Reads a journal; a server that has seen nothing yet has an empty one.
pub fn read(path: &Path) -> Result<Vec<Entry>> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    text.lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("in the journal: {line}")))
        .collect()
}

/// Where a server writes, if anywhere.
#[derive(Debug)]
pub(super) struct Journal(Option<File>);

impl Journal {
    pub(super) fn open(path: Option<&Path>) -> Result<Self> {
        let file = path
            .map(|path| {
                OpenOptions::new()
                    .create(true)
                    .append(true)
                    .open(path)
                    .with_context(|| format!("opening the journal {}", path.display()))
            })
            .transpose()?;
        Ok(Self(file))
    }

    /// Appends a line; `event` is only made when a journal is kept, which keeps benchmarks fast.
    pub(super) fn record(&self, connection: u64, event: impl FnOnce() -> Event) -> Result<()> {
        let Some(mut file) = self.0.as_ref() else {
            return Ok(());
        };
        let time = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_micros();
        let line = serde_json::to_string(&Entry {
            time,
            connection,
            event: event(),
        })? + "\n";
        // One write: a reader never sees half a line.
        file.write_all(line.as_bytes())
            .context("writing the journal")
    }
}
