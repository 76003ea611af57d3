//! The trace of one request: what was decided and why, in one `tracing` event at its end.
//!
//! Target `lb::request`, level debug. Invariant: one event per request whose head was read, however it ends. Never
//! in it: tokens, cookies, query strings, or the value of any header that a client sent.

use std::sync::Arc;

use http::header::VIA;
use http::{HeaderMap, StatusCode, request};
use http::{Method, Uri};

use crate::admission::Admitted;
use crate::balance::Server;
use crate::carriage::Bulk;
use crate::error::Kind;
use crate::identity::{Leg, PersistentAuth, PinReason};
use crate::service::{ClientAddr, Service};

/// What is known so far; emitted when dropped.
#[derive(Debug)]
pub(crate) struct Record {
    service: Arc<Service>,
    client: ClientAddr,
    method: Method,
    target: Uri,
    /// Position of the route in its service.
    pub(crate) route: Option<usize>,
    via_in: bool,
    request_leg: Option<Leg>,
    /// Whether the server got a `Via`.
    pub(crate) via_out: bool,
    pub(crate) expect: Option<&'static str>,
    pub(crate) upstream: Option<(Arc<Server>, u64)>,
    pub(crate) pinned: Option<PinReason>,
    response_leg: Option<Leg>,
    persistent_auth: Option<PersistentAuth>,
    status: Option<StatusCode>,
    error: Option<Kind>,
    pub(crate) body_bytes: u64,
    pub(crate) complete: bool,
    /// What made the connection bulk by the end of this request, so that it may have moved.
    pub(crate) bulk: Option<Bulk>,
    /// Of the service, and of the route.
    pub(crate) admitted: [Admitted; 2],
}

impl Record {
    /// Of a request as it came from the client.
    pub(crate) fn new(service: &Arc<Service>, client: ClientAddr, head: &request::Parts) -> Self {
        Self {
            service: Arc::clone(service),
            client,
            method: head.method.clone(),
            target: head.uri.clone(),
            route: None,
            via_in: head.headers.contains_key(VIA),
            request_leg: Leg::of_request(&head.headers),
            via_out: false,
            expect: None,
            upstream: None,
            pinned: None,
            response_leg: None,
            persistent_auth: None,
            status: None,
            error: None,
            body_bytes: 0,
            complete: false,
            bulk: None,
            admitted: Default::default(),
        }
    }

    /// What the client's request does.
    pub(crate) fn method(&self) -> &Method {
        &self.method
    }

    /// The headers that a server gets.
    pub(crate) fn outgoing(&mut self, headers: &HeaderMap) {
        self.via_out = headers.contains_key(VIA);
    }

    /// The response as it came from a server.
    pub(crate) fn response(&mut self, headers: &HeaderMap, persistent: Option<PersistentAuth>) {
        self.response_leg = Leg::of_response(headers);
        self.persistent_auth = persistent;
    }

    /// The status that the client gets.
    pub(crate) fn answered(&mut self, status: StatusCode) {
        self.service.counters.count_response(status);
        self.status = Some(status);
    }

    /// The connection was a tunnel until now.
    pub(crate) fn tunnelled(&mut self, received: u64, sent: u64) {
        self.service.counters.tunnel_bytes_received.add(received);
        self.service.counters.tunnel_bytes_sent.add(sent);
        self.body_bytes = sent;
        self.complete = true;
    }

    /// The request or its response failed.
    pub(crate) fn failed(&mut self, kind: Kind) {
        self.service.counters.count_error(kind);
        self.error = Some(kind);
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let (server, connection) = match &self.upstream {
            Some((server, id)) => (Some(server.name()), Some(*id)),
            None => (None, None),
        };
        let route = self.route.and_then(|route| self.service.routes.get(route));
        tracing::debug!(
            target: "lb::request",
            service = self.service.name,
            route = route.map(|route| route.name.as_str()),
            client = %self.client.peer,
            method = %self.method,
            path = self.target.path(),
            server,
            connection,
            pinned = self.pinned.map(tracing::field::display),
            request_leg = self.request_leg.map(tracing::field::display),
            response_leg = self.response_leg.map(tracing::field::display),
            persistent_auth = self.persistent_auth.map(tracing::field::display),
            via_in = self.via_in,
            via_out = self.via_out,
            expect = self.expect,
            status = self.status.map(|status| status.as_u16()),
            error = self.error.map(tracing::field::display),
            body_bytes = self.body_bytes,
            complete = self.complete,
            bulk = self.bulk.map(Bulk::name),
        );
    }
}
