//! How requests of a route are spread over its servers.

use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

use http::HeaderName;

/// How requests of a route are spread over its servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Balancing {
    /// How a server is chosen.
    pub method: BalanceMethod,
    /// How a client gets to the same server again; `None` if it needn't.
    pub persistence: Option<Persistence>,
    /// Where requests wait when all servers have reached their `max_connections`.
    pub queue: Queue,
    /// What takes a server out between two probes; `None` for nothing.
    pub passive: Option<Passive>,
    /// How long the share of a server that has come back takes to grow to all of it.
    pub slow_start: Option<Duration>,
    /// Fewer servers up than this is worth a warning.
    pub minimum_healthy: Option<NonZeroU16>,
    /// How often a request of which no server has seen anything is tried again.
    pub retries: u32,
}

/// `balance`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BalanceMethod {
    /// In turn, as often as their weights say.
    RoundRobin,
    /// The one that is used least for its weight.
    LeastConnections,
    /// Each client address to the same one.
    SourceHash,
    /// Each value of a header to the same one.
    HeaderHash(HeaderName),
}

/// `persistence`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// By the client's address, until it has been silent for so long.
    Source(Duration),
    /// By a cookie of ours with this name.
    Cookie(String),
}

/// `queue`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// How many may wait; 0 for nobody.
    pub length: u32,
    /// How long.
    pub timeout: Duration,
}

/// `passive`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passive {
    /// Failures in a row that take a server out.
    pub failures: NonZeroU32,
    /// What is a failure; each at most once.
    pub on: Vec<Symptom>,
}

/// A failure of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Symptom {
    /// `connect`: no connection.
    Connect,
    /// `reset`: the connection ended before the response.
    Reset,
    /// `timeout`: no response in time.
    Timeout,
    /// `gateway`: status 502, 503 or 504.
    Gateway,
}

impl std::fmt::Display for Symptom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Connect => "connect",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::Gateway => "gateway",
        })
    }
}
