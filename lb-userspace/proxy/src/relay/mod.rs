//! `mode = "tcp"`: a byte stream between a client and a server, with TLS on either side or on none.
//!
//! For SMTP, IMAP and POP, in which the server speaks first: it is dialled at once, and nothing is waited for but TLS. What the
//! bytes mean is nobody's business here: `STARTTLS` passes through, and TLS then lies between client and server. Invariant:
//! a connection ends in one of three ways: both sides have said that they are done (each passes through when it comes, so
//! that half-closed connections work), one breaks off, or nothing moves in either direction for the idle time.

mod pipe;

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::balance::{Balancer, Balancing, Server, Slot};
use crate::carriage::{BulkThresholds, Carriage, Freight};
use crate::counters::{Counter, Counters};
use crate::entrance::{Entrance, shake_hands};
use crate::error::{Error, Kind};
use crate::proxy_header::ProxyProtocol;
use crate::service::{ClientAddr, ClientTimeouts};
use crate::tls::{ServerTls, UpstreamTls};
use crate::upstream::dial;
use pipe::{Broken, Scratch};

/// One TCP service: what every worker needs to serve its clients.
#[derive(Debug)]
pub struct RelayService {
    /// Name in logs.
    pub name: String,
    /// TLS towards clients, with [`Alpn::Nothing`](crate::tls::Alpn); `None` passes their bytes on as they are.
    pub tls: Option<Arc<ServerTls>>,
    /// Who may connect, and how often at once.
    pub entrance: Entrance,
    /// How long is waited for the client; `request_head` is for its PROXY header.
    pub timeouts: ClientTimeouts,
    /// The servers; all of them equally able to serve any client.
    pub servers: Vec<Arc<Server>>,
    /// How connections are spread over them.
    pub balancing: Balancing,
    /// TLS towards servers, with [`Alpn::Nothing`](crate::tls::Alpn).
    pub upstream_tls: Option<UpstreamTls>,
    /// How servers are told who a connection is from.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// For a connection to a server, TLS included.
    pub connect_timeout: Duration,
    /// What is counted; of requests and responses there are none.
    pub counters: Arc<Counters>,
    /// Bytes from clients, once they are written to a server.
    pub bytes_in: Counter,
    /// Bytes to clients.
    pub bytes_out: Counter,
    /// From where on the carrier of a connection is told that it carries bulk, of which a relay sees only what has passed;
    /// `None` for never.
    pub bulk: Option<BulkThresholds>,
}

/// One TCP service on one worker.
#[derive(Debug)]
pub struct Relay {
    service: Arc<RelayService>,
    balancer: Balancer,
    draining: watch::Sender<bool>,
    scratch: Scratch,
}

/// Any of the streams that connections are made of. A connection costs a task and two of these, and no buffer while it is quiet.
trait Stream: AsyncRead + AsyncWrite {}
impl<S: AsyncRead + AsyncWrite> Stream for S {}
/// By name, so that it borrows nothing wherever it stands.
type AnyStream = dyn Stream;
type BoxedStream = Pin<Box<AnyStream>>;

impl Relay {
    /// The relay of one worker for one service.
    pub fn new(service: Arc<RelayService>) -> Rc<Self> {
        Rc::new(Self {
            balancer: Balancer::new(&service.servers),
            service,
            draining: watch::Sender::new(false),
            scratch: Scratch::default(),
        })
    }

    /// The service.
    pub fn service(&self) -> &Arc<RelayService> {
        &self.service
    }

    /// Lets no connection wait for a server any more. Those that have one go on: only their two ends know where a good place to
    /// stop is.
    pub fn drain(&self) {
        self.draining.send_replace(true);
    }

    /// Serves one client connection until it ends. Must run where tasks can be spawned locally; dropping the future closes both
    /// connections.
    ///
    /// # Errors
    ///
    /// The client was not let in, no server was to be had, one side broke off, or nothing moved for the idle time.
    pub async fn serve<S>(self: Rc<Self>, stream: S, client: ClientAddr) -> Result<(), Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        self.serve_on(None, stream, client).await
    }

    /// As [`Relay::serve`], of a stream whose carrier wants to know when it carries bulk.
    ///
    /// # Errors
    ///
    /// As [`Relay::serve`].
    pub async fn serve_on<S>(
        self: Rc<Self>,
        carriage: Option<Rc<dyn Carriage>>,
        stream: S,
        client: ClientAddr,
    ) -> Result<(), Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        self.service.counters.client_connections.increment();
        let freight = Freight::new(self.service.bulk, carriage);
        let outcome = self.connect_and_copy(stream, client, freight).await;
        if let Err(error) = &outcome {
            self.service.counters.count_error(error.kind());
        }
        outcome
    }

    async fn connect_and_copy<S>(
        &self,
        mut stream: S,
        ends: ClientAddr,
        freight: Freight,
    ) -> Result<(), Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let service = &self.service;
        let patience = service.timeouts.request_head;
        let guest = service.entrance.enter(&mut stream, ends, patience).await?;
        let mut client = self.shake_hands(stream).await?;
        let (mut server, slot) = self.server_for(guest.client).await?;
        let name = slot.server().map(|server| server.name());
        tracing::debug!(target: "lb::relay", service = service.name, client = %guest.client.peer, server = name);
        let copied = pipe::both_ways(
            client.as_mut(),
            server.as_mut(),
            &self.scratch,
            service.timeouts.idle,
            [&service.bytes_in, &service.bytes_out],
            freight.meter(),
        );
        copied.await.map_err(|broken| match broken {
            Broken::Idle => Error::new(Kind::Idle, "nothing moved in either direction"),
            Broken::Client(error) => {
                Error::new(Kind::ClientBroken, "the client broke off").because(error)
            }
            Broken::Server(error) => {
                Error::new(Kind::UpstreamBroken, "the server broke off").because(error)
            }
        })
    }

    /// TLS with the client, if the service has it.
    async fn shake_hands<S>(&self, stream: S) -> Result<BoxedStream, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let Some(tls) = &self.service.tls else {
            return Ok(Box::pin(stream));
        };
        let patience = self.service.timeouts.tls_handshake;
        Ok(Box::pin(shake_hands(tls, stream, patience).await?))
    }

    /// A connection to the server whose turn it is, or to another if that one can't be connected to; its place is taken for as
    /// long as the connection lasts.
    async fn server_for(&self, client: ClientAddr) -> Result<(BoxedStream, Slot), Error> {
        let service = &self.service;
        let mut ask = Balancer::ask(&service.balancing, client.peer.ip(), &mut HeaderMap::new());
        let mut failure = None;
        let mut stop = self.draining.subscribe();
        loop {
            let slot = tokio::select! {
                slot = self.balancer.place(&service.balancing, &ask) => slot,
                _ = stop.wait_for(|&stop| stop) => {
                    Err(Error::new(Kind::NoServer, "the service is stopping"))
                }
            };
            let slot = match slot {
                Ok(slot) => slot,
                Err(error) => return Err(failure.unwrap_or(error)),
            };
            let Some(server) = slot.server() else {
                return Err(Error::new(Kind::NoServer, "a place without a server"));
            };
            match self.dial(server, client).await {
                Ok(stream) => {
                    service.counters.upstream_opened.increment();
                    service.balancing.connected(server);
                    return Ok((stream, slot));
                }
                Err(error) => {
                    tracing::debug!(target: "lb::upstream", service = service.name, %error);
                    service.balancing.failed(server, &error);
                    if !ask.failed(Some(slot.index())) {
                        return Err(error);
                    }
                    failure = Some(error);
                }
            }
        }
    }

    async fn dial(&self, server: &Server, client: ClientAddr) -> Result<BoxedStream, Error> {
        let failed = |cause: io::Error| {
            let detail = format!("can't connect to {} ({})", server.name(), server.address());
            Error::new(Kind::Connect, detail).because(cause)
        };
        let opened = timeout(self.service.connect_timeout, self.open(server, client));
        let outcome = opened
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        outcome.map_err(failed)
    }

    async fn open(&self, server: &Server, client: ClientAddr) -> io::Result<BoxedStream> {
        let tcp = dial(server.address(), self.service.proxy_protocol, client).await?;
        match &self.service.upstream_tls {
            None => Ok(Box::pin(tcp)),
            Some(tls) => {
                let connector = tls.connector(server.address());
                let stream = connector.connect(tls.server_name().clone(), tcp).await?;
                Ok(Box::pin(stream))
            }
        }
    }
}
