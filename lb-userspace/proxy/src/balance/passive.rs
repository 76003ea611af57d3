//! Passive checks: what the requests themselves tell of a server, between two probes.
//!
//! So many failures in a row, over all workers, take a server out of new requests until its next good probe. It is a hint and
//! no verdict: pinned connections go on, and if no other server is up, it is used all the same. Never a failure: a
//! status that the server means, 401 and other 4xx above all.

use std::num::NonZeroU32;

use http::StatusCode;

use super::Server;
use crate::error::{Error, Kind};

/// What counts as a failure, and how many are too many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passive {
    /// In a row.
    pub failures: NonZeroU32,
    /// What counts.
    pub on: Vec<Symptom>,
}

/// A failure of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Symptom {
    /// No connection: refused, unreachable, no TLS, or not in time.
    Connect,
    /// The connection ended before the response.
    Reset,
    /// No response in time.
    Timeout,
    /// Status 502, 503 or 504.
    Gateway,
}

impl Symptom {
    /// What a failed request says of its server; `None` if it isn't to blame.
    pub(crate) fn of(error: &Error) -> Option<Self> {
        match error.kind() {
            Kind::Connect => Some(Self::Connect),
            Kind::UpstreamBroken => Some(Self::Reset),
            Kind::ResponseTimeout => Some(Self::Timeout),
            _ => None,
        }
    }

    const fn explanation(self) -> &'static str {
        match self {
            Self::Connect => "it can't be connected to",
            Self::Reset => "it ended the connection before it responded",
            Self::Timeout => "it did not respond in time",
            Self::Gateway => "it answered with 502, 503 or 504",
        }
    }
}

impl Passive {
    /// The server failed.
    pub(super) fn failed(&self, server: &Server, symptom: Symptom) {
        if self.on.contains(&symptom) && server.strike(self.failures) {
            tracing::warn!(
                server = server.name(),
                address = %server.address(),
                failures = self.failures,
                reason = symptom.explanation(),
                "server is taken out until its next good probe, because requests failed"
            );
        }
    }

    /// The server took a new connection, of which nothing is known yet.
    pub(super) fn connected(&self, server: &Server) {
        // If more is asked of it, it has yet to show that.
        if self.on == [Symptom::Connect] {
            server.absolve();
        }
    }

    /// The server responded.
    pub(super) fn responded(&self, server: &Server, status: StatusCode) {
        if matches!(status.as_u16(), 502..=504) && self.on.contains(&Symptom::Gateway) {
            self.failed(server, Symptom::Gateway);
        } else {
            server.absolve();
        }
    }
}
