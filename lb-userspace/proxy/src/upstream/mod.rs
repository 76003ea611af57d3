//! Connections to servers, and the rule that keeps identities apart, as types.
//!
//! [`Clean`] has never carried a credential that authenticates a connection, so it may be shared (one client at a time)
//! through the [`Pool`]. [`Pinned`] belongs to one client connection. [`Clean::pin`] is the only way from
//! one to the other, the pool takes `Clean` alone, and there is no way back: the proxy can't take an identity off a
//! connection, and `Persistent-Auth` is only a hint (MS-N2HT). Dropping either closes the connection at once.

mod connect;
mod pool;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::SendRequest;
use hyper::upgrade::{OnUpgrade, Upgraded};
use tokio::task::JoinHandle;

pub(crate) use connect::{connect, dial};
pub(crate) use pool::{Lease, Pool};

use crate::balance::{Server, Slot};
use crate::body::RequestBody;
use crate::proxy_header::ProxyProtocol;

/// The outcome of sending: the head of the response, or an error that holds the request if none of it was sent.
pub(crate) type Sent = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>;

/// What both kinds of connection are made of.
#[derive(Debug)]
struct Link {
    id: u64,
    server: Arc<Server>,
    /// How the server was told whom the connection is for, if it was.
    introduced: Option<ProxyProtocol>,
    sender: SendRequest<RequestBody>,
    driver: Driver,
}

impl Link {
    fn send(&mut self, request: Request<RequestBody>) -> impl Future<Output = Sent> + use<> {
        self.sender.try_send_request(request)
    }
}

/// The task that moves a connection's bytes; ends with its owner.
#[derive(Debug)]
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A connection that never carried a credential that authenticates connections.
#[derive(Debug)]
pub(crate) struct Clean(Link);

impl Clean {
    /// Gives the connection to one client, for ever, and with it a place of its server.
    pub(crate) fn pin(self, slot: Slot) -> Pinned {
        Pinned(self.0, slot)
    }

    /// Sends a request that carries no such credential.
    pub(crate) fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Sent> + use<> {
        self.0.send(request)
    }

    pub(crate) fn id(&self) -> u64 {
        self.0.id
    }

    pub(crate) fn server(&self) -> &Arc<Server> {
        &self.0.server
    }

    /// Whether the server was told whom the connection is for: nobody else may have it.
    fn is_introduced(&self) -> bool {
        self.0.introduced.is_some()
    }

    /// Whether a request can be sent right now.
    fn is_ready(&self) -> bool {
        self.0.sender.is_ready()
    }

    /// Waits until the exchange under way is over in both directions. Whether another one may follow.
    async fn settle(&mut self) -> bool {
        self.0.sender.ready().await.is_ok()
    }
}

/// A connection of one client, which may hold that client's identity.
#[derive(Debug)]
pub(crate) struct Pinned(Link, Slot);

impl Pinned {
    /// How the server was told whom the connection is for, if it was.
    pub(crate) fn introduced(&self) -> Option<ProxyProtocol> {
        self.0.introduced
    }

    /// Sends a request of the client that the connection belongs to.
    pub(crate) fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Sent> + use<> {
        self.0.send(request)
    }

    /// Gives up HTTP with the response that allows it.
    pub(crate) fn upgrade(self, response: &mut Response<Incoming>) -> Upgrading {
        Upgrading {
            upgrade: hyper::upgrade::on(response),
            _link: self.0,
            _slot: self.1,
        }
    }

    pub(crate) fn id(&self) -> u64 {
        self.0.id
    }

    pub(crate) fn server(&self) -> &Arc<Server> {
        &self.0.server
    }

    /// Ready once a request can be sent; whether one can ever be.
    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        self.0.sender.poll_ready(cx).map(|outcome| outcome.is_ok())
    }

    /// Ready once the connection is closed, by whomever.
    pub(crate) fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.0.driver.0.is_finished() {
            // A finished task must not be polled again.
            return Poll::Ready(());
        }
        Pin::new(&mut self.0.driver.0).poll(cx).map(|_| ())
    }
}

/// A connection that is leaving HTTP: nothing can be sent on it but bytes, and nobody but its client gets it.
#[derive(Debug)]
pub(crate) struct Upgrading {
    upgrade: OnUpgrade,
    /// Its driver has the stream until the upgrade is finished.
    _link: Link,
    /// Its place at the server.
    _slot: Slot,
}

impl Upgrading {
    /// The stream.
    pub(crate) async fn finish(&mut self) -> hyper::Result<Upgraded> {
        (&mut self.upgrade).await
    }
}
