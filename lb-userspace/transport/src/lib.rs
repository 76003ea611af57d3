//! Byte streams for L7 services, over two kinds of transport with one face.
//!
//! * [`kernel`]: sockets of the host's TCP, one `SO_REUSEPORT` listener per worker;
//! * [`af_xdp`]: TCP in this process over `AF_XDP` frames, one engine per worker.
//!
//! What is above (TLS, HTTP) is generic over [`Listener`] and can't tell which it has. Everything belongs to
//! one worker thread with a `LocalRuntime` (or a `LocalSet`): nothing here is `Send`, nothing locks.
//!
//! Deliberately not here: the choice between the two, XDP programs and maps, upstream connections (these
//! are always kernel sockets, made by `lb-proxy`), TLS.

pub mod af_xdp;
pub mod kernel;
mod mover;
mod steering;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use tokio::io::{AsyncRead, AsyncWrite};

pub use mover::{Mover, Place, Why};
pub use steering::Steering;

/// Waits for clients on one address.
pub trait Listener {
    /// A connection: reads end with 0 after the client's FIN, and fail with `ConnectionReset` after its
    /// RST; `shutdown` sends our FIN and leaves the other direction open.
    type Stream: AsyncRead + AsyncWrite + IntoSocket + Unpin + 'static;

    /// The next established connection. Cancel-safe: dropping the future loses none.
    ///
    /// # Errors
    /// Only what makes this listener useless; passing trouble (a client that gave up, no file descriptors
    /// left for a moment) is handled inside.
    fn accept(&mut self) -> impl Future<Output = io::Result<Accepted<Self::Stream>>>;

    /// Address that clients connect to.
    fn local_addr(&self) -> SocketAddr;
}

/// A stream that may be no more than a socket of the host's TCP, with which another process can go on.
pub trait IntoSocket: Sized {
    /// The socket, and what was read from it and not yet from the stream; the stream as it was, if there is more to it.
    ///
    /// # Errors
    /// The stream.
    fn into_socket(self) -> Result<(OwnedFd, Vec<u8>), Self>;
}

impl IntoSocket for tokio::net::TcpStream {
    fn into_socket(self) -> Result<(OwnedFd, Vec<u8>), Self> {
        // Another descriptor of the same socket: to take this one from the runtime can fail halfway.
        match self.as_fd().try_clone_to_owned() {
            Ok(socket) => Ok((socket, Vec::new())),
            Err(_out_of_descriptors) => Err(self),
        }
    }
}

/// A connection and its two ends.
#[derive(Debug)]
pub struct Accepted<S> {
    /// The connection.
    pub stream: S,
    /// The client.
    pub peer: SocketAddr,
    /// Address that the client connected to.
    pub local: SocketAddr,
    /// Moves it to the kernel; none if it is there already, or if its engine can't.
    pub mover: Option<Mover>,
}
