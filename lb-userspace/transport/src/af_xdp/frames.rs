//! Where frames come from and go to: `AF_XDP` sockets in the product, a wire in memory in tests.
//!
//! Generic, not `dyn`: these calls are made for every packet.

use std::io;
use std::ops::{Deref, DerefMut};
use std::task::{Context, Poll, ready};

use lb_xsk::{Cut, Flushed};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Received frames.
pub trait Receive {
    /// A frame from its Ethernet header on, owned until dropped.
    type Packet<'a>: Deref<Target = [u8]>
    where
        Self: 'a;

    /// The next received frame.
    fn receive(&mut self) -> Option<Self::Packet<'_>>;

    /// Shows the next frames, `count` at most, and leaves them where they are.
    fn look_ahead(&mut self, count: usize, see: impl FnMut(&[u8]));
}

/// Frames to send.
pub trait Transmit {
    /// A frame to write into.
    type Slot<'a>: Slot
    where
        Self: 'a;

    /// Frames that can be reserved now.
    fn room(&mut self) -> usize;

    /// A frame of exactly `len` bytes. `None` without room, or if no frame is that long.
    fn reserve(&mut self, len: usize) -> Option<Self::Slot<'_>>;
}

/// A reserved frame; dropped unsent, it costs nothing.
pub trait Slot: DerefMut<Target = [u8]> {
    /// Queues the frame until the next [`Frames::flush`].
    fn send(self);
}

/// Both directions of one interface queue.
pub trait Frames {
    /// Receiving half.
    type Rx: Receive;
    /// Sending half.
    type Tx: Transmit;

    /// Both halves, so that an answer can be written while the question is still in its frame.
    fn split(&mut self) -> (&mut Self::Rx, &mut Self::Tx);

    /// Sends what is queued and gives received frames back.
    fn flush(&mut self) -> io::Result<Flushed>;

    /// Whether [`send_cut`](Self::send_cut) has a way.
    fn cuts(&self) -> bool {
        false
    }

    /// Sends a frame that is too large for the wire, for somebody to cut it: the headers in `head`, with a partial
    /// checksum, then `payload`. If it is [`Flushed::Later`], nothing was sent. It overtakes what was not flushed.
    ///
    /// # Errors
    /// If it will not be sent, now or later.
    fn send_cut(&mut self, head: &[u8], payload: &[u8], cut: Cut) -> io::Result<Flushed> {
        let (_, _, _) = (head, payload, cut);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Ready when frames have arrived since the last `Ready`. A caller that gets `Ready` must receive
    /// until nothing is left before it asks again: the news is told once.
    fn poll_arrival(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// An `AF_XDP` socket that wakes a tokio task.
#[derive(Debug)]
pub struct XskFrames {
    socket: AsyncFd<lb_xsk::Socket>,
}

impl XskFrames {
    /// Registers the socket with the runtime of this thread.
    #[expect(
        deprecated,
        reason = "its successor is unsafe; the contract holds: a socket keeps its descriptor until it is \
                  dropped, and is never exchanged here"
    )]
    pub(super) fn new(socket: lb_xsk::Socket) -> io::Result<Self> {
        let socket = AsyncFd::with_interest(socket, Interest::READABLE)?;
        Ok(Self { socket })
    }
}

impl Frames for XskFrames {
    type Rx = lb_xsk::Receiver;
    type Tx = lb_xsk::Transmitter;

    fn split(&mut self) -> (&mut Self::Rx, &mut Self::Tx) {
        self.socket.get_mut().split()
    }

    fn flush(&mut self) -> io::Result<Flushed> {
        self.socket.get_mut().flush()
    }

    fn cuts(&self) -> bool {
        self.socket.get_ref().cuts()
    }

    fn send_cut(&mut self, head: &[u8], payload: &[u8], cut: Cut) -> io::Result<Flushed> {
        self.socket.get_ref().send_cut(head, payload, cut)
    }

    fn poll_arrival(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Readiness is edge-triggered: cleared before the ring is drained, so that a frame that arrives
        // behind the last look raises a new edge.
        ready!(self.socket.poll_read_ready(context))?.clear_ready();
        Poll::Ready(Ok(()))
    }
}

impl Receive for lb_xsk::Receiver {
    type Packet<'a> = lb_xsk::Packet<'a>;

    fn receive(&mut self) -> Option<lb_xsk::Packet<'_>> {
        lb_xsk::Receiver::receive(self)
    }

    fn look_ahead(&mut self, count: usize, see: impl FnMut(&[u8])) {
        lb_xsk::Receiver::look_ahead(self, count, see);
    }
}

impl Transmit for lb_xsk::Transmitter {
    type Slot<'a> = lb_xsk::Slot<'a>;

    fn room(&mut self) -> usize {
        self.available()
    }

    fn reserve(&mut self, len: usize) -> Option<lb_xsk::Slot<'_>> {
        lb_xsk::Transmitter::reserve(self, len)
    }
}

impl Slot for lb_xsk::Slot<'_> {
    fn send(self) {
        lb_xsk::Slot::send(self);
    }
}
