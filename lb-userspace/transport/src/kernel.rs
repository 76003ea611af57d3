//! Listeners on the host's own TCP.
//!
//! One listener per worker on the same address (`SO_REUSEPORT`): the kernel spreads connections over them,
//! and workers share nothing. Options are set once on the listening socket; Linux copies them to each
//! accepted one (`tcp_create_openreq_child` clones the listener), which saves system calls per connection.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};

use crate::Accepted;

/// Length of the accept queue. The kernel caps it at `net.core.somaxconn`, whose default is this number too.
const BACKLOG: i32 = 4096;

/// A silent peer is probed after this time, then every [`KEEPALIVE_INTERVAL`], and given up after
/// [`KEEPALIVE_PROBES`]: two minutes in all.
const KEEPALIVE_IDLE: Duration = Duration::from_mins(1);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 6;

/// How long to wait when the process is out of file descriptors or memory. Only closing connections helps,
/// and without the wait `accept` would spin: the connection stays in the queue.
const OUT_OF_RESOURCES_PAUSE: Duration = Duration::from_millis(100);

/// A listening kernel socket.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    local: SocketAddr,
}

impl Listener {
    /// Binds and listens. Needs a tokio runtime with I/O on this thread.
    ///
    /// # Errors
    /// `AddrInUse` if a socket without `SO_REUSEPORT` (or of another user) has the address,
    /// `AddrNotAvailable` if it is no address of this host.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        Self::accepting(open(address)?)
    }

    /// Accepts from a socket that [`open`] has made, perhaps in another process. Needs a tokio runtime with I/O on this thread.
    ///
    /// # Errors
    /// If the runtime can't watch it.
    pub fn accepting(socket: std::net::TcpListener) -> io::Result<Self> {
        let socket = TcpListener::from_std(socket)?;
        let local = socket.local_addr()?;
        Ok(Self { socket, local })
    }
}

/// A socket that listens, for [`Listener::accepting`].
///
/// # Errors
/// As [`Listener::bind`].
pub fn open(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // A restarted daemon must not wait for the TIME_WAITs of its predecessor.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if address.is_ipv6() {
        // `[::]:443` must not take IPv4 as well: services name each address that they want.
        socket.set_only_v6(true)?;
    }
    socket.set_tcp_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// For options that only some users want; accepted sockets inherit them.
impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl crate::Listener for Listener {
    type Stream = TcpStream;

    async fn accept(&mut self) -> io::Result<Accepted<TcpStream>> {
        loop {
            let error = match self.socket.accept().await {
                Ok((stream, peer)) => {
                    // On a wildcard listener only the connection knows its own address.
                    let local = stream.local_addr().unwrap_or(self.local);
                    return Ok(Accepted {
                        stream,
                        peer,
                        local,
                        mover: None,
                    });
                }
                Err(error) => error,
            };
            match verdict(&error) {
                Verdict::NextClient => {}
                Verdict::Pause => {
                    tracing::warn!(local = %self.local, %error, "accept: out of resources, waiting");
                    tokio::time::sleep(OUT_OF_RESOURCES_PAUSE).await;
                }
                Verdict::Fatal => return Err(error),
            }
        }
    }

    fn local_addr(&self) -> SocketAddr {
        self.local
    }
}

/// What an error of accept(2) means for the listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    NextClient,
    Pause,
    Fatal,
}

/// accept(2), "Error handling": Linux passes errors of the new connection to the caller, and they are
/// to be treated like `EAGAIN`.
fn verdict(error: &io::Error) -> Verdict {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    const ENOBUFS: i32 = 105;
    const ENOMEM: i32 = 12;
    if let Some(EMFILE | ENFILE | ENOBUFS | ENOMEM) = error.raw_os_error() {
        return Verdict::Pause;
    }
    match error.kind() {
        io::ErrorKind::ConnectionAborted
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionRefused
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::NetworkDown
        | io::ErrorKind::PermissionDenied
        | io::ErrorKind::TimedOut
        | io::ErrorKind::Interrupted => Verdict::NextClient,
        _ => Verdict::Fatal,
    }
}

#[cfg(test)]
mod tests {
    use socket2::SockRef;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::Listener as _;

    #[tokio::test]
    async fn two_listeners_share_an_address_and_serve_streams() {
        let mut first = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let mut second = Listener::bind(first.local_addr()).unwrap();
        let client = TcpStream::connect(first.local_addr()).await.unwrap();
        let accepted = tokio::select! {
            accepted = first.accept() => accepted.unwrap(),
            accepted = second.accept() => accepted.unwrap(),
        };
        assert_eq!(accepted.peer, client.local_addr().unwrap());
        assert_eq!(accepted.local, first.local_addr());

        let (mut client, mut server) = (client, accepted.stream);
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut question = Vec::new();
        server.read_to_end(&mut question).await.unwrap();
        assert_eq!(question, b"question");
        server.write_all(b"answer").await.unwrap();
        drop(server);
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"answer");
    }

    #[tokio::test]
    async fn accepted_sockets_inherit_the_options() {
        let mut listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let _client = TcpStream::connect(listener.local_addr()).await.unwrap();
        let accepted = listener.accept().await.unwrap();
        let socket = SockRef::from(&accepted.stream);
        assert!(socket.tcp_nodelay().unwrap());
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE_IDLE);
    }

    #[test]
    fn errors_of_one_client_do_not_stop_the_listener() {
        let check = |errno, expected| {
            assert_eq!(
                verdict(&io::Error::from_raw_os_error(errno)),
                expected,
                "{errno}"
            );
        };
        check(103, Verdict::NextClient); // ECONNABORTED
        check(113, Verdict::NextClient); // EHOSTUNREACH
        check(24, Verdict::Pause); // EMFILE
        check(105, Verdict::Pause); // ENOBUFS
        check(22, Verdict::Fatal); // EINVAL: not listening
        check(9, Verdict::Fatal); // EBADF
    }
}
