//! The engine's connections and listeners as tokio sees them.
//!
//! All of them point into one `Core`; each call borrows it, does its part and lets go before it returns. A connection that has moved no longer
//! touches it: its calls go to the socket.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::core::Core;
use super::residence::{Carrier, Residence};
use crate::{Accepted, IntoSocket};

/// A TCP connection of an [`Engine`](super::Engine), or one that was and has moved to the kernel: see [`Mover`](crate::Mover).
///
/// * Reads end with 0 after the peer's FIN, and fail with `ConnectionReset` or `TimedOut` if it broke.
/// * A write is done when the bytes are in the send buffer, from where the engine sends them; `flush` waits for
///   nothing more, as with a kernel socket.
/// * `shutdown` sends FIN behind what is written; reading goes on. A write after it is a `BrokenPipe`.
/// * Dropped, the connection is closed in the background: with RST if received bytes were left unread,
///   else in the regular way.
/// * After [`Mover::ask`](crate::Mover::ask) a write waits until the engine has decided, which it does in its next turn.
pub struct Stream {
    core: Rc<RefCell<Core>>,
    home: Rc<Residence>,
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
        match &mut *self.home.carrier() {
            Carrier::Engine(id) => {
                let mut core = self.core.borrow_mut();
                // Only as much is initialised as will be written: hyper offers 8 KiB and more, mostly to find nothing.
                let count = core.readable(id).clamp(1, buffer.remaining());
                let room = buffer.initialize_unfilled_to(count);
                core.poll_read(id, room, context)
                    .map_ok(|count| buffer.advance(count))
            }
            Carrier::Kernel(tenancy) => tenancy.landed.poll_read(context, buffer),
            Carrier::Failed(kind) => Poll::Ready(Err((*kind).into())),
            Carrier::Over => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if bytes.iter().all(|slice| slice.is_empty()) {
            return Poll::Ready(Ok(0));
        }
        match &mut *self.home.carrier() {
            Carrier::Engine(id) if self.home.is_asked() => {
                self.core.borrow_mut().wait_to_write(id, context);
                Poll::Pending
            }
            Carrier::Engine(id) => self.core.borrow_mut().poll_write(id, bytes, context),
            Carrier::Kernel(tenancy) => tenancy.landed.poll_write(context, bytes),
            Carrier::Failed(kind) => Poll::Ready(Err((*kind).into())),
            Carrier::Over => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    /// Both carriers gather, so it is the same before and after a move: who writes asks but once.
    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self.home.carrier() {
            Carrier::Engine(id) => {
                self.core.borrow_mut().shutdown(id);
                Poll::Ready(Ok(()))
            }
            Carrier::Kernel(tenancy) => tenancy.landed.poll_shutdown(context),
            Carrier::Failed(_) | Carrier::Over => Poll::Ready(Ok(())),
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        match self.home.leave() {
            Carrier::Engine(id) => self.core.borrow_mut().release(id),
            // Dropped, a socket closes.
            Carrier::Kernel(_) | Carrier::Failed(_) | Carrier::Over => {}
        }
    }
}

/// One that has moved is a socket; one of an engine is none.
impl IntoSocket for Stream {
    fn into_socket(self) -> Result<(OwnedFd, Vec<u8>), Self> {
        let passed = match &mut *self.home.carrier() {
            Carrier::Kernel(tenancy) => tenancy.pass(),
            Carrier::Engine(_) | Carrier::Failed(_) | Carrier::Over => None,
        };
        passed.ok_or(self)
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
        let (home, mover) = self.core.borrow_mut().house(id);
        let stream = Stream {
            core: Rc::clone(&self.core),
            home,
        };
        Ok(Accepted {
            stream,
            peer: key.remote,
            local: key.local,
            mover,
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
