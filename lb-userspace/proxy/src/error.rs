//! What can go wrong with a connection or a request: the kind, whose fault it is, and the answer it gets.
//!
//! Invariant: blame, retry and status follow from the kind alone, so a log line, a counter and a
//! response can't disagree. Errors of building TLS settings are in [`crate::tls`].

use std::fmt;
use std::time::Duration;

use http::StatusCode;

/// A failed request or connection.
#[derive(Debug, thiserror::Error)]
#[error("{kind}: {detail}")]
pub struct Error {
    kind: Kind,
    detail: String,
    retry_after: Option<Duration>,
    #[source]
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    pub(crate) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            retry_after: None,
            cause: None,
        }
    }

    pub(crate) fn because(
        mut self,
        cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// With the time after which it is worth trying again.
    pub(crate) fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Seconds for `Retry-After` (RFC 9110 section 10.2.3), rounded up.
    pub(crate) fn retry_after_seconds(&self) -> Option<u64> {
        let wait = self.retry_after?;
        Some(wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
    }

    /// What went wrong.
    pub fn kind(&self) -> Kind {
        self.kind
    }
}

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The request can't be forwarded without guessing what the client meant.
    BadRequest,
    /// The client asked for a tunnel (`CONNECT`).
    Tunnel,
    /// No route matches the request.
    NoRoute,
    /// The request is for another host than the TLS connection it came on was made for (RFC 9110 section 7.4).
    Misdirected,
    /// The TLS handshake with the client failed or took too long.
    ClientTls,
    /// The client took too long over the head of a request.
    RequestHead,
    /// The client went away, or sent what isn't HTTP, in the middle of a message.
    ClientBroken,
    /// No byte moved for the idle timeout.
    Idle,
    /// No server is up.
    NoServer,
    /// No server could be connected to.
    Connect,
    /// The server's head of the response didn't come in time.
    ResponseTimeout,
    /// The server closed or broke the connection, or sent what isn't HTTP, with the request sent.
    UpstreamBroken,
    /// The connection that holds the client's identity is gone or its server is down; the next request was not
    /// sent.
    IdentityLost,
    /// The address that a connection comes from is on no list of those that may, or on one of those that may not.
    Denied,
    /// A connection from another balancer began with no good PROXY header.
    ProxyHeader,
    /// The service, or the client, has as many connections as it may.
    ConnectionLimit,
    /// The head of a request has too many header lines, or too many bytes.
    HeaderTooLarge,
    /// The body of a request is larger than the route takes.
    BodyTooLarge,
    /// The client sends the body of a request too slowly.
    SlowBody,
    /// Too many requests in this time; the client is told so.
    RateLimited,
    /// Too many requests in this time; the client is not told.
    RateDropped,
    /// As many requests are under way as may be.
    Full,
    /// All servers that are up are at their limits, and as many requests wait as may.
    Busy,
    /// No server that is up had room in time.
    QueueTimeout,
    /// A credential that authenticates a connection came on a stream of HTTP/2, which shares its connection with others.
    NeedsHttp1,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 25] = [
        Self::BadRequest,
        Self::Tunnel,
        Self::NoRoute,
        Self::Misdirected,
        Self::ClientTls,
        Self::RequestHead,
        Self::ClientBroken,
        Self::Idle,
        Self::NoServer,
        Self::Connect,
        Self::ResponseTimeout,
        Self::UpstreamBroken,
        Self::IdentityLost,
        Self::Denied,
        Self::ProxyHeader,
        Self::ConnectionLimit,
        Self::HeaderTooLarge,
        Self::BodyTooLarge,
        Self::SlowBody,
        Self::RateLimited,
        Self::RateDropped,
        Self::Full,
        Self::Busy,
        Self::QueueTimeout,
        Self::NeedsHttp1,
    ];

    /// Whose fault it is.
    pub const fn fault(self) -> Fault {
        match self {
            Self::BadRequest
            | Self::Tunnel
            | Self::NoRoute
            | Self::Misdirected
            | Self::ClientTls
            | Self::RequestHead
            | Self::ClientBroken
            | Self::Idle
            | Self::Denied
            | Self::ProxyHeader
            | Self::ConnectionLimit
            | Self::HeaderTooLarge
            | Self::BodyTooLarge
            | Self::SlowBody
            | Self::RateLimited
            | Self::RateDropped
            | Self::NeedsHttp1
            | Self::Full => Fault::Client,
            Self::NoServer
            | Self::Connect
            | Self::ResponseTimeout
            | Self::UpstreamBroken
            | Self::IdentityLost
            | Self::Busy
            | Self::QueueTimeout => Fault::Upstream,
        }
    }

    /// Whether the request certainly reached no server, so that the client may send it again.
    pub const fn is_retryable(self) -> bool {
        matches!(
            self,
            Self::NoServer
                | Self::Connect
                | Self::IdentityLost
                | Self::RateLimited
                | Self::RateDropped
                | Self::Full
                | Self::Busy
                | Self::QueueTimeout
        )
    }

    /// Whether the request was refused before anything of it, or of its client's login, was touched.
    pub(crate) const fn is_refusal(self) -> bool {
        matches!(self, Self::RateLimited | Self::Full | Self::BodyTooLarge)
    }

    /// The status that the client gets; `None` if the connection is closed without an answer.
    ///
    /// [`Kind::IdentityLost`] gets none on purpose: a client that used the server directly would see
    /// the connection close, dial again and authenticate again. Any status would instead end up on a screen.
    pub const fn status(self) -> Option<StatusCode> {
        match self {
            Self::BadRequest => Some(StatusCode::BAD_REQUEST),
            Self::Tunnel => Some(StatusCode::NOT_IMPLEMENTED),
            Self::NoRoute => Some(StatusCode::NOT_FOUND),
            Self::Misdirected => Some(StatusCode::MISDIRECTED_REQUEST),
            Self::NoServer | Self::Full | Self::Busy | Self::QueueTimeout => {
                Some(StatusCode::SERVICE_UNAVAILABLE)
            }
            Self::Connect | Self::UpstreamBroken => Some(StatusCode::BAD_GATEWAY),
            Self::ResponseTimeout => Some(StatusCode::GATEWAY_TIMEOUT),
            Self::HeaderTooLarge => Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
            Self::BodyTooLarge => Some(StatusCode::PAYLOAD_TOO_LARGE),
            Self::RateLimited => Some(StatusCode::TOO_MANY_REQUESTS),
            Self::ClientTls
            | Self::RequestHead
            | Self::ClientBroken
            | Self::Idle
            | Self::Denied
            | Self::ProxyHeader
            | Self::ConnectionLimit
            | Self::SlowBody
            | Self::RateDropped
            | Self::NeedsHttp1
            | Self::IdentityLost => None,
        }
    }

    /// What the client is told, in one line; names no server.
    pub(crate) const fn explanation(self) -> &'static str {
        match self {
            Self::BadRequest => "The request is ambiguous or malformed, and was not forwarded.\n",
            Self::Tunnel => "CONNECT is for forward proxies; this is a gateway.\n",
            Self::NoRoute => "Nothing is served here.\n",
            Self::Misdirected => "The TLS connection was made for another host than the request.\n",
            Self::NoServer => "No server of this service is up.\n",
            Self::Busy | Self::QueueTimeout => "All servers of this service are busy.\n",
            Self::Connect => "No server of this service could be connected to.\n",
            Self::ResponseTimeout => "The server did not respond in time.\n",
            Self::HeaderTooLarge => "The head of the request is too large.\n",
            Self::BodyTooLarge => "The body of the request is larger than is accepted here.\n",
            Self::RateLimited => "Too many requests.\n",
            Self::Full => "The service is busy.\n",
            Self::UpstreamBroken => "The server broke off before it responded.\n",
            Self::ClientTls
            | Self::RequestHead
            | Self::ClientBroken
            | Self::Idle
            | Self::Denied
            | Self::ProxyHeader
            | Self::ConnectionLimit
            | Self::SlowBody
            | Self::RateDropped
            | Self::NeedsHttp1
            | Self::IdentityLost => "",
        }
    }

    /// The name in logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BadRequest => "bad-request",
            Self::Tunnel => "tunnel",
            Self::NoRoute => "no-route",
            Self::Misdirected => "misdirected",
            Self::ClientTls => "client-tls",
            Self::RequestHead => "request-head",
            Self::ClientBroken => "client-broken",
            Self::Idle => "idle",
            Self::NoServer => "no-server",
            Self::Connect => "connect",
            Self::ResponseTimeout => "response-timeout",
            Self::UpstreamBroken => "upstream-broken",
            Self::IdentityLost => "identity-lost",
            Self::Denied => "denied",
            Self::ProxyHeader => "proxy-header",
            Self::ConnectionLimit => "connection-limit",
            Self::HeaderTooLarge => "header-too-large",
            Self::BodyTooLarge => "body-too-large",
            Self::SlowBody => "slow-body",
            Self::RateLimited => "rate-limited",
            Self::RateDropped => "rate-dropped",
            Self::NeedsHttp1 => "needs-http1",
            Self::Full => "full",
            Self::Busy => "busy",
            Self::QueueTimeout => "queue-timeout",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whose fault a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The client's.
    Client,
    /// A server's, or that of the way to it.
    Upstream,
}
