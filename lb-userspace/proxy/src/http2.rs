//! HTTP/2 towards clients (RFC 9113), of services in which no server authenticates connections.
//!
//! A stream is an exchange with a [`Session`] of its own; the server gets it in HTTP/1.1, on a connection that is shared as
//! usual. Invariant: no stream ever has an upstream connection of its own. A client's other streams would not be on it,
//! and so whoever logs in on one would be a stranger on the next. A request with a credential that authenticates
//! connections is refused with `HTTP_1_1_REQUIRED`, as IIS does, and clients repeat it in HTTP/1.1; a connection on which
//! a server offers or confirms such a login is not used again.
//! Not here: what a request goes through once it reads like one of HTTP/1.1 ([`crate::forward`]).

mod translate;

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::carriage::Freight;
use crate::client_certificate::Shown;
use crate::client_io::{ClientIo, Shared};
use crate::connection::Proxy;
use crate::error::{Error, Kind};
use crate::forward::forward;
use crate::parting::Order;
use crate::service::ClientAddr;
use crate::session::Session;

pub(crate) use translate::to_http1;

/// What a client names in ALPN.
pub(crate) const ALPN: &[u8] = b"h2";

/// Streams of a connection at once; as many as RFC 9113 section 6.5.2 advises at least.
const STREAMS: u32 = 100;

/// Bytes of a response that wait for the client, of each stream.
const SEND_BUFFER: usize = 64 << 10;

/// A client that vanished is noticed after this long, also while a server takes its time.
const PING_INTERVAL: Duration = Duration::from_mins(1);
const PING_TIMEOUT: Duration = Duration::from_secs(30);

/// How late the end of a stream's time is noticed.
const LOOK: Duration = Duration::from_secs(1);

/// Serves one client connection until it ends, as [`Proxy::serve`].
pub(crate) async fn serve<S>(
    proxy: Rc<Proxy>,
    stream: S,
    client: ClientAddr,
    shown: Shown,
    freight: Freight,
) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let shared = Shared::new(proxy.service.timeouts, freight);
    let io = TokioIo::new(ClientIo::new(stream, Rc::clone(&shared)));
    let mut builder = http2::Builder::new(LocalExecutor);
    builder
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .max_concurrent_streams(STREAMS)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    if let Some(limit) = proxy.service.max_header_bytes {
        builder.max_header_list_size(u32::try_from(limit).unwrap_or(u32::MAX));
    }
    // GOAWAY is no surprise to a client, and so leaving needs nothing else than stopping does.
    let mut ear = proxy.listen();
    let streams = Rc::new(Streams {
        proxy: Rc::clone(&proxy),
        client,
        shown,
        shared,
        open: RefCell::default(),
    });
    let opened = Rc::clone(&streams);
    let connection = builder.serve_connection(
        io,
        service_fn(move |request| {
            let session = opened.open();
            async move { forward(session, request).await.map_err(reset) }
        }),
    );

    let mut connection = pin!(connection);
    let mut stopping = false;
    let mut alarm = pin!(sleep_until(Instant::now() + LOOK));
    poll_fn(|cx| {
        loop {
            if let Poll::Ready(outcome) = connection.as_mut().poll(cx) {
                return Poll::Ready(outcome.map_err(|error| {
                    let detail = "the client broke off or sent what isn't HTTP/2";
                    Error::new(Kind::ClientBroken, detail).because(error)
                }));
            }
            if stopping || ear.hear(cx) < Order::Leave {
                break;
            }
            stopping = true;
            connection.as_mut().graceful_shutdown();
        }
        streams.poll_time(cx, alarm.as_mut()).map(Err)
    })
    .await
}

/// The code that a stream is reset with whose request gets no answer (RFC 9113 section 7).
fn reset(error: Error) -> Error {
    let reason = match error.kind() {
        Kind::NeedsHttp1 => h2::Reason::HTTP_1_1_REQUIRED,
        Kind::RateDropped => h2::Reason::ENHANCE_YOUR_CALM,
        _ => h2::Reason::INTERNAL_ERROR,
    };
    error.because(h2::Error::from(reason))
}

/// The streams of one connection.
#[derive(Debug)]
struct Streams {
    proxy: Rc<Proxy>,
    client: ClientAddr,
    shown: Shown,
    /// Of the connection.
    shared: Rc<Shared>,
    open: RefCell<Vec<Weak<Shared>>>,
}

impl Streams {
    /// A new stream's session.
    fn open(&self) -> Rc<Session> {
        // The connection as a whole awaits no head from now on; silence is all that ends it.
        self.shared.activity.skip_exchange();
        let freight = self.shared.freight.clone();
        let shared = Shared::of_stream(self.proxy.service.timeouts, freight);
        let mut open = self.open.borrow_mut();
        open.retain(|stream| stream.strong_count() > 0);
        open.push(Rc::downgrade(&shared));
        Session::new(
            Rc::clone(&self.proxy),
            self.client,
            self.shown.clone(),
            shared,
        )
    }

    /// Ready with the reason when the time of the connection or of one of its streams is up. hyper gives no way to end a
    /// stream whose client takes nothing, and so the connection ends with it.
    fn poll_time(&self, cx: &mut Context<'_>, mut alarm: Pin<&mut Sleep>) -> Poll<Error> {
        loop {
            let now = Instant::now();
            if !self.open.borrow().is_empty() && now + LOOK < alarm.deadline() {
                alarm.as_mut().reset(now + LOOK);
            }
            ready!(alarm.as_mut().poll(cx));
            let next = match self.deadline() {
                Some((at, kind)) if at <= now => {
                    return Poll::Ready(Error::new(kind, "the client's time is up"));
                }
                Some((at, _)) => at,
                None => now + LOOK,
            };
            alarm.as_mut().reset(next);
        }
    }

    /// The earliest of the streams; if there are none, of the connection. `None` while all of them await a server.
    fn deadline(&self) -> Option<(Instant, Kind)> {
        let mut open = self.open.borrow_mut();
        open.retain(|stream| stream.strong_count() > 0);
        if open.is_empty() {
            return self.shared.activity.deadline(&self.shared.timeouts.get());
        }
        let streams = open.iter().filter_map(Weak::upgrade);
        let deadlines = streams.flat_map(|stream| {
            let of_body = stream.pace.deadline(Waker::noop());
            [
                stream.activity.deadline(&stream.timeouts.get()),
                of_body.map(|deadline| (deadline, Kind::SlowBody)),
            ]
        });
        deadlines.flatten().min_by_key(|(at, _)| *at)
    }
}

/// Streams are tasks of the worker that their connection belongs to.
#[derive(Clone, Copy, Debug)]
struct LocalExecutor;

impl<F> hyper::rt::Executor<F> for LocalExecutor
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}
