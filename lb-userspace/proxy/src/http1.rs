//! HTTP/1.1 with one client: hyper while there is something to do, and the bare stream while there isn't.
//!
//! hyper keeps two buffers of 8 KB and its state for as long as it has a connection. A client that is quiet is at rest:
//! what waits for its next byte then is a stream and nothing else.
//!
//! Invariant: a stream is taken from hyper only between two requests, when hyper is seen to read for a head of which
//! nothing has come: one that is about to close reads no more. Whatever ends the rest (a byte, the client's end, an error,
//! the order to drain) is hyper's to deal with, which has the stream back by then. So a rest changes nothing but memory.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{HttpService, Service};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use crate::body::{BUFFER, ResponseBody};
use crate::client_io::ClientIo;
use crate::error::Error;
use crate::session::Session;

/// A client that has sent again sooner than this isn't quiet, and rests only after as long a silence: to set hyper up
/// for each of its requests would cost more than the memory is worth.
const QUIET: Duration = Duration::from_secs(1);

/// A client's connection, by `S`, and what answers its requests, `V`.
pub(crate) struct Http1<S, V: HttpService<Incoming>> {
    session: Rc<Session>,
    service: V,
    /// `None` only while one becomes the other.
    state: Option<State<S, V>>,
    /// Whether to rest as soon as there is nothing to do.
    is_quiet: bool,
    /// Whether hyper was told to come to an end, which a rest would make it forget.
    is_ending: bool,
}

/// Whether a connection is between two requests.
pub(crate) enum Between {
    Yes,
    No,
    /// It has just ended.
    Over(hyper::Result<()>),
}

enum State<S, V: HttpService<Incoming>> {
    /// Since then; `None` if nothing came before.
    Resting(ClientIo<S>, Option<Instant>),
    Serving(Box<http1::Connection<TokioIo<ClientIo<S>>, V>>),
}

impl<S, V> Http1<S, V>
where
    S: AsyncRead + AsyncWrite + Unpin,
    V: Service<Request<Incoming>, Response = Response<ResponseBody>, Error = Error> + Clone,
{
    /// A new connection, of which nothing was read yet.
    pub(crate) fn new(io: ClientIo<S>, session: Rc<Session>, service: V) -> Self {
        Self {
            session,
            service,
            state: Some(State::Resting(io, None)),
            is_quiet: true,
            is_ending: false,
        }
    }

    /// Serves requests until the connection ends.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        loop {
            let served = match &mut self.state {
                None => return Poll::Pending,
                Some(State::Resting(io, _)) => {
                    ready!(io.poll_news(cx));
                    self.wake();
                    continue;
                }
                Some(State::Serving(served)) => served,
            };
            if let Poll::Ready(outcome) = Pin::new(&mut **served).poll(cx) {
                return Poll::Ready(outcome);
            }
            let shared = &self.session.shared;
            let may_rest = || self.is_quiet && !self.is_ending && shared.is_idle();
            if !may_rest() {
                return Poll::Pending;
            }
            shared.take_dry();
            if let Poll::Ready(outcome) = Pin::new(&mut **served).poll(cx) {
                return Poll::Ready(outcome);
            }
            if !shared.take_dry() || !may_rest() {
                return Poll::Pending;
            }
            self.rest();
        }
    }

    /// Whether the connection can be taken from hyper now, between two requests.
    pub(crate) fn between(&mut self, cx: &mut Context<'_>) -> Between {
        if self.is_ending {
            return Between::No;
        }
        if let Some(State::Serving(served)) = &mut self.state {
            // As before a rest: hyper reads for a head, and so isn't about to close.
            self.session.shared.take_dry();
            if let Poll::Ready(outcome) = Pin::new(&mut **served).poll(cx) {
                return Between::Over(outcome);
            }
            if !self.session.shared.take_dry() {
                return Between::No;
            }
        }
        if self.session.shared.is_between() {
            Between::Yes
        } else {
            Between::No
        }
    }

    /// When it is quiet, if nothing happens until then; `None` while something does, and once it is.
    pub(crate) fn rests_at(&self) -> Option<Instant> {
        let activity = &self.session.shared.activity;
        (!self.is_quiet && !self.is_ending && activity.is_idle())
            .then(|| activity.last_byte() + QUIET)
    }

    /// It is quiet, and rests from the next poll on unless that finds something to do.
    pub(crate) fn let_rest(&mut self) {
        self.is_quiet = true;
    }

    /// Finishes the request under way and closes.
    pub(crate) fn graceful_shutdown(&mut self) {
        self.is_ending = true;
        self.wake();
        if let Some(State::Serving(served)) = &mut self.state {
            Pin::new(&mut **served).graceful_shutdown();
        }
    }

    /// The stream, and what was read of it that isn't HTTP, once it has become a tunnel, or that is of the next head.
    pub(crate) fn into_parts(self) -> Option<(ClientIo<S>, Bytes)> {
        match self.state? {
            State::Resting(io, _) => Some((io, Bytes::new())),
            State::Serving(served) => {
                let parts = served.into_parts();
                Some((parts.io.into_inner(), parts.read_buf))
            }
        }
    }

    fn wake(&mut self) {
        self.state = self.state.take().map(|state| match state {
            State::Resting(io, since) => {
                self.is_quiet = since.is_none_or(|since| since.elapsed() >= QUIET);
                let builder = builder(&self.session);
                let served = builder.serve_connection(TokioIo::new(io), self.service.clone());
                State::Serving(Box::new(served))
            }
            serving @ State::Serving(_) => serving,
        });
    }

    fn rest(&mut self) {
        self.state = self.state.take().map(|state| match state {
            State::Serving(served) => {
                let parts = served.into_parts();
                let mut io = parts.io.into_inner();
                io.unread(parts.read_buf);
                State::Resting(io, Some(Instant::now()))
            }
            resting @ State::Resting(..) => resting,
        });
    }
}

fn builder(session: &Session) -> http1::Builder {
    let service = &session.proxy.service;
    let mut builder = http1::Builder::new();
    if let Some(limit) = service.max_headers {
        builder.max_headers(limit);
    }
    if let Some(limit) = service.max_header_bytes {
        builder.max_header_size(limit);
    }
    builder
        .max_buf_size(BUFFER)
        .preserve_header_case(true)
        // For headers that we add; those of the server keep their case.
        .title_case_headers(true)
        // A response without `Date` is the server's decision.
        .auto_date_header(false)
        // It would also run between requests; `activity` keeps the time instead.
        .header_read_timeout(None);
    builder
}
