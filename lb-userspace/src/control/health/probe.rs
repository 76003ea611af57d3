//! One probe of one server: connect, perhaps TLS, perhaps a GET or a greeting.
//!
//! Invariant: a probe ends by its deadline, holds at most [`KEPT`] bytes of a body, and opens one
//! connection that it closes. Not here: when to probe and what follows ([`super`],
//! [`super::state`]).

mod greeting;

use std::io;
use std::net::SocketAddr;

use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use lb_config::{Get, Greeting};
use lb_proxy::tls::UpstreamTls;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// What a probe does.
#[derive(Clone, Debug)]
pub(crate) enum Probe {
    /// Connects.
    Tcp,
    /// GET over plain TCP.
    Http(Get),
    /// GET over TLS.
    Https(Get, UpstreamTls),
    /// Reads a mail server's greeting, over TLS if that is there.
    Greeting(Greeting, Option<UpstreamTls>),
}

/// Why a server is not healthy.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Refused, unreachable, or no local port left.
    #[error("connect: {0}")]
    Connect(#[source] io::Error),
    /// Handshake failed; most often the certificate.
    #[error("TLS: {0}")]
    Tls(#[source] io::Error),
    /// Path or host can't be sent, although the configuration took them.
    #[error("GET: {0}")]
    Request(#[source] http::Error),
    /// Broke off, or sent what is not HTTP.
    #[error("GET: {0}")]
    Http(#[source] hyper::Error),
    /// Any status but 200 (Managed Availability has no other for healthy).
    #[error("GET: status {0}, expected 200")]
    Status(StatusCode),
    /// 503: what Exchange answers for a server or component that was taken out of service on purpose
    /// (`Set-ServerComponentState`), or that Managed Availability has given up on.
    #[error("GET: maintenance or Managed Availability says no: status {0}")]
    Maintenance(StatusCode),
    /// A mail server says something else.
    #[error("greeting: `{found}`, expected `{expected}`")]
    Greeting {
        /// As much of it as came, up to the end of its first line.
        found: String,
        /// From the configuration.
        expected: String,
    },
    /// The connection ended, well or not, before there was a greeting.
    #[error("greeting: {0}")]
    Silence(#[source] io::Error),
    /// 200, with another body.
    #[error("GET: the body begins with `{found}`, expected `{expected}`")]
    Body {
        /// As much of it as was asked for.
        found: String,
        /// From the configuration.
        expected: String,
    },
    /// The deadline came first.
    #[error("no answer in time during {0}")]
    Timeout(&'static str),
}

/// Bytes of a body that are kept: the longest `expect` that the configuration takes, and the
/// server's name behind Exchange's `200 OK<br/>`.
const KEPT: usize = 512;

/// Where a server listens, and what it wants to hear first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Door<'a> {
    pub(crate) address: SocketAddr,
    /// A PROXY header, or nothing.
    pub(crate) introduction: &'a [u8],
}

impl From<SocketAddr> for Door<'_> {
    fn from(address: SocketAddr) -> Self {
        Self {
            address,
            introduction: &[],
        }
    }
}

/// Probes the server at `address`; gives what it said, for the log.
pub(crate) async fn probe(
    probe: &Probe,
    door: impl Into<Door<'_>>,
    deadline: Instant,
) -> Result<String, Failure> {
    let Door {
        address,
        introduction,
    } = door.into();
    let mut stream = within(deadline, "connect", TcpStream::connect(address))
        .await?
        .map_err(Failure::Connect)?;
    within(deadline, "connect", stream.write_all(introduction))
        .await?
        .map_err(Failure::Connect)?;
    match probe {
        Probe::Tcp => Ok("connected".to_owned()),
        Probe::Http(get) => within(deadline, "GET", exchange(get, stream)).await?,
        Probe::Https(get, tls) => {
            let stream = secure(tls, stream, deadline).await?;
            within(deadline, "GET", exchange(get, stream)).await?
        }
        Probe::Greeting(greeting, None) => {
            within(deadline, "greeting", greeting::read(greeting, stream)).await?
        }
        Probe::Greeting(greeting, Some(tls)) => {
            let stream = secure(tls, stream, deadline).await?;
            within(deadline, "greeting", greeting::read(greeting, stream)).await?
        }
    }
}

async fn secure(
    tls: &UpstreamTls,
    stream: TcpStream,
    deadline: Instant,
) -> Result<TlsStream<TcpStream>, Failure> {
    let connector = TlsConnector::from(tls.config());
    let handshake = connector.connect(tls.server_name().clone(), stream);
    within(deadline, "TLS", handshake)
        .await?
        .map_err(Failure::Tls)
}

async fn within<F: Future>(
    deadline: Instant,
    doing: &'static str,
    future: F,
) -> Result<F::Output, Failure> {
    timeout_at(deadline, future)
        .await
        .map_err(|_| Failure::Timeout(doing))
}

/// One GET on a connection of its own.
pub(super) async fn exchange<S>(get: &Get, stream: S) -> Result<String, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(Failure::Http)?;
    let request = Request::get(get.path.as_str())
        .header(header::HOST, get.host.as_str())
        .header(header::USER_AGENT, "lb")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(Failure::Request)?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(Failure::Http)?;
        judge(response, &get.expect).await
    };
    tokio::pin!(answer);
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        // What had arrived before the connection ended, well or not, decides; and if it was too
        // little, `answer` gets the connection's error.
        _ = connection => answer.await,
    }
}

async fn judge(response: Response<Incoming>, expect: &str) -> Result<String, Failure> {
    match response.status() {
        StatusCode::OK => {}
        status @ StatusCode::SERVICE_UNAVAILABLE => return Err(Failure::Maintenance(status)),
        status => return Err(Failure::Status(status)),
    }
    let start = body_start(response.into_body(), expect.len()).await?;
    if !start.starts_with(expect.as_bytes()) {
        let found = printable(start.get(..expect.len()).unwrap_or(&start));
        return Err(Failure::Body {
            found,
            expected: expect.to_owned(),
        });
    }
    Ok(if start.is_empty() {
        "status 200".to_owned()
    } else {
        printable(&start)
    })
}

/// At least `wanted` bytes of the body, if it has so many. What follows is not waited for: a page
/// may go on without end.
async fn body_start(mut body: Incoming, wanted: usize) -> Result<Vec<u8>, Failure> {
    let mut start = Vec::new();
    while start.len() < wanted.min(KEPT) {
        let Some(frame) = body.frame().await else {
            break;
        };
        if let Ok(data) = frame.map_err(Failure::Http)?.into_data() {
            start.extend_from_slice(&data[..data.len().min(KEPT - start.len())]);
        }
    }
    Ok(start)
}

/// One line, whatever the server sent.
fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .trim_end()
        .escape_debug()
        .collect()
}
