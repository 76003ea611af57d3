//! The old daemon's side: lets one successor in at a time, waits until it asks for room, and gives it what there is.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use super::channel::{self, Channel, Way};
use super::message::{Gift, KnownServer, Wish};
use super::predecessor::{GO, Leaver};
use super::{Listeners, PATIENCE, PIN_HEADER, PROTOCOL};

/// Where successors come in.
#[derive(Debug)]
pub(crate) struct Door {
    /// The directory of pins, and its lock; without it there is nothing to hand over.
    pins: Option<(PathBuf, File)>,
    is_taken: Cell<bool>,
    successors: mpsc::Sender<Successor>,
}

/// A daemon that has done all it can beside this one, and waits for room.
#[derive(Debug)]
pub(crate) struct Successor {
    channel: Channel,
    _place: Place,
}

/// The place of the one successor, free again when this is dropped.
#[derive(Debug)]
struct Place(Rc<Door>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.is_taken.set(false);
    }
}

impl Door {
    /// With a way to those who have come in and ask for room.
    pub(crate) fn new(pins: Option<(PathBuf, File)>) -> (Rc<Self>, mpsc::Receiver<Successor>) {
        let (successors, come) = mpsc::channel(1);
        let door = Self {
            pins,
            is_taken: Cell::new(false),
            successors,
        };
        (Rc::new(door), come)
    }

    /// Answers who asks for the succession on the admin socket: 101, and the rest is not HTTP.
    pub(crate) fn answer(
        self: &Rc<Self>,
        request: &mut Request<Incoming>,
    ) -> Response<Full<Bytes>> {
        let (lock, place) = match self.admit(request) {
            Ok(admitted) => admitted,
            Err((status, why)) => {
                let mut response = Response::new(Full::from(why));
                *response.status_mut() = status;
                return response;
            }
        };
        let upgrade = hyper::upgrade::on(request);
        tokio::task::spawn_local(async move {
            if let Err(error) = wait_for_wish(upgrade, &lock, place).await {
                tracing::warn!("a successor gave up, and nothing has changed: {error:#}");
            }
        });
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        let upgrade = header::HeaderValue::from_static("Upgrade");
        headers.insert(header::CONNECTION, upgrade);
        let protocol = header::HeaderValue::from_static(PROTOCOL);
        headers.insert(header::UPGRADE, protocol);
        response
    }

    fn admit(
        self: &Rc<Self>,
        request: &Request<Incoming>,
    ) -> Result<(File, Place), (StatusCode, String)> {
        let said = |name: &str| {
            request
                .headers()
                .get(name)
                .map(header::HeaderValue::as_bytes)
        };
        if said(header::UPGRADE.as_str()) != Some(PROTOCOL.as_bytes()) {
            let why = format!("the lb that runs hands over by {PROTOCOL} only; stop it first\n");
            return Err((StatusCode::UPGRADE_REQUIRED, why));
        }
        let Some((directory, lock)) = &self.pins else {
            let why = "the lb that runs has no --pin, and can't hand over; stop it first\n";
            return Err((StatusCode::CONFLICT, why.to_owned()));
        };
        if said(PIN_HEADER) != Some(directory.as_os_str().as_bytes()) {
            let why = format!("the lb that runs has --pin {}\n", directory.display());
            return Err((StatusCode::CONFLICT, why));
        }
        if self.is_taken.get() {
            let why = "another lb is about to take over\n".to_owned();
            return Err((StatusCode::CONFLICT, why));
        }
        let lock = lock.try_clone();
        let lock =
            lock.map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")))?;
        self.is_taken.set(true);
        Ok((lock, Place(Rc::clone(self))))
    }
}

/// Gives a successor its channel and the lock of the pins, and waits until it asks for room.
async fn wait_for_wish(upgrade: OnUpgrade, lock: &File, place: Place) -> anyhow::Result<()> {
    let upgraded = upgrade.await?;
    let mut parts = upgraded
        .downcast::<TokioIo<UnixStream>>()
        .map_err(|_| anyhow::anyhow!("the connection became something else"))?;
    let own = nix::unistd::geteuid().as_raw();
    let other = parts.io.inner().peer_cred()?.uid();
    ensure!(other == own || other == 0, "it runs as user {other}");
    if parts.read_buf.is_empty() {
        let mut go = [0; GO.len()];
        parts.io.inner_mut().read_exact(&mut go).await?;
    }
    let (ours, theirs) = Way::pair()?;
    let stream = parts.io.inner();
    channel::transmit(stream.as_fd(), &[IoSlice::new(GO)], Some(theirs.as_fd()))?;
    // With a copy of its end here we would never learn that it is gone.
    drop(theirs);
    let channel = Channel::new(ours)?;
    channel.send(&Gift::Lock, b"", Some(lock.as_fd())).await?;
    let door = Rc::clone(&place.0);
    match channel.receive::<Wish>().await? {
        Some(letter) if letter.message == Wish::Vacate => {}
        Some(letter) => bail!("it said {:?} first", letter.message),
        None => bail!("it ended"),
    }
    let successor = Successor {
        channel,
        _place: place,
    };
    // The daemon is stopping if nobody takes it.
    let _ = door.successors.send(successor).await;
    Ok(())
}

/// How long a successor may take to hear that it can't be.
const FAREWELL: Duration = Duration::from_secs(1);

/// What a successor gets, of which this daemon keeps copies.
pub(crate) struct Legacy<'a> {
    pub(crate) listeners: &'a Listeners,
    pub(crate) admin: BorrowedFd<'a>,
    pub(crate) servers: Vec<KnownServer>,
    pub(crate) leavers: &'a [Rc<Leaver>],
}

impl Successor {
    /// Gives it everything, and waits until it is ready.
    ///
    /// # Errors
    /// It failed, and everything is still ours.
    pub(crate) async fn install(&self, legacy: Legacy<'_>) -> anyhow::Result<()> {
        let installed = tokio::time::timeout(PATIENCE, self.give(legacy)).await;
        installed.context("it took too long")?
    }

    async fn give(&self, legacy: Legacy<'_>) -> anyhow::Result<()> {
        let channel = &self.channel;
        for (address, socket) in legacy.listeners.kept() {
            let gift = Gift::Listener(*address);
            channel.send(&gift, b"", Some(socket.as_fd())).await?;
        }
        channel.send(&Gift::Admin, b"", Some(legacy.admin)).await?;
        for leaver in legacy.leavers {
            let way = leaver.way();
            channel.send(&Gift::Leaver, b"", Some(way)).await?;
        }
        for server in legacy.servers {
            channel.send(&Gift::Server(server), b"", None).await?;
        }
        channel.send(&Gift::Vacant, b"", None).await?;
        match channel.receive::<Wish>().await? {
            Some(letter) if letter.message == Wish::Ready => Ok(()),
            Some(letter) => bail!("it said {:?}", letter.message),
            None => bail!("it ended"),
        }
    }

    /// Tells it that it can't be, if it can still hear.
    pub(crate) async fn refuse(&self, why: String) {
        let failed = Gift::Failed(why);
        let told = self.channel.send(&failed, b"", None);
        // Most often it is gone, which is what went wrong.
        let _ = tokio::time::timeout(FAREWELL, told).await;
    }

    /// The way for clients, once it is ready.
    pub(crate) fn into_way(self) -> Way {
        self.channel.into_way()
    }
}

impl Channel {
    /// Gives a client away, with what was read of its next request.
    pub(crate) async fn give_client(
        &self,
        ends: super::ClientEnds,
        early: &[u8],
        socket: BorrowedFd<'_>,
    ) -> io::Result<()> {
        self.send(&Gift::Client(ends), early, Some(socket)).await
    }
}
