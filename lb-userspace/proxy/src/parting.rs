//! How a worker tells its connections to end, and connections that are given back so that somebody else can serve them.
//!
//! Invariant: a connection is given back only while no request is under way on it: all of the last response has been
//! written, and what was read of the next request goes with it. TLS state and logins can't be given to anybody, so such a
//! connection stays, and its next response says that it is the last. An idle one is never closed for that: its client may
//! have sent the next request already, and would have to believe that it was lost.
//!
//! Not here: who takes what is given back.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderValue, Response, StatusCode};

use crate::connection::Proxy;
use crate::service::ClientAddr;
use crate::session::Session;
use crate::wakers::Audience;

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
        self.orders().give(Order::Drain);
    }

    /// Has every connection be given back or end as soon as its client is not surprised by that.
    pub fn leave(&self) {
        self.orders().give(Order::Leave);
    }

    /// What a connection hears its orders with.
    pub(crate) fn listen(self: &Rc<Self>) -> Ear {
        Ear {
            proxy: Rc::clone(self),
            place: None,
        }
    }

    fn is_told(&self, what: Order) -> bool {
        self.orders().latest.get() >= what
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

/// What a proxy tells its connections, all of which are on its thread: a channel between threads would be locked in each poll
/// of each of them.
#[derive(Debug)]
pub(crate) struct Orders {
    latest: Cell<Order>,
    ears: Audience,
}

impl Orders {
    pub(crate) fn new() -> Self {
        Self {
            latest: Cell::new(Order::Serve),
            ears: Audience::default(),
        }
    }

    /// No order is taken back.
    fn give(&self, order: Order) {
        if order > self.latest.get() {
            self.latest.set(order);
            self.ears.wake_all();
        }
    }
}

/// A connection's.
#[derive(Debug)]
pub(crate) struct Ear {
    proxy: Rc<Proxy>,
    place: Option<usize>,
}

impl Ear {
    /// The order that holds now; the task is woken by the next one.
    pub(crate) fn hear(&mut self, cx: &Context<'_>) -> Order {
        let orders = self.proxy.orders();
        orders.ears.join(&mut self.place, cx.waker());
        orders.latest.get()
    }

    /// Waits until so much is ordered, or more.
    pub(crate) async fn told(&mut self, what: Order) {
        poll_fn(|cx| {
            if self.hear(cx) >= what {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.proxy.orders().ears.leave(place);
        }
    }
}
