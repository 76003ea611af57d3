//! A worker whose daemon has a successor: it gives away its clients between two requests, and ends with the last of them.
//!
//! Invariant: a client is given away or served on, never dropped: what the successor can't take, or no longer can because it is
//! gone, is served here to its end. Not here: which connections can be given away at all (`lb-proxy`), what goes over the
//! channel (`succession`).

use std::cell::{Cell, OnceCell};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::rc::Rc;
use std::sync::Arc;

use lb_proxy::{ClientAddr, Error, Parted, Parting};
use lb_tcp::FlowKey;
use lb_transport::{IntoSocket, Steering as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::carried::{Carried, Origin};
use super::{Server, Tally};
use crate::dataplane::StackFlows;
use crate::succession::{Adopted, Channel, ClientEnds, MAX_EARLY, Way};

/// What all workers are doing.
#[derive(Clone, Debug)]
pub(crate) enum Phase {
    /// Not yet: the daemon may turn out to have no place here, and a client would be lost.
    Starting,
    /// Accepting and serving.
    Serving,
    /// Another daemon accepts. It takes clients by this way.
    Leaving(Arc<Way>),
    /// There is an end to it, soon.
    Stopping,
}

/// The way for clients that other daemons give away, to one worker after the other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Adopters {
    workers: Vec<mpsc::UnboundedSender<Adopted>>,
    turn: Rc<Cell<usize>>,
}

impl Adopters {
    pub(super) fn add(&mut self, worker: mpsc::UnboundedSender<Adopted>) {
        self.workers.push(worker);
    }

    /// Has a worker serve the client.
    pub(crate) fn adopt(&self, client: Adopted) {
        let turn = self.turn.get();
        self.turn.set(turn.wrapping_add(1));
        if let Some(worker) = self.workers.get(turn % self.workers.len().max(1)) {
            // A worker that has ended takes the daemon with it.
            let _ = worker.send(client);
        }
    }
}

/// Follows the phase.
#[derive(Clone, Debug)]
pub(super) struct Orders {
    phase: watch::Receiver<Phase>,
    /// Of this worker, once it is leaving; `None` if it can't be had.
    channel: Rc<OnceCell<Option<Channel>>>,
}

impl Orders {
    pub(super) fn new(phase: watch::Receiver<Phase>) -> Self {
        Self {
            phase,
            channel: Rc::default(),
        }
    }

    /// Waits until clients may be accepted.
    pub(super) async fn open(&self) {
        let mut phase = self.phase.clone();
        let open = |phase: &Phase| !matches!(phase, Phase::Starting);
        let _ = phase.wait_for(open).await;
    }

    /// Waits until no more clients are accepted.
    pub(super) async fn over(&self) {
        let mut phase = self.phase.clone();
        // An error means that the daemon is gone, which is an end as well.
        let over = |phase: &Phase| !matches!(phase, Phase::Starting | Phase::Serving);
        let _ = phase.wait_for(over).await;
    }

    /// Waits until those that are here must end, too.
    pub(super) async fn stopped(&self) {
        let mut phase = self.phase.clone();
        let stopped = |phase: &Phase| matches!(phase, Phase::Stopping);
        let _ = phase.wait_for(stopped).await;
    }

    /// Whether another daemon accepts.
    pub(super) fn is_leaving(&self) -> bool {
        matches!(*self.phase.borrow(), Phase::Leaving(_))
    }

    /// The way for clients.
    fn channel(&self) -> Option<&Channel> {
        let open = || match &*self.phase.borrow() {
            Phase::Leaving(way) => way
                .open()
                .inspect_err(|error| tracing::warn!(%error, "clients can't be given away"))
                .ok(),
            Phase::Starting | Phase::Serving | Phase::Stopping => None,
        };
        self.channel.get_or_init(open).as_ref()
    }
}

/// One service on one worker, and where the connections come from that a listener of it takes.
#[derive(Clone)]
pub(super) struct House {
    pub(super) server: Server,
    /// Address of the service, by which the successor knows it.
    pub(super) service: SocketAddr,
    pub(super) orders: Orders,
    pub(super) tally: Arc<Tally>,
    pub(super) origin: Origin,
    /// Knows which connections are on the kernel although the engine listens where they are to; `None` if none can be.
    pub(super) steering: Option<StackFlows>,
}

impl House {
    /// What becomes of a client that was served: that is over, or it was given back. Whether somebody else has it now.
    pub(super) async fn end<S>(
        &self,
        client: ClientAddr,
        served: Result<Option<Parted<S>>, Error>,
    ) -> bool
    where
        S: AsyncRead + AsyncWrite + IntoSocket + Unpin + 'static,
    {
        let outcome = match served {
            Ok(None) => return false,
            // Boxed: every connection would have room for a second life, for as long as the first one lasts.
            Ok(Some(parted)) => Box::pin(self.see_off(parted)).await,
            Err(error) => Err(error.into()),
        };
        outcome.unwrap_or_else(|error| {
            tracing::debug!(peer = %client.peer, %error, "client connection ended");
            false
        })
    }

    /// Gives a client away that was given back, or serves it to its end; whether it was given away.
    async fn see_off<S>(&self, parted: Parted<S>) -> anyhow::Result<bool>
    where
        S: AsyncRead + AsyncWrite + IntoSocket + Unpin + 'static,
    {
        let Parted {
            stream,
            mut early,
            client,
        } = parted;
        let server = self.server.clone();
        let socket = match stream.into_socket() {
            Ok((socket, unread)) => {
                early = [&early[..], &unread].concat().into();
                std::net::TcpStream::from(socket)
            }
            Err(stream) => {
                let parted = Parted {
                    stream,
                    early,
                    client,
                };
                server.resume(parted, Parting::Never).await?;
                return Ok(false);
            }
        };
        match self.give(client, &early, &socket).await {
            Ok(()) => Ok(true),
            Err(error) => {
                tracing::debug!(peer = %client.peer, %error, "a client stays");
                let stream = TcpStream::from_std(socket)?;
                let parted = Parted {
                    stream,
                    early,
                    client,
                };
                server.resume(parted, Parting::Never).await?;
                Ok(false)
            }
        }
    }

    async fn give(
        &self,
        client: ClientAddr,
        early: &[u8],
        socket: &std::net::TcpStream,
    ) -> io::Result<()> {
        if early.len() > MAX_EARLY {
            return Err(io::Error::other("more was read than can be passed on"));
        }
        let channel = self.orders.channel();
        let channel = channel.ok_or(io::ErrorKind::NotConnected)?;
        let ends = ClientEnds {
            service: self.service,
            peer: client.peer,
            local: client.local,
        };
        channel.give_client(ends, early, socket.as_fd()).await
    }

    /// Whether clients of a service can be given to this one.
    fn takes(&self, service: SocketAddr) -> bool {
        match &self.server {
            Server::Http(proxy) => self.service == service && proxy.service().tls.is_none(),
            Server::Tcp(_) => false,
        }
    }

    /// Serves a client that another daemon gave away.
    async fn adopt(self: Rc<Self>, adopted: Adopted) {
        let Adopted {
            ends,
            early,
            socket,
        } = adopted;
        let client = ClientAddr {
            peer: ends.peer,
            local: ends.local,
        };
        // Not those of a PROXY header.
        let flow = socket.peer_addr().ok().zip(socket.local_addr().ok());
        let carried = Carried::new(&self.tally, &self.origin, None, client);
        let stream = match TcpStream::from_std(socket) {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(peer = %client.peer, %error, "a client is lost");
                return;
            }
        };
        let parted = Parted {
            stream,
            early: early.into(),
            client,
        };
        let parting = Parting::BetweenRequests;
        let served = self.server.clone().resume(parted, parting).await;
        drop(carried);
        if !self.end(client, served).await
            && let (Some((remote, local)), Some(steering)) = (flow, &self.steering)
        {
            // It had moved to the kernel in another daemon, or not; its packets go no special way any more. What is still under
            // way takes the long one.
            steering.forget(&FlowKey { local, remote });
        }
    }

    /// Ends with the last client: as soon as each can do without us, and within the time of a stop once that is wanted.
    pub(super) async fn empty(&self, mut clients: JoinSet<()>) {
        if self.orders.is_leaving() {
            self.server.leave();
        }
        tokio::select! {
            () = all_gone(&mut clients) => return,
            () = self.orders.stopped() => {}
        }
        self.server.drain();
        let gone = all_gone(&mut clients);
        if tokio::time::timeout(super::DRAIN, gone).await.is_err() {
            let left = clients.len();
            tracing::warn!(listen = %self.service, left, "requests still in flight are cut off");
        }
    }
}

async fn all_gone(clients: &mut JoinSet<()>) {
    while clients.join_next().await.is_some() {}
}

/// Serves the clients that other daemons give away, until this one has a successor itself.
pub(super) async fn adopt(
    houses: Vec<Rc<House>>,
    mut arrivals: mpsc::UnboundedReceiver<Adopted>,
    orders: Orders,
) -> anyhow::Result<()> {
    let mut homes: Vec<_> = houses
        .into_iter()
        .map(|house| (house, JoinSet::new()))
        .collect();
    let mut take = |adopted: Adopted| {
        let mut homes = homes.iter_mut();
        let home = homes.find(|(house, _)| house.takes(adopted.ends.service));
        let Some((house, clients)) = home else {
            // By the configuration it is nobody's client any more.
            tracing::info!(peer = %adopted.ends.peer, service = %adopted.ends.service, "a client of another configuration is dropped");
            return;
        };
        // Reaps what has ended.
        while clients.try_join_next().is_some() {}
        clients.spawn_local(Rc::clone(house).adopt(adopted));
    };
    let mut over = std::pin::pin!(orders.over());
    loop {
        tokio::select! {
            () = over.as_mut() => break,
            Some(adopted) = arrivals.recv() => take(adopted),
        }
    }
    while let Ok(adopted) = arrivals.try_recv() {
        take(adopted);
    }
    let emptied = homes
        .into_iter()
        .map(|(house, clients)| async move { house.empty(clients).await });
    futures_util::future::join_all(emptied).await;
    Ok(())
}
