//! What is counted per service: plain atomics, shared by all workers and read by whoever exports them.
//!
//! Invariant: a counter only ever grows, so a reader may sample at any time and take differences.
//! Not here: histograms and names of exported metrics, which belong to the exporter.

use std::sync::atomic::{AtomicU64, Ordering};

use http::StatusCode;

use crate::error::{Error, Kind};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// The value now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn increment(&self) {
        self.add(1);
    }

    pub(crate) fn add(&self, count: u64) {
        // Nothing else is ordered by a counter, so `Relaxed` is enough.
        self.0.fetch_add(count, Ordering::Relaxed);
    }
}

/// The counters of one service, over all its workers.
#[derive(Debug, Default)]
pub struct Counters {
    /// Client connections accepted, TLS handshakes that fail included.
    pub client_connections: Counter,
    /// Requests whose head was read.
    pub requests: Counter,
    /// Responses by class, 1xx to 5xx; those written by the proxy itself included.
    responses: [Counter; 5],
    /// Upstream connections opened.
    pub upstream_opened: Counter,
    /// Upstream connections taken out of sharing for one client, for whatever reason.
    pub upstream_pinned: Counter,
    /// Requests sent on an upstream connection that had carried others before, unpinned.
    pub pool_reused: Counter,
    /// Responses with `Persistent-Auth: true`.
    pub persistent_auth_true: Counter,
    /// Responses with `Persistent-Auth: false`: the login counts for one request only. On an Exchange
    /// service this means that the server saw a `Via`, and some clients will fail (MS-N2HT).
    pub persistent_auth_false: Counter,
    /// Responses `100 Continue` relayed from a server to a client.
    pub continues_relayed: Counter,
    /// Connections that became something else than HTTP.
    pub tunnels: Counter,
    /// Bytes that clients sent through tunnels that have ended.
    pub tunnel_bytes_received: Counter,
    /// Bytes that clients were sent through tunnels that have ended.
    pub tunnel_bytes_sent: Counter,
    errors: [Counter; Kind::ALL.len()],
}

impl Counters {
    /// Responses of the class `first_digit` (2 for 2xx); `None` unless it is 1 to 5.
    pub fn responses(&self, first_digit: u16) -> Option<u64> {
        let index = usize::from(first_digit.checked_sub(1)?);
        self.responses.get(index).map(Counter::get)
    }

    /// Failures of one kind.
    pub fn errors(&self, kind: Kind) -> u64 {
        self.errors.get(kind as usize).map_or(0, Counter::get)
    }

    pub(crate) fn count_response(&self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100);
        if let Some(counter) = class.checked_sub(1).and_then(|i| self.responses.get(i)) {
            counter.increment();
        }
    }

    /// Counts how a connection ended, if that was an error.
    pub(crate) fn count_failure<T>(&self, outcome: &Result<T, Error>) {
        if let Err(error) = outcome {
            self.count_error(error.kind());
        }
    }

    pub(crate) fn count_error(&self, kind: Kind) {
        if let Some(counter) = self.errors.get(kind as usize) {
            counter.increment();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_error_has_its_own_counter() {
        let counters = Counters::default();
        for kind in Kind::ALL {
            counters.count_error(kind);
        }
        for kind in Kind::ALL {
            assert_eq!(counters.errors(kind), 1, "{kind}");
        }
    }

    #[test]
    fn responses_are_counted_by_class() {
        let counters = Counters::default();
        for code in [200, 204, 401, 503, 599] {
            counters.count_response(StatusCode::from_u16(code).unwrap());
        }
        let classes: Vec<_> = (0..=6).map(|digit| counters.responses(digit)).collect();
        let expected = [None, Some(0), Some(2), Some(0), Some(1), Some(2), None];
        assert_eq!(classes, expected);
    }
}
