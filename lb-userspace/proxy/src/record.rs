//! The trace of one request: what was decided and why, told once at its end: to whoever watches ([`crate::feed`]), and to the log.
//!
//! There its target is `lb::request`, its level debug. Invariant: one for each request whose head was read, however it ends. Never
//! in it: tokens, cookies, query strings, or the value of any header that a client sent.

use std::fmt::Display;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use http::header::VIA;
use http::{HeaderMap, StatusCode, request};
use http::{Method, Uri};

use crate::admission::Admitted;
use crate::balance::Server;
use crate::carriage::{Bulk, Freight};
use crate::error::Kind;
use crate::feed::Traced;
use crate::identity::{Leg, PersistentAuth, PinReason};
use crate::service::{ClientAddr, Service};

/// Target of a record in the log.
const LOG: &str = "lb::request";

/// What is known so far; told when dropped.
#[derive(Debug)]
pub(crate) struct Record {
    service: Arc<Service>,
    client: ClientAddr,
    /// When it began, and where its connection lived then, if anybody watched.
    began: Option<(Instant, Option<&'static str>)>,
    freight: Freight,
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
    /// Of the service, and of the route.
    pub(crate) admitted: [Admitted; 2],
}

impl Record {
    /// Of a request as it came from the client, over a connection that carries `freight`.
    pub(crate) fn new(
        service: &Arc<Service>,
        client: ClientAddr,
        head: &request::Parts,
        freight: &Freight,
    ) -> Self {
        let is_watched = service.feed.is_watched();
        Self {
            service: Arc::clone(service),
            client,
            began: is_watched.then(|| (Instant::now(), freight.place())),
            freight: freight.clone(),
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
        let is_watched = self.service.feed.is_watched();
        let is_logged = tracing::enabled!(target: LOG, tracing::Level::DEBUG);
        if !is_watched && !is_logged {
            return;
        }
        let traced = self.traced();
        if is_logged {
            log(&traced);
        }
        if is_watched {
            self.service.feed.tell(traced);
        }
    }
}

impl Record {
    fn traced(&self) -> Traced {
        let route = self.route.and_then(|route| self.service.routes.get(route));
        let upstream = self.upstream.as_ref();
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let millis = |since: std::time::Duration| u64::try_from(since.as_millis());
        let micros = |began: Instant| u64::try_from(began.elapsed().as_micros());
        Traced {
            // A clock that is set to before 1970, or to after the year 500 million, has other troubles.
            ended_ms: now.ok().and_then(|now| millis(now).ok()).unwrap_or(0),
            took_us: self.began.and_then(|(began, _)| micros(began).ok()),
            service: self.service.name.clone(),
            route: route.map(|route| route.name.clone()),
            client: self.client.peer,
            listen: self.client.local,
            method: self.method.to_string(),
            path: self.target.path().to_owned(),
            server: upstream.map(|(server, _)| server.name().to_owned()),
            connection: upstream.map(|(_, id)| *id),
            pinned: text(self.pinned),
            request_leg: text(self.request_leg),
            response_leg: text(self.response_leg),
            persistent_auth: text(self.persistent_auth),
            via_in: self.via_in,
            via_out: self.via_out,
            expect: text(self.expect),
            status: self.status.map(|status| status.as_u16()),
            error: text(self.error),
            body_bytes: self.body_bytes,
            complete: self.complete,
            bulk: text(self.freight.told().map(Bulk::name)),
            began_on: text(self.began.and_then(|(_, place)| place)),
            ended_on: text(self.freight.place()),
        }
    }
}

fn text(known: Option<impl Display>) -> Option<String> {
    known.map(|known| known.to_string())
}

fn log(traced: &Traced) {
    let word = |known| Option::as_deref(known).map(tracing::field::display::<&str>);
    tracing::debug!(
        target: LOG,
        service = traced.service,
        route = traced.route,
        client = %traced.client,
        method = %traced.method,
        path = traced.path,
        server = traced.server,
        connection = traced.connection,
        pinned = word(&traced.pinned),
        request_leg = word(&traced.request_leg),
        response_leg = word(&traced.response_leg),
        persistent_auth = word(&traced.persistent_auth),
        via_in = traced.via_in,
        via_out = traced.via_out,
        expect = traced.expect,
        status = traced.status,
        error = word(&traced.error),
        body_bytes = traced.body_bytes,
        complete = traced.complete,
        bulk = traced.bulk,
    );
}
