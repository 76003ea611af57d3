//! What the requests of one client connection have in common: its client, its own upstream connections, its deadline.
//!
//! Not here: the connection's life ([`crate::connection`]).

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::HeaderMap;
use http::header::STRICT_TRANSPORT_SECURITY;
use tokio::time::{Instant, Sleep};

use crate::alarm::poll_until;
use crate::balance::Server;
use crate::client_certificate::Shown;
use crate::client_io::Shared;
use crate::connection::Proxy;
use crate::error::{Error, Kind};
use crate::headers::Scheme;
use crate::identity::PinReason;
use crate::service::{ClientAddr, ClientTimeouts, Forwarding, Timeouts};
use crate::tls::Leaf;
use crate::tunnel::Tunnel;
use crate::upstream::{Lease, Pinned};

/// What the requests of one client connection have in common.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) proxy: Rc<Proxy>,
    pub(crate) client: ClientAddr,
    /// SNI (RFC 6066 section 3) of the client's TLS; `None` if it sent none, or speaks plain HTTP.
    pub(crate) server_name: Option<Rc<str>>,
    /// Of a client that proved itself to be its subject; `None` if none was asked for, or it has none.
    pub(crate) client_certificate: Option<Rc<Leaf>>,
    pub(crate) shared: Rc<Shared>,
    /// One at most for the servers of a route.
    pinned: RefCell<Vec<(Pinned, PinReason)>>,
    /// What the connection becomes once hyper is done with it.
    pub(crate) tunnel: RefCell<Option<Box<Tunnel>>>,
}

impl Session {
    /// Of a new connection, or a new stream of one.
    pub(crate) fn new(
        proxy: Rc<Proxy>,
        client: ClientAddr,
        shown: Shown,
        shared: Rc<Shared>,
    ) -> Rc<Self> {
        Rc::new(Self {
            proxy,
            client,
            server_name: shown.server_name,
            client_certificate: shown.certificate,
            shared,
            pinned: RefCell::default(),
            tunnel: RefCell::default(),
        })
    }

    /// A request goes by the rules of this route, and so does the silence after it.
    pub(crate) fn take_route(&self, timeouts: &Timeouts) {
        let all = &self.shared.timeouts;
        all.set(ClientTimeouts {
            idle: timeouts.idle,
            ..all.get()
        });
    }

    /// How the client speaks to us.
    pub(crate) fn scheme(&self) -> Scheme {
        match self.proxy.service.tls {
            Some(_) => Scheme::Https,
            None => Scheme::Http,
        }
    }

    /// What every response to this client says, whoever it is from. Never over plain HTTP (RFC 6797 section 7.2).
    pub(crate) fn add_own_headers(&self, headers: &mut HeaderMap) {
        if let Some(hsts) = &self.proxy.service.hsts
            && self.scheme() == Scheme::Https
        {
            headers.insert(STRICT_TRANSPORT_SECURITY, hsts.clone());
        }
    }

    /// Makes the connection of `lease` this client's own.
    pub(crate) fn pin(&self, lease: Lease, reason: PinReason) {
        self.proxy.service.counters.upstream_pinned.increment();
        self.pinned.borrow_mut().push((lease.pin(), reason));
    }

    /// Whether the client has a connection of its own, to whatever server.
    pub(crate) fn has_pinned(&self) -> bool {
        !self.pinned.borrow().is_empty()
    }

    /// Takes the client's own connection to a server of the route, to make a tunnel of it.
    pub(crate) fn take_pinned(&self, route: &Forwarding) -> Option<Pinned> {
        let mut pinned = self.pinned.borrow_mut();
        let is_of_route = |pinned: &Pinned| route.server_at(pinned.server().address()).is_some();
        let at = pinned.iter().position(|(pinned, _)| is_of_route(pinned))?;
        Some(pinned.swap_remove(at).0)
    }

    /// What `f` says of the client's own connection to a server of the route; `None` if it has none. A route to other
    /// servers has other identities.
    pub(crate) fn with_pinned<T>(
        &self,
        route: &Forwarding,
        f: impl FnOnce(&mut Pinned, PinReason) -> T,
    ) -> Option<T> {
        let mut pinned = self.pinned.borrow_mut();
        let mut pinned = pinned.iter_mut();
        let (pinned, reason) = pinned.find(|(pinned, _)| {
            let known = route.server_at(pinned.server().address()).is_some();
            known && pinned.introduced() == route.proxy_protocol
        })?;
        Some(f(pinned, *reason))
    }

    pub(crate) fn is_pinned(&self, route: &Forwarding) -> bool {
        self.with_pinned(route, |_, _| ()).is_some()
    }

    /// The route's own view of the pinned connection's server.
    pub(crate) fn pinned_server<'a>(&self, route: &'a Forwarding) -> Option<&'a Arc<Server>> {
        let address = self.with_pinned(route, |pinned, _| pinned.server().address())?;
        route.server_at(address)
    }

    /// Whether the pinned connection's server is up for this route: it may be down for one virtual directory only. One that
    /// is drained, or that new connections fail to reach, keeps its pinned ones.
    pub(crate) fn pinned_server_is_up(&self, route: &Forwarding) -> bool {
        self.pinned_server(route)
            .is_some_and(|server| server.is_healthy())
    }

    /// Waits until the pinned connection can take a request; `None` if it never will, or its server is down.
    pub(crate) async fn pinned_ready(&self, route: &Forwarding) -> Option<()> {
        if !self.pinned_server_is_up(route) {
            return None;
        }
        let ready = poll_fn(|cx| {
            let poll = self.with_pinned(route, |pinned, _| pinned.poll_ready(cx));
            poll.unwrap_or(Poll::Ready(false))
        });
        ready.await.then_some(())
    }

    /// Ready when one of the client's own connections is closed.
    pub(crate) fn poll_pinned_closed(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut pinned = self.pinned.borrow_mut();
        if pinned
            .iter_mut()
            .any(|(pinned, _)| pinned.poll_closed(cx).is_ready())
        {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// Runs a tunnel, until the connection's time is up. How else it ends is the business of its ends.
    pub(crate) async fn within_deadline(
        &self,
        relay: impl Future<Output = io::Result<()>>,
        mut alarm: Pin<&mut Sleep>,
    ) -> Result<(), Error> {
        let mut relay = pin!(relay);
        poll_fn(|cx| {
            if relay.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            self.poll_deadline(cx, alarm.as_mut(), None)
        })
        .await
    }

    /// Ready with the reason when the connection's time is up, or without when it is time to rest.
    pub(crate) fn poll_deadline(
        &self,
        cx: &mut Context<'_>,
        alarm: Pin<&mut Sleep>,
        rest: Option<Instant>,
    ) -> Poll<Result<(), Error>> {
        let timeouts = self.shared.timeouts.get();
        let of_body = self.shared.pace.deadline(cx.waker());
        let of_body = of_body.map(|deadline| (deadline, Kind::SlowBody));
        let deadlines = [self.shared.activity.deadline(&timeouts), of_body];
        let deadlines = deadlines.into_iter().flatten();
        let deadlines = deadlines.map(|(at, kind)| (at, Some(kind)));
        let all = deadlines.chain(rest.map(|at| (at, None)));
        let Some((deadline, kind)) = all.min_by_key(|(at, _)| *at) else {
            return Poll::Pending;
        };
        ready!(poll_until(cx, alarm, deadline));
        let over = kind.map(|kind| Error::new(kind, "the client's time is up"));
        Poll::Ready(over.map_or(Ok(()), Err))
    }
}
