//! A client's connection, from its first byte to its last: TLS, hyper, deadlines, and the upstream connections that are
//! the client's own: one to the servers of each route that it logged in to.
//!
//! Invariant: the client's connection and its pinned upstream connections end together. If the client's ends the
//! session is dropped, and with it the upstream one; if the upstream one ends, the response under way is finished and
//! the client's is closed, so that no client believes in a login that is gone.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, ready};

use bytes::Bytes;
use hyper::service::service_fn;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until};

use crate::balance::Balancer;
use crate::carriage::{Carriage, Freight};
use crate::client_certificate::Shown;
use crate::client_io::{ClientIo, Shared};
use crate::entrance::shake_hands;
use crate::error::{Error, Kind};
use crate::forward::forward;
use crate::headers::HeaderMode;
use crate::http1::{Between, Http1};
use crate::http2;
use crate::identity::PersistentAuth;
use crate::parting::{Order, Orders, Parted, Parting};
use crate::route::Action;
use crate::rules::Rules;
use crate::service::{ClientAddr, Service};
use crate::session::Session;
use crate::upstream::Pool;

/// One service on one worker: serves client connections, and owns the upstream connections that they share.
#[derive(Debug)]
pub struct Proxy {
    pub(crate) service: Arc<Service>,
    /// Of each route, in the order of the service; `None` for those that don't forward.
    backends: Vec<Option<Backends>>,
    orders: Orders,
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
            orders: Orders::new(),
            warned: Cell::new(false),
        })
    }

    /// The service.
    pub fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// What its connections are told.
    pub(crate) const fn orders(&self) -> &Orders {
        &self.orders
    }

    /// What this worker keeps of the servers of the route at `position`.
    pub(crate) fn backends(&self, position: usize) -> Option<&Backends> {
        self.backends.get(position)?.as_ref()
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
        let served = self.serve_until_left(carriage, stream, client, Parting::Never);
        served.await.map(drop)
    }

    /// As [`Proxy::serve_on`], until the connection ends or is given back.
    ///
    /// # Errors
    ///
    /// As [`Proxy::serve`].
    pub async fn serve_until_left<S>(
        self: Rc<Self>,
        carriage: Option<Rc<dyn Carriage>>,
        stream: S,
        client: ClientAddr,
        parting: Parting,
    ) -> Result<Option<Parted<S>>, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        self.service.counters.client_connections.increment();
        let service = Arc::clone(&self.service);
        let freight = Freight::new(service.bulk, carriage);
        let outcome = self.admit_and_serve(stream, client, freight, parting).await;
        service.counters.count_failure(&outcome);
        outcome
    }

    /// Goes on with a connection that was given back, by this proxy or one of another process.
    ///
    /// # Errors
    ///
    /// As [`Proxy::serve`].
    pub async fn resume<S>(
        self: Rc<Self>,
        parted: Parted<S>,
        parting: Parting,
    ) -> Result<Option<Parted<S>>, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let service = Arc::clone(&self.service);
        let outcome = match service.entrance.readmit(parted.client) {
            Ok(_guest) => {
                let visit = Visit {
                    stream: parted.stream,
                    early: parted.early,
                    client: parted.client,
                    shown: Shown::default(),
                    freight: Freight::default(),
                    parting,
                    is_new: false,
                };
                self.serve_http(visit).await
            }
            Err(error) => Err(error),
        };
        service.counters.count_failure(&outcome);
        outcome
    }

    async fn admit_and_serve<S>(
        self: Rc<Self>,
        mut stream: S,
        ends: ClientAddr,
        freight: Freight,
        parting: Parting,
    ) -> Result<Option<Parted<S>>, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let service = Arc::clone(&self.service);
        let patience = service.timeouts.request_head;
        let guest = service.entrance.enter(&mut stream, ends, patience).await?;
        let client = guest.client;
        let Some(tls) = &service.tls else {
            let visit = Visit::new(stream, client, Shown::default(), freight, parting);
            return self.serve_http(visit).await;
        };
        // Boxed, all three: a connection's future has room for its largest part for as long as it lasts. 7 KB less.
        let handshake = Box::pin(shake_hands(tls, stream, service.timeouts.tls_handshake));
        let stream = Box::new(handshake.await?);
        let tls = stream.get_ref().1;
        let shown = Shown::on(tls);
        if tls.alpn_protocol() == Some(http2::ALPN) {
            let served = Box::pin(http2::serve(self, stream, client, shown, freight));
            return served.await.map(|()| None);
        }
        let visit = Visit::new(stream, client, shown, freight, Parting::Never);
        self.serve_http(visit).await.map(|_| None)
    }

    async fn serve_http<S>(self: Rc<Self>, visit: Visit<S>) -> Result<Option<Parted<S>>, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let timeouts = self.service.timeouts;
        let client = visit.client;
        let shared = Shared::new(timeouts, visit.freight);
        shared.begin(visit.parting, visit.is_new);
        let mut io = ClientIo::new(visit.stream, Rc::clone(&shared));
        io.unread(visit.early);
        let mut ear = self.listen();
        let session = Session::new(self, client, visit.shown, shared);
        let requests = Rc::clone(&session);
        let answer = service_fn(move |request| forward(Rc::clone(&requests), request));
        let mut http = Http1::new(io, Rc::clone(&session), answer);
        let mut stopping = false;
        let mut alarm = pin!(sleep_until(Instant::now() + timeouts.idle));
        let end = poll_fn(|cx| {
            loop {
                if let Poll::Ready(outcome) = http.poll(cx) {
                    return Poll::Ready(outcome.or_else(ended).map(|()| End::Over));
                }
                let order = ear.hear(cx);
                if order >= Order::Leave && session.parts_now() {
                    match http.between(cx) {
                        Between::Yes => return Poll::Ready(Ok(End::Parted)),
                        Between::No => {}
                        Between::Over(outcome) => {
                            return Poll::Ready(outcome.or_else(ended).map(|()| End::Over));
                        }
                    }
                }
                let stop_now = !stopping
                    && (order >= Order::Drain || session.poll_pinned_closed(cx).is_ready());
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
        let Some((io, early)) = http.into_parts() else {
            return Ok(None);
        };
        if let End::Parted = end {
            return Ok(Some(io.part(&early, client)));
        }
        let Some(tunnel) = session.tunnel.take().filter(|_| !stopping) else {
            return Ok(None);
        };
        // Boxed: 3 KB that every connection would have room for, as above.
        let relay = Box::pin(session.within_deadline(tunnel.relay(io, early), alarm));
        let outcome = tokio::select! {
            outcome = relay => outcome,
            () = ear.told(Order::Drain) => Ok(()),
        };
        outcome.map(|()| None)
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

/// What is left when hyper is done with a connection.
enum End {
    /// Nothing, or a tunnel.
    Over,
    /// A connection between two requests.
    Parted,
}

/// A connection that HTTP begins on.
struct Visit<S> {
    stream: S,
    /// What was read of it before.
    early: Bytes,
    client: ClientAddr,
    shown: Shown,
    freight: Freight,
    parting: Parting,
    /// Its first request is awaited.
    is_new: bool,
}

impl<S> Visit<S> {
    /// Of a new connection.
    const fn new(
        stream: S,
        client: ClientAddr,
        shown: Shown,
        freight: Freight,
        parting: Parting,
    ) -> Self {
        Self {
            stream,
            early: Bytes::new(),
            client,
            shown,
            freight,
            parting,
            is_new: true,
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
