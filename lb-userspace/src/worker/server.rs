//! What is done with the connections of a service: one face for the proxy and the relay.

use std::rc::Rc;

use lb_proxy::{Carriage, ClientAddr, Error, Parted, Parting, Proxy, Relay};
use tokio::io::{AsyncRead, AsyncWrite};

use super::Served;

/// What is done with the connections of one service on one worker.
#[derive(Clone)]
pub(super) enum Server {
    Http(Rc<Proxy>),
    Tcp(Rc<Relay>),
}

impl Server {
    pub(super) fn new(served: Served) -> Self {
        match served {
            Served::Http(service) => Self::Http(Proxy::new(service)),
            Served::Tcp(service) => Self::Tcp(Relay::new(service)),
        }
    }

    pub(super) fn leave(&self) {
        match self {
            Self::Http(proxy) => proxy.leave(),
            // Only its two ends know where a good place to stop is.
            Self::Tcp(_) => {}
        }
    }

    pub(super) fn drain(&self) {
        match self {
            Self::Http(proxy) => proxy.drain(),
            Self::Tcp(relay) => relay.drain(),
        }
    }

    /// Serves a client until its connection ends, or can be given away.
    pub(super) async fn serve<S>(
        self,
        carriage: Rc<dyn Carriage>,
        stream: S,
        client: ClientAddr,
    ) -> Result<Option<Parted<S>>, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let carriage = Some(carriage);
        match self {
            Self::Http(proxy) => {
                let parting = Parting::BetweenRequests;
                proxy
                    .serve_until_left(carriage, stream, client, parting)
                    .await
            }
            // Boxed: the larger of the two would be the size of both.
            Self::Tcp(relay) => Box::pin(relay.serve_on(carriage, stream, client))
                .await
                .map(|()| None),
        }
    }

    /// Goes on with a client that was given back, or away by another daemon.
    pub(super) async fn resume<S>(
        self,
        parted: Parted<S>,
        parting: Parting,
    ) -> Result<Option<Parted<S>>, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        match self {
            Self::Http(proxy) => proxy.resume(parted, parting).await,
            // Never given back, and not taken.
            Self::Tcp(_) => Ok(None),
        }
    }
}
