//! The rest of a request body that no server wants: read and thrown away, within bounds.
//!
//! Without this hyper would close the connection as soon as an unfinished body is dropped, and the kernel would answer
//! the client's next bytes with a reset, which may overtake the response. .NET sends the body after a 401 only to keep
//! the connection; it gets to keep it. (As long as the server reads on, the body is the server's, without bounds.)
//! Invariant: at most [`LIMIT`] bytes per body are discarded, for at most [`LONGEST`]; beyond that the body is dropped
//! and hyper closes the connection after the response.

use std::cell::RefCell;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use http_body::Body;
use hyper::body::Incoming;
use tokio::time::{Sleep, sleep};

use crate::wakers::keep;

/// Bytes of one body: the largest that EWS takes (67,108,864), so that whoever may send a body may also be refused and
/// keep the connection. Discarding costs no memory.
const LIMIT: u64 = 64 << 20;

/// As long as nginx (`lingering_time`) and Apache (`MAX_SECS_TO_LINGER`) give a client that doesn't stop: what a slower one
/// has left to send costs more than a new connection.
const LONGEST: Duration = Duration::from_secs(30);

/// At most one body: a client connection has one request at a time.
#[derive(Debug, Default)]
pub(crate) struct Leftover {
    body: RefCell<Option<Rest>>,
    waker: RefCell<Option<Waker>>,
}

#[derive(Debug)]
struct Rest {
    body: Incoming,
    discarded: u64,
    limit: Pin<Box<Sleep>>,
}

impl Leftover {
    /// Takes over a body that is not at its end.
    pub(crate) fn put(&self, body: Incoming) {
        self.body.replace(Some(Rest {
            body,
            discarded: 0,
            limit: Box::pin(sleep(LONGEST)),
        }));
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Discards what there is. Ready when a body is at its end or given up; pending if there is none.
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        keep(&mut self.waker.borrow_mut(), cx.waker());
        let mut slot = self.body.borrow_mut();
        let Some(rest) = slot.as_mut() else {
            return Poll::Pending;
        };
        if rest.limit.as_mut().poll(cx).is_pending() {
            ready!(rest.poll_discard(cx));
        }
        *slot = None;
        Poll::Ready(())
    }
}

impl Rest {
    /// Ready when there is nothing more to discard, or too much.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Some(Ok(frame)) = ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            self.discarded += frame.data_ref().map_or(0, |data| data.len() as u64);
            if self.discarded > LIMIT || self.body.is_end_stream() {
                break;
            }
        }
        Poll::Ready(())
    }
}
