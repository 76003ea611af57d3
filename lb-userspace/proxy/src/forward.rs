//! One request: made unambiguous, given to the route that takes it, and answered.
//!
//! Not here: which route ([`crate::route`]), and the way to a server and back ([`crate::exchange`]).

use std::rc::Rc;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, request};
use hyper::body::Incoming;

use crate::body::{RequestBody, ResponseBody};
use crate::error::{Error, Kind};
use crate::exchange::Exchange;
use crate::guard;
use crate::headers;
use crate::http2;
use crate::pages::Page;
use crate::record::Record;
use crate::route::{self, Action};
use crate::service::Service;
use crate::session::Session;

/// Answers `request`; an error closes the client's connection without an answer.
pub(crate) fn forward(
    session: Rc<Session>,
    request: Request<Incoming>,
) -> impl Future<Output = Result<Response<ResponseBody>, Error>> {
    session.shared.activity.request_head();
    session.proxy.service.counters.requests.increment();
    let (head, incoming) = request.into_parts();
    let (service, freight) = (&session.proxy.service, &session.shared.freight);
    let mut record = Record::new(service, session.client, &head, freight);
    let body = RequestBody::new(incoming, Rc::clone(&session.shared));
    // What is above is done at once, so that the future has no room for the request as it came.
    async move {
        let response = match answer(&session, head, body, &mut record).await {
            Ok(Answer::Relayed(exchange, answer)) => exchange.relay(answer, record),
            Ok(Answer::Own(own)) => respond(&session, own, record),
            Err(error) => refuse(&session, error, record)?,
        };
        Ok(session.last(response))
    }
}

/// What the client gets.
enum Answer<'a> {
    /// A server's response.
    Relayed(Exchange<'a>, crate::exchange::Answer),
    /// One of ours.
    Own(Own),
}

/// A response of ours.
struct Own {
    status: StatusCode,
    location: Option<HeaderValue>,
    content_type: HeaderValue,
    text: Bytes,
    /// In seconds.
    retry_after: Option<u64>,
}

/// Of answers without a page.
const PLAIN: HeaderValue = HeaderValue::from_static("text/plain");

async fn answer<'a>(
    session: &'a Session,
    mut head: request::Parts,
    mut body: RequestBody,
    record: &mut Record,
) -> Result<Answer<'a>, Error> {
    if head.version == Version::HTTP_2 {
        http2::to_http1(&mut head, body.presence())?;
    }
    guard::check(&mut head, body.presence())?;
    let proxy = &session.proxy;
    let address = session.client.peer.ip();
    if let Some(limits) = &proxy.service.requests {
        record.admitted[0] = limits.admit(address)?;
    }
    headers::normalize(&mut head)?;
    let (position, route) =
        route::find(&proxy.service.routes, &head, session.server_name.as_deref())?;
    route.counters.requests.increment();
    record.route = Some(position);
    if head.method == Method::CONNECT && !route.action.takes_connect() {
        return Err(Error::new(Kind::Tunnel, "the route allows no CONNECT"));
    }
    match (&route.action, proxy.backends(position)) {
        (Action::Forward(route), Some(backends)) => {
            if let Some(limits) = &route.requests {
                record.admitted[1] = limits.admit(address)?;
            }
            body.limit(&route.body, &head.method)?;
            let exchange = Exchange {
                session,
                route,
                backends,
            };
            let answer = exchange.run(head, body, record).await?;
            Ok(Answer::Relayed(exchange, answer))
        }
        (Action::Forward(_), None) => Err(Error::new(Kind::NoServer, "a route without servers")),
        (Action::Redirect(redirect), _) => Ok(Answer::Own(Own {
            status: redirect.status,
            location: Some(redirect.location(&head)?),
            content_type: PLAIN,
            text: Bytes::new(),
            retry_after: None,
        })),
        (Action::Respond(respond), _) => Ok(Answer::Own(Own {
            status: respond.status,
            location: None,
            content_type: PLAIN,
            text: Bytes::copy_from_slice(respond.body.as_bytes()),
            retry_after: None,
        })),
    }
}

/// Answers in the server's place.
fn respond(session: &Session, own: Own, mut record: Record) -> Response<ResponseBody> {
    record.answered(own.status);
    let shared = Rc::clone(&session.shared);
    shared.activity.response_head();
    let is_empty = own.text.is_empty();
    let mut response = Response::new(ResponseBody::own(own.text, shared, record));
    *response.status_mut() = own.status;
    let headers = response.headers_mut();
    if !is_empty {
        headers.insert(CONTENT_TYPE, own.content_type);
    }
    if let Some(location) = own.location {
        headers.insert(LOCATION, location);
    }
    if let Some(seconds) = own.retry_after {
        headers.insert(RETRY_AFTER, seconds.into());
    }
    session.add_own_headers(headers);
    response
}

/// The page of the request's route for a status, else that of the service.
fn page(service: &Service, route: Option<usize>, status: StatusCode) -> Option<&Page> {
    let route = route.and_then(|position| service.routes.get(position));
    let own = route.and_then(|route| match &route.action {
        Action::Forward(forwarding) => forwarding.error_pages.get(status),
        Action::Redirect(_) | Action::Respond(_) => None,
    });
    own.or_else(|| service.error_pages.get(status))
}

/// Answers a request that failed, or not at all.
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
    let (content_type, text) = match page(&session.proxy.service, record.route, status) {
        Some(page) => (page.content_type.clone(), page.body.clone()),
        None => (PLAIN, Bytes::from_static(kind.explanation().as_bytes())),
    };
    let own = Own {
        status,
        location: None,
        content_type,
        text,
        retry_after: error.retry_after_seconds(),
    };
    let mut response = respond(session, own, record);
    // What follows a doubtful request may be part of it.
    let is_doubtful =
        matches!(kind, Kind::BadRequest | Kind::Tunnel) && !session.shared.is_stream();
    if is_doubtful || (session.has_pinned() && !kind.is_refusal()) {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;
    use crate::connection::Proxy;
    use crate::service::ClientAddr;

    /// hyper copies a request's future, the runtime a connection's, and each connection keeps room for both: what is seldom
    /// needed and large belongs in a box.
    #[test]
    fn futures_are_small_enough_to_be_copied() {
        fn of_request<F>(_: impl Fn(Rc<Session>, Request<Incoming>) -> F) -> usize {
            size_of::<F>()
        }
        fn of_connection<F>(_: impl Fn(Rc<Proxy>, TcpStream, ClientAddr) -> F) -> usize {
            size_of::<F>()
        }
        let sizes = (of_request(forward), of_connection(Proxy::serve));
        assert!(sizes.0 <= 4096 && sizes.1 <= 2048, "{sizes:?}");
    }
}
