//! The client's byte stream, as hyper sees it: tells [`Activity`] of every byte, and lets [`Gate`] hold back hyper's
//! `100 Continue`.
//!
//! It also keeps the end of what the client sends from hyper while a response is on its way, for hyper would give that
//! up: a client that has asked for all that it wants may close its sending side and read on (RFC 9293 section 3.6). Before
//! the response's head it counts as the client being gone (`Proxy::serve` says why).
//!
//! Invariant: bytes are never changed or reordered here, nor buffered, but for what ends a rest; the only bytes that hyper
//! writes and the client does not get, or gets later, are the ones that the gate catches.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::activity::Activity;
use crate::admission::Pace;
use crate::alarm::Alarm;
use crate::carriage::Freight;
use crate::expect::{CONTINUE, Fate, Gate};
use crate::leftover::Leftover;
use crate::parting::{Parted, Parting};
use crate::service::{ClientAddr, ClientTimeouts};

/// What the stream and the requests on it know in common.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Of the service, until a request was forwarded.
    pub(crate) timeouts: Cell<ClientTimeouts>,
    /// Whether this is one of several exchanges on a connection, whose bytes are seen in its bodies alone.
    is_stream: bool,
    pub(crate) activity: Activity,
    pub(crate) gate: Arc<Gate>,
    pub(crate) leftover: Leftover,
    pub(crate) pace: Pace,
    /// How long the head of a response is awaited.
    pub(crate) patience: RefCell<Alarm>,
    /// Of the connection, also on one of its streams.
    pub(crate) freight: Freight,
    /// Whether the connection may be given back between two requests.
    pub(crate) may_part: Cell<bool>,
    is_flushed: Cell<bool>,
    /// Whether the last read found nothing.
    is_dry: Cell<bool>,
    awaits_flush: RefCell<Option<Waker>>,
    /// Whoever is to learn of the client's end when the response is through.
    awaits_end: RefCell<Option<Waker>>,
}

impl Shared {
    /// Of a connection that carries one exchange at a time.
    pub(crate) fn new(timeouts: ClientTimeouts, freight: Freight) -> Rc<Self> {
        Self::of(timeouts, freight, false)
    }

    /// Of a stream of a connection that carries several.
    pub(crate) fn of_stream(timeouts: ClientTimeouts, freight: Freight) -> Rc<Self> {
        Self::of(timeouts, freight, true)
    }

    fn of(timeouts: ClientTimeouts, freight: Freight, is_stream: bool) -> Rc<Self> {
        Rc::new(Self {
            timeouts: Cell::new(timeouts),
            is_stream,
            activity: Activity::new(Instant::now()),
            gate: Arc::default(),
            leftover: Leftover::default(),
            pace: Pace::default(),
            patience: RefCell::default(),
            freight,
            may_part: Cell::new(false),
            is_flushed: Cell::new(true),
            is_dry: Cell::new(false),
            awaits_flush: RefCell::default(),
            awaits_end: RefCell::default(),
        })
    }

    /// Says how a connection begins: new, or resumed between two requests.
    pub(crate) fn begin(&self, parting: Parting, is_new: bool) {
        self.may_part.set(parting == Parting::BetweenRequests);
        if !is_new {
            self.activity.resumed();
        }
    }

    /// A response was handed over to its end, or nobody will hand on.
    pub(crate) fn response_done(&self) {
        self.activity.response_done();
        self.tell_end();
    }

    /// Whether hyper would give up a response if it knew of the client's end.
    fn keeps_end(&self) -> bool {
        self.activity.only_responds() || (self.activity.is_between() && !self.is_flushed.get())
    }

    fn tell_end(&self) {
        if let Some(waker) = self.awaits_end.take() {
            waker.wake();
        }
    }

    /// Whether no exchange is under way, and nothing that hyper was given is still to be written; the next head may have begun.
    pub(crate) fn is_between(&self) -> bool {
        self.activity.is_between() && self.is_flushed.get()
    }

    /// Whether nothing is under way: the client has every response, and has sent nothing since.
    pub(crate) fn is_idle(&self) -> bool {
        self.activity.is_idle() && self.is_flushed.get()
    }

    /// Whether there was a read since the last call, and nothing to read.
    pub(crate) fn take_dry(&self) -> bool {
        self.is_dry.take()
    }

    /// Whether this is one of several exchanges on a connection.
    pub(crate) fn is_stream(&self) -> bool {
        self.is_stream
    }

    /// Bytes of a request's body are passed on.
    pub(crate) fn body_in(&self, bytes: usize) {
        if self.is_stream {
            let now = Instant::now();
            self.activity.received(now);
            self.pace.received(now, bytes);
        }
    }

    /// Bytes of a response's body are passed on.
    pub(crate) fn body_out(&self) {
        if self.is_stream {
            self.activity.sent(Instant::now());
        }
    }

    /// Waits until the previous response has left hyper's buffer, so that the next bytes written are hyper's
    /// `100 Continue` or the head of this request's response.
    pub(crate) async fn flushed(&self) {
        std::future::poll_fn(|cx| {
            if self.is_flushed.get() {
                return Poll::Ready(());
            }
            self.awaits_flush.replace(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}

/// The wrapped stream.
pub(crate) struct ClientIo<S> {
    stream: S,
    shared: Rc<Shared>,
    /// The client sends nothing more.
    has_ended: bool,
    /// What ended a rest, for the next read.
    news: Option<io::Result<Bytes>>,
}

/// Bytes that end a rest and are kept for the next read; what is more stays in the stream. Most heads fit.
const NEWS: usize = 4 << 10;

impl<S: AsyncRead + AsyncWrite + Unpin> ClientIo<S> {
    pub(crate) fn new(stream: S, shared: Rc<Shared>) -> Self {
        Self {
            stream,
            shared,
            has_ended: false,
            news: None,
        }
    }

    /// Gives the stream back, of which hyper has read so much more than it needed.
    pub(crate) fn part(self, read: &[u8], client: ClientAddr) -> Parted<S> {
        // An error of the stream comes again.
        let news = self.news.and_then(Result::ok).unwrap_or_default();
        Parted {
            stream: self.stream,
            early: Bytes::from([read, &news].concat()),
            client,
        }
    }

    /// Waits, without a buffer, until there is something to read: bytes, the end, or an error.
    pub(crate) fn poll_news(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.news.is_none() {
            let mut space = [MaybeUninit::uninit(); NEWS];
            let mut space = ReadBuf::uninit(&mut space);
            let outcome = ready!(Pin::new(&mut *self).poll_read(cx, &mut space));
            self.news = Some(outcome.map(|()| Bytes::copy_from_slice(space.filled())));
        }
        Poll::Ready(())
    }

    /// Takes back bytes that were read and not used.
    pub(crate) fn unread(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.shared.activity.received(Instant::now());
            self.news = Some(Ok(bytes));
        }
    }

    /// Hands out what ended a rest; whether there was anything.
    fn tell_news(&mut self, buf: &mut ReadBuf<'_>) -> io::Result<bool> {
        let Some(mut news) = self.news.take().transpose()? else {
            return Ok(false);
        };
        let count = news.len().min(buf.remaining());
        buf.put_slice(&news.split_to(count));
        if news.has_remaining() {
            self.news = Some(Ok(news));
        }
        Ok(count > 0)
    }

    /// Writes what is due of a `100 Continue`; afterwards none is.
    fn poll_continue(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(bytes) = self.shared.gate.due(cx.waker()) {
            let count = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.shared.activity.sent(Instant::now());
            if self.shared.gate.wrote(count) {
                // A flush that isn't done is taken up again by hyper's next one.
                let _ = Pin::new(&mut self.stream).poll_flush(cx)?;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Before each write: what is due comes first, then the gate decides over `bytes`.
    fn poll_admit(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<Fate>> {
        ready!(self.poll_continue(cx))?;
        self.shared.is_flushed.set(false);
        Poll::Ready(Ok(self.shared.gate.judge(bytes)))
    }

    fn wrote(&self, outcome: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if matches!(outcome, Poll::Ready(Ok(1..))) {
            self.shared.activity.sent(Instant::now());
        }
        outcome
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for ClientIo<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // hyper reads while it waits for the body, and so this is where a 100 from the server wakes us. A client
        // that doesn't take the line is still read from.
        let _ = self.poll_continue(cx)?;
        if self.tell_news(buf)? {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        if !self.has_ended {
            let read = Pin::new(&mut self.stream).poll_read(cx, buf);
            self.shared.is_dry.set(read.is_pending());
            ready!(read)?;
        }
        let count = buf.filled().len() - before;
        if count > 0 {
            let now = Instant::now();
            self.shared.activity.received(now);
            self.shared.pace.received(now, count);
            return Poll::Ready(Ok(()));
        }
        self.has_ended = buf.remaining() > 0;
        if self.has_ended && self.shared.keeps_end() {
            self.shared.awaits_end.replace(Some(cx.waker().clone()));
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for ClientIo<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match ready!(self.poll_admit(cx, buf))? {
            Fate::Catch => Poll::Ready(Ok(CONTINUE.len())),
            Fate::Pass => {
                let outcome = Pin::new(&mut self.stream).poll_write(cx, buf);
                self.wrote(outcome)
            }
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first: &[u8] = bufs.iter().find(|buf| !buf.is_empty()).map_or(&[], |b| b);
        match ready!(self.poll_admit(cx, first))? {
            Fate::Catch => Poll::Ready(Ok(CONTINUE.len())),
            Fate::Pass => {
                let outcome = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
                self.wrote(outcome)
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_continue(cx))?;
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.shared.is_flushed.set(true);
        self.shared.tell_end();
        if let Some(waker) = self.shared.awaits_flush.take() {
            waker.wake();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
