//! The least speed of a request's body: who sends a byte a minute holds a server's connection for ever.
//!
//! Time runs only while the server would take more and the client has sent nothing: a slow server is not the client's fault,
//! nor is one that lets it wait for a `100 Continue`. A client starts with some time to its credit; each byte adds what it
//! is worth, up to the same; when all is used up, the connection is closed. `RPC_IN_DATA`, whose body is a tunnel, is left alone.

use std::cell::{Cell, RefCell};
use std::num::NonZeroU32;
use std::task::Waker;
use std::time::Duration;

use http::Method;
use tokio::time::Instant;

/// The rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyRate {
    /// The least that must come on average.
    pub bytes_per_second: NonZeroU32,
    /// How long a client may be waited for at the start, and how much credit it can have.
    pub grace: Duration,
}

/// The first verb of Outlook Anywhere (MS-RPCH section 2.1.2.1.1): its body lasts as long as the session.
const TUNNEL: &str = "RPC_IN_DATA";

/// How the body of the current request is coming.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    rule: Cell<Option<BodyRate>>,
    credit: Cell<Duration>,
    waiting_since: Cell<Option<Instant>>,
    /// Whoever looks at the deadline.
    watcher: RefCell<Option<Waker>>,
}

impl Pace {
    /// The body of a request begins.
    pub(crate) fn start(&self, rule: Option<BodyRate>, method: &Method) {
        let rule = rule.filter(|_| method.as_str() != TUNNEL);
        self.rule.set(rule);
        self.credit
            .set(rule.map_or(Duration::ZERO, |rule| rule.grace));
        self.waiting_since.set(None);
    }

    /// The server would take more, and there is nothing.
    pub(crate) fn waits(&self, now: Instant) {
        if self.rule.get().is_some() && self.waiting_since.get().is_none() {
            self.waiting_since.set(Some(now));
            if let Some(watcher) = self.watcher.take() {
                watcher.wake();
            }
        }
    }

    /// So many bytes came from the client. They need not be any that the server can have yet.
    pub(crate) fn received(&self, now: Instant, bytes: usize) {
        let Some(rule) = self.rule.get() else {
            return;
        };
        let since = self.waiting_since.get();
        let waited = since.map_or(Duration::ZERO, |since| now - since);
        self.waiting_since.set(since.map(|_| now));
        let worth = bytes as u64 * 1_000_000 / u64::from(rule.bytes_per_second.get());
        let credit = self.credit.get().saturating_sub(waited) + Duration::from_micros(worth);
        self.credit.set(credit.min(rule.grace));
    }

    /// The server gets some of it.
    pub(crate) fn passed_on(&self) {
        self.waiting_since.set(None);
    }

    /// The body is over, or nobody waits for it any more.
    pub(crate) fn done(&self) {
        self.rule.set(None);
        self.waiting_since.set(None);
    }

    /// When the client's credit is used up, if nothing comes; `waker` is told when this begins to run.
    pub(crate) fn deadline(&self, waker: &Waker) -> Option<Instant> {
        let since = self.waiting_since.get();
        if since.is_none() && self.rule.get().is_some() {
            self.watcher.replace(Some(waker.clone()));
        }
        Some(since? + self.credit.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hundred bytes a second, ten seconds of grace.
    const RULE: BodyRate = BodyRate {
        bytes_per_second: NonZeroU32::new(100).expect("not zero"),
        grace: Duration::from_secs(10),
    };

    fn pace(method: &str) -> (Pace, impl Fn(u64) -> Instant) {
        let pace = Pace::default();
        pace.start(Some(RULE), &method.parse().unwrap());
        let start = Instant::now();
        (pace, move |seconds| start + Duration::from_secs(seconds))
    }

    #[test]
    fn bytes_buy_time_and_no_more_than_the_grace() {
        let (pace, at) = pace("POST");
        let deadline = || pace.deadline(Waker::noop());
        assert_eq!(deadline(), None, "nobody waits yet");
        pace.waits(at(0));
        assert_eq!(deadline(), Some(at(10)));
        pace.received(at(4), 200);
        pace.passed_on();
        pace.waits(at(4));
        assert_eq!(
            deadline(),
            Some(at(12)),
            "6 s are left, and 2 s were bought"
        );
        pace.received(at(4), 100_000);
        pace.passed_on();
        pace.waits(at(5));
        assert_eq!(deadline(), Some(at(15)));
        pace.done();
        assert_eq!(deadline(), None);
    }

    #[test]
    fn a_trickle_runs_out_although_it_never_stops() {
        let (pace, at) = pace("POST");
        let mut now = 0;
        while pace
            .deadline(Waker::noop())
            .is_none_or(|deadline| deadline > at(now))
        {
            // A byte at a time of the line before a chunk: nothing is ever passed on.
            pace.received(at(now), 1);
            pace.waits(at(now));
            now += 1;
        }
        assert_eq!(now, 11);
    }

    #[test]
    fn a_slow_server_costs_the_client_nothing() {
        let (pace, at) = pace("POST");
        pace.waits(at(0));
        pace.received(at(1), 1);
        pace.passed_on();
        // Nobody asked for more for an hour.
        pace.waits(at(3601));
        let deadline = pace.deadline(Waker::noop()).unwrap();
        assert!(deadline > at(3601 + 8), "{deadline:?}");
    }

    #[test]
    fn a_tunnel_may_be_silent() {
        let (pace, at) = pace("RPC_IN_DATA");
        pace.waits(at(0));
        assert_eq!(pace.deadline(Waker::noop()), None);
    }
}
