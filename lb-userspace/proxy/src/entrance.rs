//! What a connection passes before its first byte is looked at: lists of addresses, numbers of connections, and, behind
//! another balancer, the PROXY header that says who it really is from.
//!
//! Invariant: from here on a client has one address, the header's if one is due. Lists, limits, logs and headers for servers
//! all go by that one; so who may send a header could be anyone, and nobody else may send one. Every kind of service has one.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

use crate::admission::{Access, ClientSeat, ConnectionLimits, Decision, Seat};
use crate::error::{Error, Kind};
use crate::proxy_header;
use crate::service::ClientAddr;
use crate::tls::ServerTls;

/// The rules of one service. By default everyone may come in, as often as they like, for themselves.
#[derive(Debug, Default)]
pub struct Entrance {
    /// Lists, each of which must allow a client.
    pub access: Vec<Arc<Access>>,
    /// Who must send a PROXY header, and everyone else is refused; `None` if nobody may.
    pub proxy_header: Option<Access>,
    /// Numbers of connections; `None` without limit.
    pub connections: Option<Arc<ConnectionLimits>>,
}

/// TLS with a client that was let in, which may take it so long.
pub(crate) async fn shake_hands<S>(
    tls: &ServerTls,
    stream: S,
    patience: Duration,
) -> Result<TlsStream<S>, Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match timeout(patience, tls.acceptor().accept(stream)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(Error::new(Kind::ClientTls, "handshake failed").because(error)),
        Err(_elapsed) => Err(Error::new(Kind::ClientTls, "handshake took too long")),
    }
}

/// A connection that was let in, for as long as it lasts.
#[derive(Debug)]
pub(crate) struct Guest {
    /// Who it is from, and where it was made to.
    pub(crate) client: ClientAddr,
    _seat: Option<Seat>,
    _client_seat: Option<ClientSeat>,
}

impl Entrance {
    /// Lets a connection in, or says why not. A PROXY header must come within `patience`.
    pub(crate) async fn enter<S>(
        &self,
        stream: &mut S,
        ends: ClientAddr,
        patience: Duration,
    ) -> Result<Guest, Error>
    where
        S: AsyncRead + Unpin,
    {
        let seat = self.seat()?;
        let client = match &self.proxy_header {
            None => ends,
            Some(from) => introduced(from, stream, ends, patience).await?,
        };
        self.admit(seat, client)
    }

    /// Lets a connection in whose client is known: another daemon has read its PROXY header, if one was due.
    pub(crate) fn readmit(&self, client: ClientAddr) -> Result<Guest, Error> {
        self.admit(self.seat()?, client)
    }

    fn seat(&self) -> Result<Option<Seat>, Error> {
        let seat = self.connections.as_ref().map(|limits| {
            let seat = limits.seat();
            seat.ok_or_else(|| full("the service has as many connections as it may"))
        });
        seat.transpose()
    }

    fn admit(&self, seat: Option<Seat>, client: ClientAddr) -> Result<Guest, Error> {
        self.check(client.peer.ip())?;
        let client_seat = self.connections.as_ref().map(|limits| {
            let seat = limits.client_seat(client.peer.ip());
            seat.ok_or_else(|| full("the client has as many connections as it may"))
        });
        Ok(Guest {
            client,
            _seat: seat,
            _client_seat: client_seat.transpose()?,
        })
    }

    fn check(&self, client: IpAddr) -> Result<(), Error> {
        let mut lists = self.access.iter();
        if lists.all(|list| list.decide(client) == Decision::Allow) {
            Ok(())
        } else {
            Err(Error::new(Kind::Denied, "the client's address is kept out"))
        }
    }
}

fn full(what: &'static str) -> Error {
    Error::new(Kind::ConnectionLimit, what)
}

/// Who the sender of a PROXY header speaks for.
async fn introduced<S>(
    from: &Access,
    stream: &mut S,
    ends: ClientAddr,
    patience: Duration,
) -> Result<ClientAddr, Error>
where
    S: AsyncRead + Unpin,
{
    if from.decide(ends.peer.ip()) == Decision::Deny {
        let detail = "a connection that is not from a balancer";
        return Err(Error::new(Kind::Denied, detail));
    }
    match timeout(patience, proxy_header::read(stream)).await {
        Ok(Ok(client)) => Ok(client.unwrap_or(ends)),
        Ok(Err(error)) => Err(Error::new(Kind::ProxyHeader, "no good PROXY header").because(error)),
        Err(_elapsed) => Err(Error::new(
            Kind::ProxyHeader,
            "the PROXY header took too long",
        )),
    }
}
