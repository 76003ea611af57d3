//! One request: made fit for the server, sent on the right connection, its response made fit for the client.
//!
//! The rule of which connection: the client's own if it has one; a fresh one of its own if the request carries a
//! credential that authenticates connections; else one that never carried any. A request is sent a second time only
//! if none of it was sent the first time, and never if it is pinned.

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use http::header::{CONNECTION, CONTENT_TYPE, TRANSFER_ENCODING};
use http::{HeaderValue, Request, Response, StatusCode, Version, request};
use http_body::Body;
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};

use crate::body::{RequestBody, ResponseBody};
use crate::connection::Session;
use crate::error::{Error, Kind};
use crate::headers::{self, BodyPresence};
use crate::identity::{self, PinReason};
use crate::record::Record;
use crate::upstream::{Lease, Sent, connect};

/// Answers `request`; an error closes the client's connection without an answer.
pub(crate) async fn forward(
    session: Rc<Session>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Error> {
    session.shared.activity.request_head();
    session.proxy.service.counters.requests.increment();
    let (head, incoming) = request.into_parts();
    let mut record = Record::new(&session.proxy.service, session.client, &head);
    let body = RequestBody::new(incoming, Rc::clone(&session.shared));
    match exchange(&session, head, body, &mut record).await {
        Ok((response, lease)) => Ok(relay(&session, response, lease, record)),
        Err(error) => refuse(&session, error, record),
    }
}

/// Gets the head of a server's response. The lease is that of the connection it came on, unless that is pinned.
async fn exchange(
    session: &Session,
    mut head: request::Parts,
    body: RequestBody,
    record: &mut Record,
) -> Result<(Response<Incoming>, Option<Lease>), Error> {
    let credential = PinReason::of_request(&head.headers);
    let received = head.version;
    session
        .proxy
        .service
        .headers
        .apply(&mut head, session.client)?;
    record.outgoing(&head.headers);
    frame(&mut head, &body);
    let mut request = Request::from_parts(head, body);
    expect(session, &mut request, received, record).await;

    if !session.is_pinned() {
        let Some(reason) = credential else {
            let (response, lease) = send_shared(session, request, record).await?;
            return Ok((response, Some(lease)));
        };
        let lease = obtain(session, Freshness::Fresh, &mut Vec::new()).await?;
        session.pin(lease, reason);
    }
    let response = send_pinned(session, request, record).await?;
    Ok((response, None))
}

/// hyper doesn't send a body of unknown length with GET and HEAD unless told to; it came chunked, so it goes chunked.
fn frame(head: &mut request::Parts, body: &RequestBody) {
    if !body.is_end_stream() && body.size_hint().exact().is_none() {
        let chunked = HeaderValue::from_static("chunked");
        head.headers.insert(TRANSFER_ENCODING, chunked);
    }
}

/// Sees to it that the server's `100 Continue` reaches a client that waits for it.
async fn expect(
    session: &Session,
    request: &mut Request<RequestBody>,
    received: Version,
    record: &mut Record,
) {
    let body = if request.body().is_end_stream() {
        BodyPresence::Absent
    } else {
        BodyPresence::Present
    };
    if !headers::expects_continue(request.headers_mut(), received, body) {
        return;
    }
    record.expect = Some("forwarded");
    session.shared.arm_gate().await;
    let gate = Arc::clone(&session.shared.gate);
    let counters = Arc::clone(&session.proxy.service.counters);
    hyper::ext::on_informational(request, move |response| {
        if response.status() == StatusCode::CONTINUE && gate.open() {
            counters.continues_relayed.increment();
        }
    });
}

/// Sends on the client's own connection, once.
async fn send_pinned(
    session: &Session,
    request: Request<RequestBody>,
    record: &mut Record,
) -> Result<Response<Incoming>, Error> {
    let lost = || {
        Error::new(
            Kind::IdentityLost,
            "the client's upstream connection is gone",
        )
    };
    session.pinned_ready().await.ok_or_else(lost)?;
    let sending = session.with_pinned(|pinned, reason| {
        record.upstream = Some((Arc::clone(pinned.server()), pinned.id()));
        record.pinned = Some(reason);
        pinned.send(request)
    });
    match response_head(session, sending.ok_or_else(lost)?).await {
        Ok(response) => Ok(response),
        // Nothing was sent, but another connection would not have the client's identity.
        Err(Failure::Unsent(_)) => Err(lost()),
        Err(Failure::Failed(error)) => Err(error),
    }
}

/// Sends on a connection without identity; on another one if nothing was sent.
async fn send_shared(
    session: &Session,
    mut request: Request<RequestBody>,
    record: &mut Record,
) -> Result<(Response<Incoming>, Lease), Error> {
    let mut tried = Vec::new();
    loop {
        let mut lease = obtain(session, Freshness::Any, &mut tried).await?;
        record.upstream = Some((Arc::clone(lease.clean().server()), lease.clean().id()));
        let sending = lease.clean().send(request);
        match response_head(session, sending).await {
            Ok(response) => return Ok((response, lease)),
            Err(Failure::Failed(error)) => return Err(error),
            Err(Failure::Unsent(unsent)) => {
                // A kept connection may have been closed meanwhile; a new one that takes nothing is a bad server.
                if lease.is_fresh() {
                    tried.push(lease.index());
                }
                request = *unsent;
            }
        }
    }
}

/// Whether a connection may have carried other clients' requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Freshness {
    Any,
    Fresh,
}

/// A connection to the server whose turn it is. Servers that can't be connected to are added to `tried`.
async fn obtain(
    session: &Session,
    freshness: Freshness,
    tried: &mut Vec<usize>,
) -> Result<Lease, Error> {
    let proxy = &session.proxy;
    let mut failure = None;
    while let Some((index, server)) = proxy.balancer.pick(tried) {
        if freshness == Freshness::Any
            && let Some(lease) = proxy.pool.take(index)
        {
            proxy.service.counters.pool_reused.increment();
            return Ok(lease);
        }
        match connect(&proxy.service, server).await {
            Ok(clean) => return Ok(proxy.pool.lease(clean, index)),
            Err(error) => {
                tracing::debug!(target: "lb::upstream", service = proxy.service.name, %error);
                tried.push(index);
                failure = Some(error);
            }
        }
    }
    Err(failure.unwrap_or_else(|| match tried.len() {
        0 => Error::new(Kind::NoServer, "no server is up"),
        _ => Error::new(Kind::Connect, "no server took the request"),
    }))
}

/// Why there is no response.
enum Failure {
    /// None of the request was sent.
    Unsent(Box<Request<RequestBody>>),
    /// Some of it may have been.
    Failed(Error),
}

/// Waits for the head of a response, for as long as the service's settings allow after the end of the request.
async fn response_head(
    session: &Session,
    sending: impl Future<Output = Sent>,
) -> Result<Response<Incoming>, Failure> {
    let limit = session.proxy.service.timeouts.response_head;
    let activity = &session.shared.activity;
    let mut sending = pin!(sending);
    loop {
        let since = activity.request_done_since().unwrap_or_else(Instant::now);
        match timeout_at(since + limit, sending.as_mut()).await {
            Ok(Ok(response)) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                let detail = "101 to a request that asked for no upgrade";
                return Err(Failure::Failed(Error::new(Kind::UpstreamBroken, detail)));
            }
            Ok(Ok(response)) => return Ok(response),
            Ok(Err(mut failed)) => {
                return Err(match failed.take_message() {
                    Some(request) => Failure::Unsent(Box::new(request)),
                    None => Failure::Failed(blame(failed.into_error())),
                });
            }
            // While the request is still on its way, the idle timeout watches.
            Err(_elapsed) if activity.request_done_since() != Some(since) => {}
            Err(_elapsed) => {
                let detail = format!("no response head within {limit:?}");
                return Err(Failure::Failed(Error::new(Kind::ResponseTimeout, detail)));
            }
        }
    }
}

fn blame(error: hyper::Error) -> Error {
    // The only thing of ours that hyper's client runs is the body, which fails when the client does.
    let (kind, detail) = if error.is_user() {
        (Kind::ClientBroken, "the request's body broke off")
    } else {
        (
            Kind::UpstreamBroken,
            "no response to a request that was sent",
        )
    };
    Error::new(kind, detail).because(error)
}

/// Makes the server's response the client's.
fn relay(
    session: &Session,
    response: Response<Incoming>,
    lease: Option<Lease>,
    mut record: Record,
) -> Response<ResponseBody> {
    session.shared.activity.response_head();
    let (mut head, incoming) = response.into_parts();
    let persistent = identity::persistent_auth(&head.headers);
    session.proxy.note_persistent_auth(persistent);
    record.response(&head.headers, persistent);
    record.answered(head.status);

    let lease = match (lease, PinReason::of_response(head.status, &head.headers)) {
        (Some(lease), Some(reason)) => {
            session.pin(lease, reason);
            record.pinned = Some(reason);
            None
        }
        (lease, _) => lease,
    };
    let upstream_closes = headers::closes(head.version, &head.headers);
    headers::clean_response(&mut head.headers);
    if session.is_pinned() && (upstream_closes || !session.pinned_server_is_up()) {
        // The identity ends with the connection, so the client must not believe that it still has one.
        let close = HeaderValue::from_static("close");
        head.headers.insert(CONNECTION, close);
    }
    head.version = Version::HTTP_11;
    let body = ResponseBody::relayed(incoming, lease, Rc::clone(&session.shared), record);
    Response::from_parts(head, body)
}

/// Answers in the server's place, or not at all.
fn refuse(
    session: &Session,
    error: Error,
    mut record: Record,
) -> Result<Response<ResponseBody>, Error> {
    let kind = error.kind();
    record.failed(kind);
    let service = &session.proxy.service.name;
    tracing::debug!(target: "lb::refused", service, client = %session.client.peer, %error);
    let Some(status) = kind.status() else {
        return Err(error);
    };
    record.answered(status);
    let shared = Rc::clone(&session.shared);
    shared.activity.response_head();
    let mut response = Response::new(ResponseBody::own(kind.explanation(), shared, record));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    if session.is_pinned() {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}
