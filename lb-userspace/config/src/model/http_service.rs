//! Settings of a service with `mode = "http"`: its listener, and its routes.

use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, StatusCode};
use rustls_pki_types::ServerName;

use super::{
    Balancing, BodyLimits, ErrorPages, Expect, Handover, Health, Hsts, Inbound, Limits, Name,
    PoolOf, Prefix, ProxyProtocol, RequestLimits, Rules, Server, Tell, Tls, Tunnels,
};

/// Settings of a service with `mode = "http"`.
#[derive(Clone, Debug, PartialEq)]
pub struct Http {
    /// Which kind of server this is for.
    pub profile: Profile,
    /// How client packets reach userspace.
    pub transport: Transport,
    /// When connections move to the kernel's TCP; `None` for never, and unless the transport is [`Transport::Auto`].
    pub handover: Option<Handover>,
    /// TLS towards clients; `None` for plain HTTP.
    pub tls: Option<Tls>,
    /// Silence in both directions after which a connection on which no route was taken yet is closed.
    pub idle_timeout: Duration,
    /// At least one, names unique; the first one that matches a request takes it.
    pub routes: Vec<Route>,
    /// Over TLS only.
    pub hsts: Option<Hsts>,
    /// For statuses that a route has no page for.
    pub error_pages: ErrorPages,
    /// From where a PROXY header must come, and from elsewhere no connection; empty if none is known.
    pub accept_proxy_protocol: Vec<Prefix>,
    /// Of the whole service.
    pub limits: Limits,
}

/// `[[service.route]]`: some of a service's requests, and what becomes of them. A service without routes has one, called
/// as the service, for all requests.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Unique in the service.
    pub name: Name,
    /// Which requests.
    pub when: When,
    /// What becomes of them.
    pub action: Action,
}

impl Route {
    /// Its servers, if it forwards.
    pub fn pool(&self) -> Option<PoolOf<'_>> {
        match &self.action {
            Action::Forward(forwarding) => Some(PoolOf {
                route: Some(&self.name),
                servers: &forwarding.servers,
                health: &forwarding.health,
                proxy_protocol: forwarding.proxy_protocol,
                minimum_healthy: forwarding.balancing.minimum_healthy,
            }),
            Action::Redirect(_) | Action::Respond(_) => None,
        }
    }
}

/// What a request must be like: for each list that isn't empty, one of it; of `headers`, all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct When {
    /// Names in `Host`, without port.
    pub hosts: Vec<HostPattern>,
    /// Beginnings of the path.
    pub paths: Vec<PathPrefix>,
    /// Whole paths in lower case, beside the beginnings.
    pub whole_paths: Vec<String>,
    /// Methods.
    pub methods: Vec<Method>,
    /// Header lines that must be there.
    pub headers: Vec<HeaderEquals>,
}

/// A name, or all names one label below one, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostPattern {
    /// `mail.example.com`.
    Exact(String),
    /// `*.example.com`, held without its first two characters.
    Below(String),
}

/// The beginning of a path that ends at a `/` or with the path: `/owa` is that of `/owa` and `/owa/x`, not of `/owafoo`.
/// Compared without regard to case, as IIS does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PathPrefix(pub(crate) String);

impl PathPrefix {
    /// In lower case, begins with `/`, ends with none unless it is `/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A header line that a request must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderEquals {
    /// Name.
    pub name: HeaderName,
    /// All of the value, compared without regard to case; `None` if any will do.
    pub value: Option<HeaderValue>,
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// A server answers it.
    Forward(Box<Forwarding>),
    /// The client is sent elsewhere.
    Redirect(Redirect),
    /// The client gets an answer of ours.
    Respond(Respond),
}

/// `redirect`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// `Location`, in which `{host}`, `{path}` (with the query) and `{query}` stand for those of the request.
    pub to: String,
    /// 301, 302, 303, 307 or 308.
    pub status: StatusCode,
}

/// `respond`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Respond {
    /// 200 to 599.
    pub status: StatusCode,
    /// Plain text.
    pub body: String,
}

/// How requests of a route are forwarded.
#[derive(Clone, Debug, PartialEq)]
pub struct Forwarding {
    /// At least one; addresses and names are unique within the route.
    pub servers: Vec<Server>,
    /// How servers are found to be up or down.
    pub health: Health,
    /// TLS towards servers; `None` for plain HTTP.
    pub upstream_tls: Option<UpstreamTls>,
    /// Headers that tell the server who the client is.
    pub headers: HeaderMode,
    /// Silence in both directions after which a connection is closed.
    pub idle_timeout: Duration,
    /// Longest wait for the head of a response once the request is sent.
    pub response_timeout: Duration,
    /// Servers bind logins to the certificate that the client saw, and so it must be theirs.
    pub extended_protection: bool,
    /// More of such headers.
    pub forwarded: Vec<Tell>,
    /// What becomes of such headers that clients send.
    pub inbound: Inbound,
    /// What is changed besides.
    pub rules: Rules,
    /// The route's own.
    pub error_pages: ErrorPages,
    /// Of the requests of this route, in addition to those of its service.
    pub requests: RequestLimits,
    /// Of the body of each request.
    pub body: BodyLimits,
    /// How servers are told who a connection is from.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// How they are spread over the servers.
    pub balancing: Balancing,
    /// What becomes of `Expect: 100-continue`.
    pub expect: Expect,
    /// Which connections may become something else than HTTP.
    pub tunnels: Tunnels,
}

/// `profile`: what the servers are, and so which defaults and which header hygiene are right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Exchange: no added header by default, inbound `Via`, `X-ClientSide`, `Forwarded` and
    /// `X-Forwarded-*` removed, timeouts long enough for `ActiveSync` and EWS streaming.
    Exchange,
    /// Any other HTTP server: `X-Forwarded-For` by default.
    Plain,
}

/// `headers`: the seven values of LoadMaster's "Additional L7 Header" (`AddVia`, REST API guide
/// 2022).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderMode {
    /// `legacy`, LoadMaster 0: `X-Forwarded-For`.
    LegacyXForwardedFor,
    /// `x-forwarded-for+via`, LoadMaster 1.
    XForwardedForVia,
    /// `none`, LoadMaster 2.
    None,
    /// `x-clientside+via`, LoadMaster 3: the default of LoadMaster in 2015.
    XClientSideVia,
    /// `x-clientside`, LoadMaster 4.
    XClientSide,
    /// `x-forwarded-for`, LoadMaster 5.
    XForwardedFor,
    /// `via`, LoadMaster 6.
    Via,
}

impl HeaderMode {
    /// Whether requests get a `Via`, which makes IIS answer `Persistent-Auth: false`.
    pub const fn adds_via(self) -> bool {
        matches!(
            self,
            Self::XForwardedForVia | Self::XClientSideVia | Self::Via
        )
    }
}

/// `transport`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// `AF_XDP` where the interface has native XDP and every rx queue can be bound, else kernel
    /// sockets.
    Auto,
    /// `AF_XDP`, or the daemon does not start.
    AfXdp,
    /// Kernel sockets.
    Kernel,
}

/// `upstream_tls`: how a server must prove itself.
#[derive(Clone, Debug, PartialEq)]
pub struct UpstreamTls {
    /// SNI, and the name that the certificate must be for.
    pub server_name: ServerName<'static>,
    /// Who vouches for the certificate.
    pub verify: Verify,
}

/// Who vouches for a server's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verify {
    /// PEM file with the root certificates to trust; relative to the configuration file.
    Ca(PathBuf),
    /// Nobody: any certificate will do. Only ever written out in the file, never a default.
    None,
}
