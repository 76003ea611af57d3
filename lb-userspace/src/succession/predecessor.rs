//! The new daemon's side: asks the one that runs to hand over, takes what it has, and then the clients that it gives away.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncWriteExt as _, Interest};
use tokio::net::UnixStream;

use super::channel::{self, Channel, Letter, Way};
use super::message::{ClientEnds, Gift, KnownServer, Wish};
use super::{PATH, PIN_HEADER, PROTOCOL};

/// The daemon that runs, and has agreed to hand over.
#[derive(Debug)]
pub(crate) struct Predecessor {
    channel: Channel,
    lock: File,
}

/// What a daemon leaves.
#[derive(Debug, Default)]
pub(crate) struct Estate {
    /// Sockets that listen on services' addresses.
    pub(crate) listeners: Vec<(SocketAddr, TcpListener)>,
    /// The one that listens for questions; always there if there was a predecessor.
    pub(crate) admin: Option<UnixListener>,
    /// What is known of servers.
    pub(crate) servers: Vec<KnownServer>,
    /// Daemons that left before, and still have clients to give away.
    pub(crate) leavers: Vec<Leaver>,
}

/// A daemon that gives away its clients.
#[derive(Debug)]
pub(crate) struct Leaver(Channel);

/// A client that another daemon has given away, with its socket.
#[derive(Debug)]
pub(crate) struct Adopted {
    /// Whose connection it is.
    pub(crate) ends: ClientEnds,
    /// What was read of its next request.
    pub(crate) early: Vec<u8>,
    /// The connection.
    pub(crate) socket: std::net::TcpStream,
}

impl Predecessor {
    /// Asks whoever answers on the admin socket to hand over; `None` if nobody does.
    pub(crate) async fn ask(admin: &Path, pin: &Path) -> anyhow::Result<Option<Self>> {
        let stream = match UnixStream::connect(admin).await {
            Ok(stream) => stream,
            Err(error) if is_nobody(&error) => return Ok(None),
            Err(error) => return Err(error).context("connecting to it"),
        };
        let other = stream.peer_cred()?.uid();
        let own = nix::unistd::geteuid().as_raw();
        ensure!(
            other == own || other == 0,
            "it runs as user {other}, and this one as {own}"
        );
        let mut stream = upgrade(stream, pin).await?;
        // Now nobody reads from the stream but us; what comes next has a descriptor, which a plain read would throw away.
        stream.write_all(GO).await?;
        let receive = || channel::receive(stream.as_fd(), &mut [0]);
        let (_, socket) = stream.async_io(Interest::READABLE, receive).await?;
        let channel = Channel::new(Way::of(socket.context("it gave no channel")?))?;
        let lock = match expect(&channel).await? {
            Letter {
                message: Gift::Lock,
                descriptor: Some(lock),
                ..
            } => File::from(lock),
            other => bail!("expected its lock, got {:?}", other.message),
        };
        Ok(Some(Self { channel, lock }))
    }

    /// The open directory of pins, with its lock.
    pub(crate) fn lock(&self) -> io::Result<File> {
        self.lock.try_clone()
    }

    /// Has it make room, and takes what it has. From here on it waits for [`ready`](Self::ready), with a silent control loop.
    pub(crate) async fn vacate(&self) -> anyhow::Result<Estate> {
        self.channel.send(&Wish::Vacate, b"", None).await?;
        let mut estate = Estate::default();
        loop {
            let letter = expect(&self.channel).await?;
            let descriptor = letter.descriptor.context("a gift without its descriptor");
            match letter.message {
                Gift::Listener(address) => {
                    estate.listeners.push((address, descriptor?.into()));
                }
                Gift::Admin => estate.admin = Some(descriptor?.into()),
                Gift::Leaver => {
                    let channel = Channel::new(Way::of(descriptor?))?;
                    estate.leavers.push(Leaver(channel));
                }
                Gift::Server(server) => estate.servers.push(server),
                Gift::Vacant => break,
                Gift::Failed(why) => bail!("it can't hand over: {why}"),
                Gift::Lock | Gift::Client(_) => bail!("it gave what was not asked for"),
            }
        }
        ensure!(estate.admin.is_some(), "it kept its admin socket");
        Ok(estate)
    }

    /// Tells it to leave; it gives away its clients from now on.
    pub(crate) async fn ready(self) -> anyhow::Result<Leaver> {
        self.channel.send(&Wish::Ready, b"", None).await?;
        Ok(Leaver(self.channel))
    }
}

impl Leaver {
    /// The next client that is given away; `None` when all are.
    pub(crate) async fn next(&self) -> io::Result<Option<Adopted>> {
        let Some(letter) = self.0.receive::<Gift>().await? else {
            return Ok(None);
        };
        match (letter.message, letter.descriptor) {
            (Gift::Client(ends), Some(socket)) => Ok(Some(Adopted {
                ends,
                early: letter.tail,
                socket: socket.into(),
            })),
            (other, _) => Err(io::Error::other(format!(
                "expected a client, got {other:?}"
            ))),
        }
    }

    /// Its channel, for the next daemon.
    pub(super) fn way(&self) -> BorrowedFd<'_> {
        self.0.end()
    }
}

/// Sent when the stream is no longer HTTP's.
pub(super) const GO: &[u8] = b"G";

/// Nobody listens, or nobody has ever.
fn is_nobody(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}

/// Makes something else than HTTP of a connection to the admin socket.
async fn upgrade(stream: UnixStream, pin: &Path) -> anyhow::Result<UnixStream> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection.with_upgrades());
    let request = Request::get(PATH)
        .header(header::HOST, "lb")
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, PROTOCOL)
        .header(PIN_HEADER, pin.as_os_str().as_encoded_bytes())
        .body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let status = response.status();
        let text = response.into_body().collect().await?.to_bytes();
        bail!("{status}: {}", String::from_utf8_lossy(&text).trim_end());
    }
    let upgraded = hyper::upgrade::on(response).await?;
    let parts = upgraded
        .downcast::<TokioIo<UnixStream>>()
        .map_err(|_| anyhow::anyhow!("the connection became something else"))?;
    ensure!(parts.read_buf.is_empty(), "it spoke before it was asked");
    Ok(parts.io.into_inner())
}

async fn expect(channel: &Channel) -> anyhow::Result<Letter<Gift>> {
    let letter = channel.receive().await?;
    letter.context("it ended, or gave up, before the hand-over was done")
}
