//! A connection that has moved: a socket of the kernel's, and what the engine had left over.
//!
//! Invariant: bytes that the engine had received come before all that the socket gives, and bytes that it had taken before all that is
//! written. Once both are used up a call here is the socket's, and nothing else.
//!
//! Deliberately not here: how a socket gets here (`moving`), and whose the packets between its ends are (`residence`).

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// A connection on the kernel.
pub(super) struct Landed {
    /// Shared with the task that sends the backlog, while there is one.
    socket: Rc<TcpStream>,
    unread: Unread,
    /// Sends what the engine had taken and the socket had no room for.
    backlog: Option<JoinHandle<io::Result<()>>>,
    /// How the backlog failed: the socket has told that already, to the task.
    failure: Option<io::ErrorKind>,
}

impl Landed {
    /// `unread` is what the engine had received, `unsent` what it had taken.
    pub(super) fn new(socket: TcpStream, unread: Vec<u8>, unsent: Vec<u8>) -> Self {
        let socket = Rc::new(socket);
        let backlog = (!unsent.is_empty())
            .then(|| tokio::task::spawn_local(write_all(Rc::clone(&socket), unsent)));
        Self {
            socket,
            unread: Unread {
                bytes: unread,
                read: 0,
            },
            backlog,
            failure: None,
        }
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Another descriptor of the socket, and what was not read yet; none if not all that was taken has left for it. This one is
    /// to be dropped: the connection is somebody else's.
    pub(super) fn pass(&mut self) -> Option<(OwnedFd, Vec<u8>)> {
        if self.backlog.as_ref().is_some_and(|it| !it.is_finished()) || self.failure.is_some() {
            return None;
        }
        let socket = self.socket.as_fd().try_clone_to_owned().ok()?;
        Some((socket, self.unread.take()))
    }

    pub(super) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.unread.is_empty() {
            self.unread.read(buffer);
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let result = ready!(match Rc::get_mut(&mut self.socket) {
            Some(socket) => Pin::new(socket).poll_read(context, buffer),
            None => poll_read_shared(&self.socket, context, buffer),
        });
        let is_end = result.is_err() || buffer.filled().len() == before;
        if is_end && let Some(kind) = self.backlog_failure(context) {
            // The socket says how it broke but once; a broken connection must not look finished.
            return Poll::Ready(Err(kind.into()));
        }
        Poll::Ready(result)
    }

    pub(super) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_backlog(context))?;
        match Rc::get_mut(&mut self.socket) {
            Some(socket) => match bytes {
                [one] => Pin::new(socket).poll_write(context, one),
                _ => Pin::new(socket).poll_write_vectored(context, bytes),
            },
            // Only the backlog shares it.
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    pub(super) fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_backlog(context))?;
        match Rc::get_mut(&mut self.socket) {
            Some(socket) => Pin::new(socket).poll_shutdown(context),
            None => Poll::Ready(Ok(())),
        }
    }

    /// Ready when what the engine had taken is the socket's.
    fn poll_backlog(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(backlog) = &mut self.backlog {
            let ended = ready!(Pin::new(backlog).poll(context));
            self.backlog = None;
            let result = ended.unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()));
            self.failure = result.err().map(|error| error.kind());
        }
        Poll::Ready(self.failure.map_or(Ok(()), |kind| Err(kind.into())))
    }

    /// How the backlog failed, if it has. Doesn't take the place of a writer that waits for it.
    fn backlog_failure(&mut self, context: &mut Context<'_>) -> Option<io::ErrorKind> {
        if self.backlog.as_ref().is_some_and(JoinHandle::is_finished) {
            let _ = self.poll_backlog(context);
        }
        self.failure
    }
}

/// Closes as close(2) does, which knows of what the socket holds: with RST if received bytes were left unread (RFC 2525 §2.17),
/// else behind the backlog.
impl Drop for Landed {
    fn drop(&mut self) {
        if self.unread.is_empty() {
            return;
        }
        if let Some(backlog) = &self.backlog {
            backlog.abort();
        }
        // Best effort: without it the peer gets a FIN.
        let _ = SockRef::from(&*self.socket).set_linger(Some(Duration::ZERO));
    }
}

/// Bytes that the engine had received.
#[derive(Debug, Default)]
struct Unread {
    bytes: Vec<u8>,
    read: usize,
}

impl Unread {
    fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn take(&mut self) -> Vec<u8> {
        let Self { bytes, read } = std::mem::take(self);
        bytes.get(read..).unwrap_or_default().to_vec()
    }

    fn read(&mut self, buffer: &mut ReadBuf<'_>) {
        let rest = self.bytes.get(self.read..).unwrap_or_default();
        let count = rest.len().min(buffer.remaining());
        buffer.put_slice(rest.get(..count).unwrap_or_default());
        self.read += count;
        if self.read == self.bytes.len() {
            self.bytes = Vec::new();
        }
    }
}

/// As `TcpStream::poll_read`, which wants the socket alone.
fn poll_read_shared(
    socket: &TcpStream,
    context: &mut Context<'_>,
    buffer: &mut ReadBuf<'_>,
) -> Poll<io::Result<()>> {
    loop {
        ready!(socket.poll_read_ready(context))?;
        match socket.try_read(buffer.initialize_unfilled()) {
            Ok(count) => {
                buffer.advance(count);
                return Poll::Ready(Ok(()));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Poll::Ready(Err(error)),
        }
    }
}

/// A task of its own: whoever wrote these bytes was told that they are written, and may never come back.
async fn write_all(socket: Rc<TcpStream>, bytes: Vec<u8>) -> io::Result<()> {
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        socket.writable().await?;
        match socket.try_write(rest) {
            Ok(count) => rest = rest.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
