//! When a client connection was last alive and what it is waiting for: the one deadline that `connection` watches.
//!
//! Invariant: a connection always has a deadline, except while the head of a response is awaited, when `forward`
//! has one. hyper's own head timeout is not used: it also runs between requests, and so would close an idle
//! connection that holds a login.

use std::cell::Cell;

use tokio::time::Instant;

use crate::error::Kind;
use crate::service::ClientTimeouts;

/// The request of the current exchange, towards the server.
#[derive(Clone, Copy, Debug)]
enum Outward {
    /// Its body is not yet read to the end.
    Open,
    /// Its body is not read until the server says so, since then.
    Held(Instant),
    /// All of it was read, or there is none, since then.
    Done(Instant),
}

/// The response of the current exchange, towards the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Homeward {
    /// There is no exchange, or its response is finished.
    Done,
    /// The head is awaited.
    Awaited,
    /// The body is on its way.
    Streaming,
    /// The connection is no longer HTTP.
    Tunnel,
}

/// The clock of one client connection.
#[derive(Debug)]
pub(crate) struct Activity {
    last_byte: Cell<Instant>,
    /// Set while a head is being received (or the connection is new).
    head_since: Cell<Option<Instant>>,
    outward: Cell<Outward>,
    homeward: Cell<Homeward>,
}

impl Activity {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            last_byte: Cell::new(now),
            head_since: Cell::new(Some(now)),
            outward: Cell::new(Outward::Done(now)),
            homeward: Cell::new(Homeward::Done),
        }
    }

    /// The connection is not new, and between two requests.
    pub(crate) fn resumed(&self) {
        self.head_since.set(None);
    }

    /// Bytes came from the client. The first ones after an exchange begin the next head.
    pub(crate) fn received(&self, now: Instant) {
        self.last_byte.set(now);
        if self.is_between() && self.head_since.get().is_none() {
            self.head_since.set(Some(now));
        }
    }

    /// Bytes went to the client.
    pub(crate) fn sent(&self, now: Instant) {
        self.last_byte.set(now);
    }

    /// A request's head is complete.
    pub(crate) fn request_head(&self) {
        self.head_since.set(None);
        self.outward.set(Outward::Open);
        self.homeward.set(Homeward::Awaited);
    }

    /// The request's body is left unread until the server asks for it.
    pub(crate) fn hold(&self, now: Instant) {
        if matches!(self.outward.get(), Outward::Open) {
            self.outward.set(Outward::Held(now));
        }
    }

    /// The server asks for the body.
    pub(crate) fn request_wanted(&self) {
        if matches!(self.outward.get(), Outward::Held(_)) {
            self.outward.set(Outward::Open);
        }
    }

    /// The connection carries exchanges that have clocks of their own: for its own it is between two of them.
    pub(crate) fn skip_exchange(&self) {
        self.head_since.set(None);
        self.outward.set(Outward::Open);
    }

    /// A request's body was read to its end, or nobody will read on.
    pub(crate) fn request_done(&self, now: Instant) {
        if !self.is_request_done() {
            self.outward.set(Outward::Done(now));
        }
    }

    /// Whether nothing more is to be read of the request.
    pub(crate) fn is_request_done(&self) -> bool {
        matches!(self.outward.get(), Outward::Done(_))
    }

    /// A response's head is there.
    pub(crate) fn response_head(&self) {
        self.homeward.set(Homeward::Streaming);
    }

    /// A response's body was handed over to its end, or nobody will hand on.
    pub(crate) fn response_done(&self) {
        self.homeward.set(Homeward::Done);
    }

    /// There are no more requests and responses.
    pub(crate) fn tunnel(&self) {
        self.homeward.set(Homeward::Tunnel);
    }

    /// Whether all that is left of an exchange is the response's way to the client.
    pub(crate) fn only_responds(&self) -> bool {
        self.homeward.get() == Homeward::Streaming && self.is_request_done()
    }

    /// Whether there is no exchange.
    pub(crate) fn is_between(&self) -> bool {
        self.homeward.get() == Homeward::Done && self.is_request_done()
    }

    /// Whether there is no exchange, and nothing of the next one.
    pub(crate) fn is_idle(&self) -> bool {
        self.is_between() && self.head_since.get().is_none()
    }

    /// When the last byte went either way.
    pub(crate) fn last_byte(&self) -> Instant {
        self.last_byte.get()
    }

    /// Since when it is the server's turn, which has all of the request, or all that it gets unasked; `None` if it isn't.
    pub(crate) fn servers_turn_since(&self) -> Option<Instant> {
        match self.outward.get() {
            Outward::Open => None,
            Outward::Held(since) | Outward::Done(since) => Some(since),
        }
    }

    /// When the connection is to be given up, and why; `None` while the head of a response is awaited.
    pub(crate) fn deadline(&self, timeouts: &ClientTimeouts) -> Option<(Instant, Kind)> {
        if let Some(since) = self.head_since.get() {
            return Some((since + timeouts.request_head, Kind::RequestHead));
        }
        let awaits_server =
            self.homeward.get() == Homeward::Awaited && self.servers_turn_since().is_some();
        (!awaits_server).then(|| (self.last_byte.get() + timeouts.idle, Kind::Idle))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const TIMEOUTS: ClientTimeouts = ClientTimeouts {
        request_head: Duration::from_secs(10),
        tls_handshake: Duration::from_secs(10),
        idle: Duration::from_secs(100),
    };

    #[test]
    fn the_deadline_follows_the_exchange() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let activity = Activity::new(start);
        let check = |expected, when| assert_eq!(activity.deadline(&TIMEOUTS), expected, "{when}");

        check(Some((at(10), Kind::RequestHead)), "new");
        activity.received(at(5));
        check(
            Some((at(10), Kind::RequestHead)),
            "a slow head gets no more time",
        );
        activity.request_head();
        activity.hold(at(5));
        check(None, "the server is to ask for the body");
        activity.request_wanted();
        activity.received(at(6));
        check(Some((at(106), Kind::Idle)), "body on its way");
        activity.request_done(at(7));
        check(None, "response awaited");
        activity.response_head();
        activity.sent(at(50));
        check(Some((at(150), Kind::Idle)), "response on its way");
        activity.response_done();
        check(Some((at(150), Kind::Idle)), "between requests");
        activity.received(at(60));
        check(Some((at(70), Kind::RequestHead)), "the next head has begun");
    }

    #[test]
    fn a_body_that_outlasts_its_response_is_no_head() {
        let start = Instant::now();
        let activity = Activity::new(start);
        activity.request_head();
        activity.response_head();
        activity.response_done();
        activity.received(start);
        let deadline = activity.deadline(&TIMEOUTS);
        assert_eq!(deadline, Some((start + TIMEOUTS.idle, Kind::Idle)));
    }
}
