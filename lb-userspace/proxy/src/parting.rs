//! How a worker tells its connections to end, and connections that are given back so that somebody else can serve them.
//!
//! Invariant: a connection is given back only while no request is under way on it: all of the last response has been
//! written, and what was read of the next request goes with it. TLS state and logins can't be given to anybody, so such a
//! connection stays, and its next response says that it is the last. An idle one is never closed for that: its client may
//! have sent the next request already, and would have to believe that it was lost.
//!
//! Not here: who takes what is given back.

use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderValue, Response, StatusCode};
use tokio::sync::watch;

use crate::connection::Proxy;
use crate::service::ClientAddr;
use crate::session::Session;

/// What the connections of a worker shall do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Order {
    /// Go on.
    Serve,
    /// End or be given back, where that surprises no client.
    Leave,
    /// Finish the request under way and close.
    Drain,
}

/// When a connection may be given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parting {
    /// Nobody takes it: it is served to its end.
    Never,
    /// After [`Proxy::leave`], between two requests, if all of its state is in its bytes.
    BetweenRequests,
}

/// A connection on which no request is under way.
#[derive(Debug)]
pub struct Parted<S> {
    /// All that was written to it is on its way.
    pub stream: S,
    /// What was read of the next request.
    pub early: Bytes,
    /// Its ends, those of its PROXY header if it had one.
    pub client: ClientAddr,
}

impl Proxy {
    /// Has every connection finish the request under way and close, those accepted later included. Done when every
    /// [`Proxy::serve`] has returned.
    pub fn drain(&self) {
        self.orders().send_replace(Order::Drain);
    }

    /// Has every connection be given back or end as soon as its client is not surprised by that.
    pub fn leave(&self) {
        self.orders().send_if_modified(|order| {
            let is_new = *order < Order::Leave;
            *order = (*order).max(Order::Leave);
            is_new
        });
    }

    /// Waits until connections were told so much, or more.
    pub(crate) fn told(&self, what: Order) -> impl Future<Output = ()> + use<> {
        let mut orders = self.orders().subscribe();
        async move {
            // Without a sender the proxy is gone.
            let _ = orders.wait_for(|order| *order >= what).await;
        }
    }

    fn is_told(&self, what: Order) -> bool {
        *self.orders().borrow() >= what
    }
}

impl Session {
    /// Whether the connection can be given back now.
    pub(crate) fn parts_now(&self) -> bool {
        self.shared.may_part.get() && self.shared.is_between() && !self.has_pinned()
    }

    /// The response, which says that it is the last one if the worker is leaving and can't give the connection to anybody. Never
    /// in the middle of a login: clients take that for its failure.
    pub(crate) fn last<T>(&self, mut response: Response<T>) -> Response<T> {
        let stays = !self.shared.may_part.get() || self.has_pinned();
        let is_last = stays
            && self.proxy.is_told(Order::Leave)
            && !self.shared.is_stream()
            && response.status() != StatusCode::UNAUTHORIZED
            && self.tunnel.borrow().is_none();
        if is_last {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        response
    }
}

/// What a proxy tells its connections with.
pub(crate) fn orders() -> watch::Sender<Order> {
    watch::Sender::new(Order::Serve)
}
