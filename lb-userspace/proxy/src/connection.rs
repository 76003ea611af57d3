//! A client's connection, from its first byte to its last: TLS, hyper, deadlines, and the upstream connections that are
//! the client's own: one to the servers of each route that it logged in to.
//!
//! Invariant: the client's connection and its pinned upstream connections end together. If the client's ends the
//! session is dropped, and with it the upstream one; if the upstream one ends, the response under way is finished and
//! the client's is closed, so that no client believes in a login that is gone.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::HeaderMap;
use http::header::STRICT_TRANSPORT_SECURITY;
use hyper::service::service_fn;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::alarm::poll_until;
use crate::balance::{Balancer, Server};
use crate::carriage::{Carriage, Freight};
use crate::client_certificate::Shown;
use crate::client_io::{ClientIo, Shared};
use crate::entrance::shake_hands;
use crate::error::{Error, Kind};
use crate::forward::forward;
use crate::headers::{HeaderMode, Scheme};
use crate::http1::Http1;
use crate::http2;
use crate::identity::{PersistentAuth, PinReason};
use crate::route::Action;
use crate::rules::Rules;
use crate::service::{ClientAddr, ClientTimeouts, Forwarding, Service, Timeouts};
use crate::tls::Leaf;
use crate::tunnel::Tunnel;
use crate::upstream::{Lease, Pinned, Pool};

/// One service on one worker: serves client connections, and owns the upstream connections that they share.
#[derive(Debug)]
pub struct Proxy {
    pub(crate) service: Arc<Service>,
    /// Of each route, in the order of the service; `None` for those that don't forward.
    backends: Vec<Option<Backends>>,
    draining: watch::Sender<bool>,
    warned: Cell<bool>,
}

/// What a worker keeps of a route's servers.
#[derive(Debug)]
pub(crate) struct Backends {
    pub(crate) balancer: Balancer,
    pub(crate) pool: Rc<Pool>,
    pub(crate) rules: Option<Box<Rules>>,
}

impl Proxy {
    /// The proxy of one worker for one service.
    pub fn new(service: Arc<Service>) -> Rc<Self> {
        let backends = service.routes.iter().map(|route| match &route.action {
            Action::Forward(forwarding) => Some(Backends {
                balancer: Balancer::new(&forwarding.servers),
                pool: Pool::new(forwarding.servers.len()),
                rules: forwarding.rules.clone(),
            }),
            Action::Redirect(_) | Action::Respond(_) => None,
        });
        Rc::new(Self {
            backends: backends.collect(),
            service,
            draining: watch::Sender::new(false),
            warned: Cell::new(false),
        })
    }

    /// The service.
    pub fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// Says when to finish.
    pub(crate) fn draining(&self) -> watch::Receiver<bool> {
        self.draining.subscribe()
    }

    /// What this worker keeps of the servers of the route at `position`.
    pub(crate) fn backends(&self, position: usize) -> Option<&Backends> {
        self.backends.get(position)?.as_ref()
    }

    /// Has every connection finish the request under way and close, those accepted later included. Done when every
    /// [`Proxy::serve`] has returned.
    pub fn drain(&self) {
        self.draining.send_replace(true);
    }

    /// Serves one client connection until it ends. Must run where tasks can be spawned locally; dropping the future closes the
    /// connection and its upstream one.
    ///
    /// An end of the stream before a response's head counts as the client being gone, also if only its sending side is
    /// closed: whoever waits an hour for `ActiveSync` must not keep a server busy after hanging up. Once the response
    /// is on its way it is delivered.
    ///
    /// # Errors
    ///
    /// The connection ended other than between requests: TLS failed, a deadline passed, or the client broke off or
    /// didn't speak HTTP. What goes wrong with single requests is counted and answered, and no error here.
    pub async fn serve<S>(self: Rc<Self>, stream: S, client: ClientAddr) -> Result<(), Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        self.serve_on(None, stream, client).await
    }

    /// As [`Proxy::serve`], of a stream whose carrier wants to know when it carries bulk.
    ///
    /// # Errors
    ///
    /// As [`Proxy::serve`].
    pub async fn serve_on<S>(
        self: Rc<Self>,
        carriage: Option<Rc<dyn Carriage>>,
        stream: S,
        client: ClientAddr,
    ) -> Result<(), Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        self.service.counters.client_connections.increment();
        let service = Arc::clone(&self.service);
        let freight = Freight::new(service.bulk, carriage);
        let outcome = self.admit_and_serve(stream, client, freight).await;
        if let Err(error) = &outcome {
            service.counters.count_error(error.kind());
        }
        outcome
    }

    async fn admit_and_serve<S>(
        self: Rc<Self>,
        mut stream: S,
        ends: ClientAddr,
        freight: Freight,
    ) -> Result<(), Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let service = Arc::clone(&self.service);
        let patience = service.timeouts.request_head;
        let guest = service.entrance.enter(&mut stream, ends, patience).await?;
        let client = guest.client;
        let Some(tls) = &service.tls else {
            return self
                .serve_http(stream, client, Shown::default(), freight)
                .await;
        };
        // Boxed, all three: a connection's future has room for its largest part for as long as it lasts. 7 KB less.
        let handshake = Box::pin(shake_hands(tls, stream, service.timeouts.tls_handshake));
        let stream = Box::new(handshake.await?);
        let tls = stream.get_ref().1;
        let shown = Shown::on(tls);
        if tls.alpn_protocol() == Some(http2::ALPN) {
            return Box::pin(http2::serve(self, stream, client, shown, freight)).await;
        }
        self.serve_http(stream, client, shown, freight).await
    }

    async fn serve_http<S>(
        self: Rc<Self>,
        stream: S,
        client: ClientAddr,
        shown: Shown,
        freight: Freight,
    ) -> Result<(), Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let timeouts = self.service.timeouts;
        let shared = Shared::new(timeouts, freight);
        let io = ClientIo::new(stream, Rc::clone(&shared));
        let mut draining = self.draining();
        let session = Session::new(self, client, shown, shared);
        let requests = Rc::clone(&session);
        let answer = service_fn(move |request| forward(Rc::clone(&requests), request));
        let mut http = Http1::new(io, Rc::clone(&session), answer);
        let mut stop = pin!(async { draining.wait_for(|&draining| draining).await.is_ok() });
        let mut stopping = false;
        let mut alarm = pin!(sleep_until(Instant::now() + timeouts.idle));
        poll_fn(|cx| {
            loop {
                if let Poll::Ready(outcome) = http.poll(cx) {
                    return Poll::Ready(outcome.or_else(ended));
                }
                let stop_now = !stopping
                    && (session.poll_pinned_closed(cx).is_ready()
                        || stop.as_mut().poll(cx).is_ready());
                if stop_now {
                    stopping = true;
                    http.graceful_shutdown();
                    continue;
                }
                if session.shared.leftover.poll(cx).is_ready() {
                    session.shared.activity.request_done(Instant::now());
                }
                match ready!(session.poll_deadline(cx, alarm.as_mut(), http.rests_at())) {
                    Ok(()) => http.let_rest(),
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
        })
        .await?;
        let (Some(tunnel), Some((io, early))) = (session.tunnel.take(), http.into_parts()) else {
            return Ok(());
        };
        if stopping {
            return Ok(());
        }
        // Boxed: 3 KB that every connection would have room for, as above.
        let relay = Box::pin(session.within_deadline(tunnel.relay(io, early), alarm));
        tokio::select! {
            outcome = relay => outcome,
            _draining = stop => Ok(()),
        }
    }

    /// Counts `Persistent-Auth`, and says once what a `false` means, which may be that the server got a `Via` (`via`).
    pub(crate) fn note_persistent_auth(
        &self,
        value: Option<PersistentAuth>,
        mode: HeaderMode,
        via: bool,
    ) {
        match value {
            None => {}
            Some(PersistentAuth::True) => self.service.counters.persistent_auth_true.increment(),
            Some(PersistentAuth::False) => {
                self.service.counters.persistent_auth_false.increment();
                if !self.warned.replace(true) {
                    self.warn_persistent_auth_false(mode, via);
                }
            }
        }
    }

    fn warn_persistent_auth_false(&self, mode: HeaderMode, via: bool) {
        let service = &self.service.name;
        if mode.adds_via() {
            tracing::warn!(
                service,
                ?mode,
                "the server ends logins after one request (Persistent-Auth: false), because the header mode adds Via; \
                 clients that trust their login to last fail with 401 or 400; a mode without Via ends this"
            );
        } else if via {
            tracing::warn!(
                service,
                ?mode,
                "the server ends logins after one request (Persistent-Auth: false), because a rule makes a Via, or \
                 inbound = \"keep\" lets one pass; clients that trust their login to last fail with 401 or 400"
            );
        } else {
            tracing::warn!(
                service,
                ?mode,
                "the server ends logins after one request (Persistent-Auth: false), although we add no Via; \
                 look for another proxy on either side that does, or for the server's own authentication settings"
            );
        }
    }
}

/// How a connection that hyper gave up ended.
fn ended(error: hyper::Error) -> Result<(), Error> {
    if error.is_user() {
        // A request of ours failed, or a server's body did; either was counted where it happened.
        return Ok(());
    }
    if error.is_parse_too_large() {
        // hyper has answered.
        let detail = "the head of a request is too large";
        return Err(Error::new(Kind::HeaderTooLarge, detail).because(error));
    }
    Err(Error::new(
        Kind::ClientBroken,
        "the client broke off or sent what isn't HTTP",
    )
    .because(error))
}

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
    fn poll_pinned_closed(&self, cx: &mut Context<'_>) -> Poll<()> {
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
    async fn within_deadline(
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
    fn poll_deadline(
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
