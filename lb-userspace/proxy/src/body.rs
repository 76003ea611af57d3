//! Bodies on their way through: one frame at a time, never collected.
//!
//! Invariant: at most one frame is in flight between the two connections of an exchange, so memory doesn't grow with
//! a body and back pressure reaches the sender. The end of each body, orderly or not, is told once.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Method;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::carriage::Meter;
use crate::client_io::Shared;
use crate::error::{Error, Kind};
use crate::headers::BodyPresence;
use crate::record::Record;
use crate::service::BodyLimits;
use crate::upstream::Lease;

/// Bytes that hyper reads at once at most, and queues for writing. A body may be in three such places at once: read, handed over
/// and queued, on its way in either direction; so an exchange holds less than a mebibyte. A head must fit in it as
/// well: the largest Kerberos ticket of Windows (`MaxTokenSize`, 65,535 bytes) takes 87,380 in base64.
pub(crate) const BUFFER: usize = 128 << 10;

/// A client's body on its way to a server. If dropped before its end, the rest is left to [`Leftover`].
///
/// [`Leftover`]: crate::leftover::Leftover
#[derive(Debug)]
pub(crate) struct RequestBody {
    /// `None` once it is at its end, or was from the start.
    incoming: Option<Incoming>,
    shared: Rc<Shared>,
    /// Bytes that may still come.
    room: u64,
    /// Whether to ask the gate before each read.
    is_held: bool,
    meter: Meter,
}

/// Why a client's body broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// The client did.
    #[error(transparent)]
    Broken(#[from] hyper::Error),
    /// It is larger than the route takes.
    #[error("the body is larger than the route takes")]
    TooLarge,
}

impl RequestBody {
    pub(crate) fn new(incoming: Incoming, shared: Rc<Shared>) -> Self {
        let mut body = Self {
            incoming: Some(incoming),
            shared,
            room: u64::MAX,
            is_held: false,
            meter: Meter::default(),
        };
        if body.is_end_stream() {
            body.done();
        }
        body
    }

    /// Whether there is anything of it.
    pub(crate) fn presence(&self) -> BodyPresence {
        if self.is_end_stream() {
            BodyPresence::Absent
        } else {
            BodyPresence::Present
        }
    }

    /// Holds the body, which will be forwarded, to the limits of its route.
    pub(crate) fn limit(&mut self, limits: &BodyLimits, method: &Method) -> Result<(), Error> {
        if self.is_end_stream() {
            return Ok(());
        }
        self.room = limits.max.unwrap_or(u64::MAX);
        self.shared.pace.start(limits.rate, method);
        if self.size_hint().lower() > self.room {
            let detail = "the body is larger than the route takes, says its length";
            return Err(Error::new(Kind::BodyTooLarge, detail));
        }
        self.meter = self.shared.freight.upload(method, &self.size_hint());
        Ok(())
    }

    /// Leaves the body unread until the gate lets it go.
    pub(crate) fn hold(&mut self) {
        self.is_held = true;
    }

    fn done(&mut self) {
        self.incoming = None;
        self.shared.pace.done();
        self.shared.activity.request_done(Instant::now());
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.is_held {
            ready!(self.shared.gate.poll_released(cx));
            self.is_held = false;
            self.shared.activity.request_wanted();
        }
        let Some(incoming) = &mut self.incoming else {
            return Poll::Ready(None);
        };
        let Poll::Ready(frame) = Pin::new(incoming).poll_frame(cx) else {
            if !self.shared.gate.holds_back() {
                self.shared.pace.waits(Instant::now());
            }
            return Poll::Pending;
        };
        // A server may take trailers for headers, which would get around the header policy (RFC 9110 section 6.5.1).
        let frame = frame.filter(|frame| !matches!(frame, Ok(frame) if frame.is_trailers()));
        let frame = frame.map(|frame| frame.map_err(BodyError::from));
        if let Some(data) = frame.iter().flatten().find_map(Frame::data_ref) {
            self.shared.body_in(data.len());
            self.meter.pass(data.len());
            self.shared.pace.passed_on();
            let Some(room) = self.room.checked_sub(data.len() as u64) else {
                return Poll::Ready(Some(Err(BodyError::TooLarge)));
            };
            self.room = room;
        }
        if !matches!(frame, Some(Ok(_))) || self.is_end_stream() {
            self.done();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let ended = || SizeHint::with_exact(0);
        self.incoming.as_ref().map_or_else(ended, Body::size_hint)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if let Some(rest) = self.incoming.take() {
            self.shared.pace.done();
            self.shared.leftover.put(rest);
        }
    }
}

/// What a client gets.
#[derive(Debug)]
pub(crate) enum ResponseBody {
    /// A server's body.
    Relayed(Relayed),
    /// Our own.
    Own(Own),
    /// None, because the connection is no longer HTTP.
    Tunnel,
}

/// A server's body on its way to a client.
#[derive(Debug)]
pub(crate) struct Relayed {
    incoming: Incoming,
    /// The connection that the body comes on, unless the session holds it.
    lease: Option<Lease>,
    meter: Meter,
    end: End,
}

/// A body of ours.
#[derive(Debug)]
pub(crate) struct Own {
    text: Full<Bytes>,
    _end: End,
}

/// The end of a response, however it comes about: dropping it tells the clock, and drops the record.
#[derive(Debug)]
struct End {
    shared: Rc<Shared>,
    record: Record,
}

impl Drop for End {
    fn drop(&mut self) {
        self.shared.response_done();
    }
}

impl ResponseBody {
    pub(crate) fn relayed(
        incoming: Incoming,
        lease: Option<Lease>,
        shared: Rc<Shared>,
        record: Record,
    ) -> Self {
        let size = incoming.size_hint();
        let meter = shared.freight.response(record.method(), &size);
        let end = End { shared, record };
        let mut relayed = Relayed {
            incoming,
            lease,
            meter,
            end,
        };
        if relayed.incoming.is_end_stream() {
            relayed.complete();
        }
        Self::Relayed(relayed)
    }

    pub(crate) fn own(text: impl Into<Bytes>, shared: Rc<Shared>, mut record: Record) -> Self {
        record.complete = true;
        let text = Full::from(text.into());
        shared.freight.response(record.method(), &text.size_hint());
        Self::Own(Own {
            text,
            _end: End { shared, record },
        })
    }
}

impl Relayed {
    fn complete(&mut self) {
        self.end.record.complete = true;
        let request_done = self.end.shared.activity.is_request_done();
        // A server that answers before it has all of the request may never read the rest as what it is (CL.0).
        if let Some(lease) = self.lease.take().filter(|_| request_done) {
            lease.end();
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut *self {
            Self::Tunnel => Poll::Ready(None),
            Self::Own(own) => Pin::new(&mut own.text)
                .poll_frame(cx)
                .map_err(|never| match never {}),
            Self::Relayed(relayed) => {
                let frame = ready!(Pin::new(&mut relayed.incoming).poll_frame(cx));
                if let Some(data) = frame.iter().flatten().find_map(Frame::data_ref) {
                    relayed.end.record.body_bytes += data.len() as u64;
                    relayed.end.shared.body_out();
                    relayed.meter.pass(data.len());
                }
                if matches!(frame, Some(Err(_))) {
                    relayed.end.record.failed(Kind::UpstreamBroken);
                } else if frame.is_none() || relayed.incoming.is_end_stream() {
                    relayed.complete();
                }
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Tunnel => true,
            Self::Own(own) => own.text.is_end_stream(),
            Self::Relayed(relayed) => relayed.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Tunnel => SizeHint::with_exact(0),
            Self::Own(own) => own.text.size_hint(),
            Self::Relayed(relayed) => relayed.incoming.size_hint(),
        }
    }
}
