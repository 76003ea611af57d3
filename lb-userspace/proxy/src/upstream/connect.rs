//! Opens a connection to a server: TCP, TLS if the route wants it, and hyper's client on top.
//!
//! Invariant: a connection comes out clean and with its driver running. Not here: which server, or what next if it
//! fails.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Clean, Driver, Link};
use crate::balance::Server;
use crate::body::BUFFER;
use crate::counters::Counters;
use crate::error::{Error, Kind};
use crate::proxy_header::{self, ProxyProtocol};
use crate::service::{ClientAddr, Forwarding};

/// A server that vanished is noticed after `KEEPALIVE_IDLE` + `KEEPALIVE_PROBES` × `KEEPALIVE_INTERVAL` = 2 min,
/// also while it holds a request for an hour, as `ActiveSync` does.
const KEEPALIVE_IDLE: Duration = Duration::from_mins(1);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 4;

/// A new connection to `server`.
pub(crate) async fn connect(
    forwarding: &Forwarding,
    server: &Arc<Server>,
    client: ClientAddr,
    counters: &Counters,
) -> Result<Clean, Error> {
    let failed = |what: &str, cause: io::Error| {
        let detail = format!("{what} {} ({})", server.name(), server.address());
        Error::new(Kind::Connect, detail).because(cause)
    };
    let opened = tokio::time::timeout(
        forwarding.timeouts.connect,
        open(forwarding, server, client),
    )
    .await;
    let (sender, driver) = match opened {
        Ok(outcome) => outcome.map_err(|cause| failed("can't connect to", cause))?,
        Err(_elapsed) => {
            return Err(failed(
                "no connection in time to",
                io::ErrorKind::TimedOut.into(),
            ));
        }
    };
    counters.upstream_opened.increment();
    Ok(Clean(Link {
        id: next_id(),
        server: Arc::clone(server),
        introduced: forwarding.proxy_protocol,
        sender,
        driver,
    }))
}

type Opened = (http1::SendRequest<crate::body::RequestBody>, Driver);

async fn open(forwarding: &Forwarding, server: &Server, client: ClientAddr) -> io::Result<Opened> {
    let tcp = dial(server.address(), forwarding.proxy_protocol, client).await?;
    match &forwarding.upstream_tls {
        None => drive(tcp).await,
        Some(tls) => {
            let connector = tls.connector(server.address());
            drive(connector.connect(tls.server_name().clone(), tcp).await?).await
        }
    }
}

/// A byte stream to a server, with the options that all of ours have; on it, if asked for, who it is made for.
pub(crate) async fn dial(
    server: SocketAddr,
    proxy_protocol: Option<ProxyProtocol>,
    client: ClientAddr,
) -> io::Result<TcpStream> {
    let mut tcp = TcpStream::connect(server).await?;
    tcp.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    SockRef::from(&tcp).set_tcp_keepalive(&keepalive)?;
    if let Some(version) = proxy_protocol {
        let header = proxy_header::write(version, Some(client));
        tcp.write_all(&header).await?;
    }
    Ok(tcp)
}

async fn drive<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    stream: S,
) -> io::Result<Opened> {
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(BUFFER)
        .preserve_header_case(true)
        // For headers that we add; those that came in keep their case.
        .title_case_headers(true)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    let driver = tokio::task::spawn_local(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(target: "lb::upstream", %error, "upstream connection ended");
        }
    });
    Ok((sender, Driver(driver)))
}

/// Number of an upstream connection in traces; unique within its worker.
fn next_id() -> u64 {
    thread_local!(static NEXT: Cell<u64> = const { Cell::new(1) });
    NEXT.replace(NEXT.get() + 1)
}
