//! The rest of a request body that no server wants: read and thrown away, within bounds.
//!
//! Without this hyper would close the connection as soon as an unfinished body is dropped, and the kernel would answer
//! the client's next bytes with a reset, which may overtake the response. .NET sends the body after a 401 only to keep
//! the connection; it gets to keep it. Invariant: at most [`LIMIT`] bytes per body are discarded, within the idle
//! timeout; beyond that the body is dropped and hyper closes the connection after the response.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use http_body::Body;
use hyper::body::Incoming;

/// Bytes of one body; a body larger than this costs more to read than a new connection does.
const LIMIT: usize = 1 << 20;

/// At most one body: a client connection has one request at a time.
#[derive(Debug, Default)]
pub(crate) struct Leftover {
    body: RefCell<Option<Incoming>>,
    discarded: Cell<usize>,
    waker: RefCell<Option<Waker>>,
}

impl Leftover {
    /// Takes over a body that is not at its end.
    pub(crate) fn put(&self, body: Incoming) {
        self.discarded.set(0);
        self.body.replace(Some(body));
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Discards what there is. Ready when a body is at its end or given up; pending if there is none.
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.waker.replace(Some(cx.waker().clone()));
        let mut slot = self.body.borrow_mut();
        let Some(body) = slot.as_mut() else {
            return Poll::Pending;
        };
        while let Some(Ok(frame)) = ready!(Pin::new(&mut *body).poll_frame(cx)) {
            let size = frame.data_ref().map_or(0, bytes::Bytes::len);
            self.discarded.set(self.discarded.get() + size);
            if self.discarded.get() > LIMIT || body.is_end_stream() {
                break;
            }
        }
        *slot = None;
        Poll::Ready(())
    }
}
