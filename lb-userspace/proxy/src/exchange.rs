//! The way to a server and back: which connection carries a request, its response's head, and what the client gets of it.
//!
//! The rule of which connection: the client's own if it has one; a fresh one of its own if the request carries a
//! credential that authenticates connections, or if servers are told whom a connection is for; else one that never carried any. A request is sent a second time only
//! if none of it was sent the first time, and never if it is pinned.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use http::header::{CONNECTION, SET_COOKIE, TRANSFER_ENCODING};
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, request};
use http_body::Body;
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::balance::{Ask, Balancer, Server};
use crate::body::{BodyError, RequestBody, ResponseBody};
use crate::client_certificate;
use crate::connection::Backends;
use crate::error::{Error, Kind};
use crate::expect::{self, ExpectMode};
use crate::guard;
use crate::headers::{self, BodyPresence};
use crate::identity::{self, PinReason};
use crate::record::Record;
use crate::rules::{Asked, Facts};
use crate::service::Forwarding;
use crate::session::Session;
use crate::tunnel::{self, Tunnel};
use crate::upstream::{Lease, Sent, connect};

/// One request of one client on its way to the servers of one route.
#[derive(Clone, Copy)]
pub(crate) struct Exchange<'a> {
    pub(crate) session: &'a Session,
    pub(crate) route: &'a Forwarding,
    pub(crate) backends: &'a Backends,
}

/// The head of a server's response. The lease is that of the connection it came on, unless that is pinned.
pub(crate) struct Answer {
    response: Response<Incoming>,
    lease: Option<Lease>,
    /// `Set-Cookie` of our own; seldom there.
    cookie: Option<Box<HeaderValue>>,
    /// Only where there are rules, whose variables stand for it.
    asked: Option<Box<Asked>>,
    /// What the request asked for, if the response grants it.
    tunnel: Option<tunnel::Asked>,
}

impl Answer {
    /// Keeps the connection from other clients if its next response might not be theirs.
    fn retire_if_doubtful(&mut self, method: &Method, body: BodyPresence) {
        let response = &self.response;
        if guard::is_last_exchange(method, body, response.status(), response.headers())
            && let Some(lease) = &mut self.lease
        {
            lease.retire();
        }
    }
}

impl Exchange<'_> {
    /// Gets the head of a server's response to a normal request.
    pub(crate) async fn run(
        self,
        mut head: request::Parts,
        body: RequestBody,
        record: &mut Record,
    ) -> Result<Answer, Error> {
        let Self { session, route, .. } = self;
        session.take_route(&route.timeouts);
        let mut credential = PinReason::of_request(&head.headers);
        let mut ask = Balancer::ask(
            &route.balancing,
            session.client.peer.ip(),
            &mut head.headers,
        );
        let (received, method, presence) = (head.version, head.method.clone(), body.presence());
        let is_stream = session.shared.is_stream();
        let wanted = tunnel::Asked::by(&head, presence, &route.tunnels).filter(|_| !is_stream);
        let scheme = session.scheme();
        route.headers.apply(&mut head, session.client, scheme)?;
        client_certificate::tell(
            session.proxy.service.tls.as_deref(),
            session.client_certificate.as_deref(),
            &mut head.headers,
        );
        let asked = self.change(&mut head)?;
        if asked.is_some() {
            // A rule may have made a credential of what was none.
            credential = credential.or_else(|| PinReason::of_request(&head.headers));
        }
        if let Some(wanted) = &wanted {
            wanted.say(&mut head.headers);
        }
        let credential = self.may_pin(credential)?;
        record.outgoing(&head.headers);
        frame(&mut head, &body);
        let mut request = Request::from_parts(head, body);
        expect::prepare(session, route.expect, &mut request, received, record).await;

        if !session.is_pinned(route) {
            let reason = credential.or(wanted.as_ref().map(|_| PinReason::Tunnel));
            let Some(reason) = reason else {
                let mut answer = self.send_shared(request, &mut ask, record).await?;
                answer.retire_if_doubtful(&method, presence);
                return Ok(Answer { asked, ..answer });
            };
            let lease = self.obtain(Freshness::Fresh, &mut ask).await?;
            session.pin(lease, reason);
        }
        let response = self.send_pinned(request, wanted.as_ref(), record).await?;
        let pinned = session.pinned_server(route);
        let index = pinned.and_then(|server| route.index_at(server.address()));
        Ok(Answer {
            tunnel: wanted.filter(|wanted| wanted.is_granted_by(&response)),
            response,
            lease: None,
            cookie: route.balancing.cookie(&ask, index).map(Box::new),
            asked,
        })
    }

    /// Changes a request by the route's rules; what it was before, if there are any.
    fn change(self, head: &mut request::Parts) -> Result<Option<Box<Asked>>, Error> {
        let Some(rules) = &self.backends.rules else {
            return Ok(None);
        };
        let asked = Box::new(Asked::of(head));
        rules.on_request(head, facts(self.session, &asked, None))?;
        Ok(Some(asked))
    }

    /// Why the request needs a connection of the client's own; an error if it comes on a stream, which has none.
    fn may_pin(self, credential: Option<PinReason>) -> Result<Option<PinReason>, Error> {
        let Self { session, route, .. } = self;
        let introduced = route.proxy_protocol.map(|_| PinReason::ProxyHeader);
        match (session.shared.is_stream(), credential) {
            (true, Some(_)) => {
                let detail = "a credential that authenticates a connection, on one of its streams";
                Err(Error::new(Kind::NeedsHttp1, detail))
            }
            // A connection that was introduced to its server is not shared in any case.
            (true, None) => Ok(None),
            (false, credential) => Ok(credential.or(introduced)),
        }
    }

    /// Sends on the client's own connection, once.
    async fn send_pinned(
        self,
        request: Request<RequestBody>,
        wanted: Option<&tunnel::Asked>,
        record: &mut Record,
    ) -> Result<Response<Incoming>, Error> {
        let Self { session, route, .. } = self;
        let lost = || {
            Error::new(
                Kind::IdentityLost,
                "the client's upstream connection is gone",
            )
        };
        session.pinned_ready(route).await.ok_or_else(lost)?;
        let sending = session.with_pinned(route, |pinned, reason| {
            record.upstream = Some((Arc::clone(pinned.server()), pinned.id()));
            record.pinned = Some(reason);
            pinned.send(request)
        });
        let outcome = self.response_head(sending.ok_or_else(lost)?, wanted).await;
        if let Some(server) = session.pinned_server(route) {
            self.judge(server, &outcome);
        }
        match outcome {
            Ok(response) => Ok(response),
            // Nothing was sent, but another connection would not have the client's identity.
            Err(Failure::Unsent(_)) => Err(lost()),
            Err(Failure::Failed(error)) => Err(error),
        }
    }

    /// Sends on a connection without identity; on another one if nothing was sent.
    async fn send_shared(
        self,
        mut request: Request<RequestBody>,
        ask: &mut Ask,
        record: &mut Record,
    ) -> Result<Answer, Error> {
        let mut freshness = Freshness::Any;
        loop {
            let mut lease = self.obtain(freshness, ask).await?;
            let server = Arc::clone(lease.clean().server());
            record.upstream = Some((Arc::clone(&server), lease.clean().id()));
            let outcome = self.response_head(lease.clean().send(request), None).await;
            self.judge(&server, &outcome);
            match outcome {
                Ok(response) => {
                    let cookie = self.route.balancing.cookie(ask, Some(lease.index()));
                    let cookie = cookie.map(Box::new);
                    return Ok(Answer {
                        response,
                        lease: Some(lease),
                        cookie,
                        asked: None,
                        tunnel: None,
                    });
                }
                Err(Failure::Failed(error)) => return Err(error),
                Err(Failure::Unsent(unsent)) => {
                    // A kept connection may have been closed meanwhile, and others with it; a new one that takes nothing
                    // is a bad server.
                    let bad = lease.is_fresh().then(|| lease.index());
                    if !ask.failed(bad) {
                        return Err(Error::new(Kind::Connect, "tried often enough"));
                    }
                    freshness = Freshness::Fresh;
                    request = *unsent;
                }
            }
        }
    }

    /// Takes note of what an outcome says of the server.
    fn judge(self, server: &Server, outcome: &Result<Response<Incoming>, Failure>) {
        let rules = &self.route.balancing;
        match outcome {
            Ok(response) => rules.responded(server, response.status()),
            Err(Failure::Failed(error)) => rules.failed(server, error),
            // The server has seen nothing of the request.
            Err(Failure::Unsent(_)) => {}
        }
    }

    /// A connection to the server whose turn it is; to another one if that can't be connected to.
    async fn obtain(self, freshness: Freshness, ask: &mut Ask) -> Result<Lease, Error> {
        let Self {
            session,
            route,
            backends,
        } = self;
        let service = &session.proxy.service;
        let mut failure = None;
        loop {
            let mut slot = match backends.balancer.place(&route.balancing, ask).await {
                Ok(slot) => slot,
                // That nobody else is left says less than why the last one failed.
                Err(error) => return Err(failure.unwrap_or(error)),
            };
            if freshness == Freshness::Any {
                slot = match backends.pool.take(slot) {
                    Ok(lease) => {
                        service.counters.pool_reused.increment();
                        return Ok(lease);
                    }
                    Err(slot) => slot,
                };
            }
            let index = slot.index();
            let Some(server) = route.servers.get(index) else {
                return Err(Error::new(Kind::NoServer, "a place without a server"));
            };
            // In a box, because every client connection has room for its request's future, which is copied for each request,
            // and few of them open a connection.
            let opening = Box::pin(connect(route, server, session.client, &service.counters));
            match opening.await {
                Ok(clean) => {
                    route.balancing.connected(server);
                    return Ok(backends.pool.lease(clean, slot));
                }
                Err(error) => {
                    tracing::debug!(target: "lb::upstream", service = service.name, %error);
                    route.balancing.failed(server, &error);
                    if !ask.failed(Some(index)) {
                        return Err(error);
                    }
                    failure = Some(error);
                }
            }
        }
    }

    /// Waits for the head of a response, for as long as the route's settings allow after the end of the request.
    async fn response_head(
        self,
        sending: impl Future<Output = Sent>,
        wanted: Option<&tunnel::Asked>,
    ) -> Result<Response<Incoming>, Failure> {
        let limit = self.route.timeouts.response_head;
        let shared = &self.session.shared;
        let mut sending = pin!(sending);
        let outcome = poll_fn(|cx| {
            if let Poll::Ready(outcome) = sending.as_mut().poll(cx) {
                return Poll::Ready(Some(outcome));
            }
            // While the request is still on its way, the idle timeout watches; this one begins anew.
            let since = shared.activity.servers_turn_since();
            let deadline = since.unwrap_or_else(Instant::now) + limit;
            let mut patience = shared.patience.borrow_mut();
            patience.poll_until(cx, deadline).map(|()| None)
        });
        match outcome.await {
            Some(Ok(response))
                if response.status() == StatusCode::SWITCHING_PROTOCOLS
                    && !wanted.is_some_and(|wanted| wanted.is_granted_by(&response)) =>
            {
                let detail = "101 to a request that didn't ask for this protocol";
                Err(Failure::Failed(Error::new(Kind::UpstreamBroken, detail)))
            }
            Some(Ok(mut response)) => {
                if self.route.expect == ExpectMode::Require {
                    // The server didn't ask for the body, but may want it to keep the connection.
                    shared.gate.release();
                }
                guard::check_response(response.headers_mut()).map_err(Failure::Failed)?;
                Ok(response)
            }
            Some(Err(mut failed)) => Err(match failed.take_message() {
                Some(request) => Failure::Unsent(Box::new(request)),
                None => Failure::Failed(blame(failed.into_error())),
            }),
            None => {
                let detail = format!("no response head within {limit:?}");
                Err(Failure::Failed(Error::new(Kind::ResponseTimeout, detail)))
            }
        }
    }

    /// Makes the server's response the client's.
    pub(crate) fn relay(self, answer: Answer, mut record: Record) -> Response<ResponseBody> {
        let Self {
            session,
            route,
            backends,
        } = self;
        let Answer {
            mut response,
            lease,
            cookie,
            asked,
            tunnel,
        } = answer;
        if let Some(wanted) = tunnel
            && let Some(pinned) = session.take_pinned(route)
        {
            let upstream = pinned.upgrade(&mut response);
            return self.enter(response, &wanted, Tunnel { upstream, record });
        }
        session.shared.activity.response_head();
        let (mut head, incoming) = response.into_parts();
        let persistent = identity::persistent_auth(&head.headers);
        session
            .proxy
            .note_persistent_auth(persistent, route.headers.mode, record.via_out);
        record.response(&head.headers, persistent);
        record.answered(head.status);

        let lease = match (lease, PinReason::of_response(head.status, &head.headers)) {
            (Some(mut lease), Some(_)) if session.shared.is_stream() => {
                lease.retire();
                Some(lease)
            }
            (Some(lease), Some(reason)) => {
                session.pin(lease, reason);
                record.pinned = Some(reason);
                None
            }
            (lease, _) => lease,
        };
        let upstream_closes = headers::closes(head.version, &head.headers);
        headers::clean_response(&mut head.headers);
        if let (Some(rules), Some(asked)) = (&backends.rules, &asked) {
            let server = record.upstream.as_ref().map(|(server, _)| server.name());
            rules.on_response(&mut head.headers, facts(session, asked, server));
        }
        session.add_own_headers(&mut head.headers);
        if session.is_pinned(route) && (upstream_closes || !session.pinned_server_is_up(route)) {
            // The identity ends with the connection, so the client must not believe that it still has one.
            let close = HeaderValue::from_static("close");
            head.headers.insert(CONNECTION, close);
        }
        if let Some(cookie) = cookie {
            head.headers.append(SET_COOKIE, *cookie);
        }
        head.version = Version::HTTP_11;
        let body = ResponseBody::relayed(incoming, lease, Rc::clone(&session.shared), record);
        Response::from_parts(head, body)
    }
}

impl Exchange<'_> {
    /// Tells the client that its connection is a tunnel from here on.
    fn enter(
        self,
        response: Response<Incoming>,
        wanted: &tunnel::Asked,
        mut tunnel: Tunnel,
    ) -> Response<ResponseBody> {
        let Self { session, .. } = self;
        let (mut head, _) = response.into_parts();
        tunnel.record.answered(head.status);
        session.shared.activity.tunnel();
        session.shared.freight.tunnel();
        session.proxy.service.counters.tunnels.increment();
        headers::clean_response(&mut head.headers);
        wanted.say(&mut head.headers);
        session.tunnel.replace(Some(Box::new(tunnel)));
        Response::from_parts(head, ResponseBody::Tunnel)
    }
}

/// Whether a connection may have carried other clients' requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Freshness {
    Any,
    Fresh,
}

/// Why there is no response.
enum Failure {
    /// None of the request was sent.
    Unsent(Box<Request<RequestBody>>),
    /// Some of it may have been.
    Failed(Error),
}

/// What variables of rules are looked up in.
fn facts<'a>(session: &'a Session, asked: &'a Asked, server: Option<&'a str>) -> Facts<'a> {
    Facts {
        client: session.client,
        scheme: session.scheme(),
        server_name: session.server_name.as_deref(),
        asked,
        server,
    }
}

/// hyper doesn't send a body of unknown length with GET and HEAD unless told to; it came chunked, so it goes chunked.
fn frame(head: &mut request::Parts, body: &RequestBody) {
    if !body.is_end_stream() && body.size_hint().exact().is_none() {
        let chunked = HeaderValue::from_static("chunked");
        head.headers.insert(TRANSFER_ENCODING, chunked);
    }
}

fn blame(error: hyper::Error) -> Error {
    let ours = std::error::Error::source(&error).and_then(|cause| cause.downcast_ref());
    if let Some(BodyError::TooLarge) = ours {
        let detail = "the body is larger than the route takes";
        return Error::new(Kind::BodyTooLarge, detail);
    }
    // The only thing of ours that hyper's client runs is the body, which fails when the client does.
    let (kind, detail) = if error.is_user() && is_malformed(&error) {
        (Kind::BadRequest, "the request's chunks are malformed")
    } else if error.is_user() {
        (Kind::ClientBroken, "the request's body broke off")
    } else {
        (
            Kind::UpstreamBroken,
            "no response to a request that was sent",
        )
    };
    Error::new(kind, detail).because(error)
}

/// Whether a body broke off because of what was in it, and not because its sender is gone.
fn is_malformed(error: &hyper::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return matches!(
                error.kind(),
                io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData
            );
        }
        cause = error.source();
    }
    false
}
