//! The engine's connections and listeners as tokio sees them.
//!
//! All of them point into one `Core`; each call borrows it, does its part and lets go before it returns.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use lb_tcp::FlowId;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::core::Core;
use crate::Accepted;

/// A TCP connection of an [`Engine`](super::Engine).
///
/// * Reads end with 0 after the peer's FIN, and fail with `ConnectionReset` or `TimedOut` if it broke.
/// * A write is done when the bytes are in the send buffer, from where the engine sends them; `flush` waits for
///   nothing more, as with a kernel socket.
/// * `shutdown` sends FIN behind what is written; reading goes on. A write after it is a `BrokenPipe`.
/// * Dropped, the connection is closed in the background: with RST if received bytes were left unread,
///   else in the regular way.
pub struct Stream {
    core: Rc<RefCell<Core>>,
    /// There until the stream is dropped, which gives it back.
    id: Option<FlowId>,
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let Some(id) = &self.id else {
            return Poll::Ready(Ok(()));
        };
        let mut core = self.core.borrow_mut();
        // Only as much is initialised as will be written: hyper offers 8 KiB and more, mostly to find nothing.
        let count = core.readable(id).clamp(1, buffer.remaining());
        let room = buffer.initialize_unfilled_to(count);
        core.poll_read(id, room, context).map_ok(|count| {
            buffer.advance(count);
        })
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let Some(id) = &self.id else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        self.core.borrow_mut().poll_write(id, bytes, context)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(id) = &self.id {
            self.core.borrow_mut().shutdown(id);
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            self.core.borrow_mut().release(id);
        }
    }
}

/// A listening address of an [`Engine`](super::Engine). Dropped, the address is no longer listened on, and
/// connections that were not accepted are reset.
pub struct Listener {
    core: Rc<RefCell<Core>>,
    address: SocketAddr,
}

impl Listener {
    pub(super) fn new(core: Rc<RefCell<Core>>, address: SocketAddr) -> io::Result<Self> {
        // Flows are found by address and port alone; IPv6 flow labels and scopes are no part of them.
        let address = SocketAddr::new(address.ip(), address.port());
        core.borrow_mut().listen(address)?;
        Ok(Self { core, address })
    }
}

impl crate::Listener for Listener {
    type Stream = Stream;

    async fn accept(&mut self) -> io::Result<Accepted<Stream>> {
        let (id, key) =
            poll_fn(|context| self.core.borrow_mut().poll_accept(self.address, context)).await;
        let stream = Stream {
            core: Rc::clone(&self.core),
            id: Some(id),
        };
        Ok(Accepted {
            stream,
            peer: key.remote,
            local: key.local,
        })
    }

    fn local_addr(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.core.borrow_mut().unlisten(self.address);
    }
}
