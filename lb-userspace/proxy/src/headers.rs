//! The header policy: what a request loses, gains and keeps on its way to the server.
//!
//! Invariant: a header that isn't named here passes with its case, its value and its place, and duplicates
//! stay separate lines (names that occur more than once are written together, in their order, at the first
//! one's place). Responses lose their hop-by-hop headers and gain nothing: no mode adds a `Via` to a response.
//! Not here: framing (`Content-Length`, `Transfer-Encoding`), which hyper writes anew from the body; what an operator wants
//! besides, which is [`crate::rules`].

mod forwarded;

use std::net::SocketAddr;

use http::header::{
    CONNECTION, EXPECT, FORWARDED, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version, request};

use crate::error::{Error, Kind};
use crate::service::ClientAddr;

pub(crate) use forwarded::Scheme;
pub use forwarded::{Tell, Told};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const X_CLIENT_SIDE: HeaderName = HeaderName::from_static("x-clientside");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED: &str = "x-forwarded-";

/// How we name ourselves in `Via` (RFC 9110 section 7.6.3 lets a pseudonym hide the host name).
const PSEUDONYM: &str = "lb";

/// What is added to requests: the seven values of LoadMaster's "Additional L7 Header" (`AddVia` in its REST API).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderMode {
    /// LoadMaster 0: `X-Forwarded-For`.
    LegacyXForwardedFor,
    /// LoadMaster 1: `X-Forwarded-For` and `Via`.
    XForwardedForVia,
    /// LoadMaster 2: nothing.
    None,
    /// LoadMaster 3: `X-ClientSide` and `Via`; LoadMaster's default in 2015.
    XClientSideVia,
    /// LoadMaster 4: `X-ClientSide`.
    XClientSide,
    /// LoadMaster 5: `X-Forwarded-For`.
    XForwardedFor,
    /// LoadMaster 6: `Via`.
    Via,
}

impl HeaderMode {
    /// Whether requests get a `Via`, upon which IIS lets a login count for one request only and says so with
    /// `Persistent-Auth: false`.
    pub const fn adds_via(self) -> bool {
        matches!(
            self,
            Self::XForwardedForVia | Self::XClientSideVia | Self::Via
        )
    }

    const fn adds_x_client_side(self) -> bool {
        matches!(self, Self::XClientSideVia | Self::XClientSide)
    }

    const fn adds_x_forwarded_for(self) -> bool {
        matches!(
            self,
            Self::LegacyXForwardedFor | Self::XForwardedForVia | Self::XForwardedFor
        )
    }
}

/// What happens to `Via`, `X-ClientSide`, `Forwarded` and `X-Forwarded-*` that come with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inbound {
    /// Removed: at the edge they are a client's claim, and a `Via` breaks connection-bound logins.
    Strip,
    /// Kept, and ours are added to them: for a service behind another proxy that is trusted.
    Keep,
}

/// What is added to and removed from requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderPolicy {
    /// What is added.
    pub mode: HeaderMode,
    /// What is removed.
    pub inbound: Inbound,
    /// What is added beside what the mode adds.
    pub told: Told,
}

impl HeaderPolicy {
    /// For Exchange: adds nothing and strips everything that names a proxy.
    ///
    /// RFC 9110 section 7.6.3 says that a gateway MUST add a `Via` to requests. Not doing so is deliberate: IIS
    /// takes a request with `Via` for one that many clients share, and ends the login with it.
    pub const fn exchange() -> Self {
        Self {
            mode: HeaderMode::None,
            inbound: Inbound::Strip,
            told: Told::NOTHING,
        }
    }

    /// What a LoadMaster did in 2015 unless told otherwise: the policy that broke Mac Mail on Exchange.
    pub const fn load_master_2015() -> Self {
        Self {
            mode: HeaderMode::XClientSideVia,
            inbound: Inbound::Keep,
            told: Told::NOTHING,
        }
    }

    /// Makes a [normal](normalize) head that a client sent the one that a server gets.
    pub(crate) fn apply(
        self,
        head: &mut request::Parts,
        client: ClientAddr,
        scheme: Scheme,
    ) -> Result<(), Error> {
        let received = std::mem::replace(&mut head.version, Version::HTTP_11);

        let named = named_by_connection(&head.headers);
        retain(&mut head.headers, |name| {
            !is_hop_by_hop(name, &named) && (self.inbound == Inbound::Keep || !names_proxy(name))
        });
        self.add(&mut head.headers, client, received)?;
        self.told.add(&mut head.headers, client, scheme)
    }

    fn add(
        self,
        headers: &mut HeaderMap,
        client: ClientAddr,
        received: Version,
    ) -> Result<(), Error> {
        if self.mode.adds_x_client_side() {
            let line = format!("{} -> {}", canonical(client.peer), canonical(client.local));
            headers.insert(X_CLIENT_SIDE, value(line)?);
        }
        if self.mode.adds_x_forwarded_for() || self.told.wants_x_forwarded_for() {
            forwarded::add_x_forwarded_for(headers, client)?;
        }
        if self.mode.adds_via() {
            let protocol = match received {
                Version::HTTP_10 => "1.0",
                Version::HTTP_2 => "2",
                _ => "1.1",
            };
            let ours = format!("{protocol} {PSEUDONYM}");
            append_to_list(headers, VIA, ours.as_bytes())?;
        }
        Ok(())
    }
}

/// Leaves one way to say what a request is for: one `Host`, and a target without host.
pub(crate) fn normalize(head: &mut request::Parts) -> Result<(), Error> {
    check_host(head)?;
    to_origin_form(head)
}

/// Makes the head that a server sent the one that a client gets.
pub(crate) fn clean_response(headers: &mut HeaderMap) {
    let named = named_by_connection(headers);
    retain(headers, |name| !is_hop_by_hop(name, &named));
}

/// Whether a request has a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyPresence {
    Absent,
    Present,
}

/// Whether the client waits for a `100 Continue` (RFC 9110 section 10.1.1). If the header means nothing, because
/// the client speaks HTTP/1.0 or sends no body, it is removed.
pub(crate) fn expects_continue(
    headers: &mut HeaderMap,
    received: Version,
    body: BodyPresence,
) -> bool {
    let expects = headers
        .get_all(EXPECT)
        .iter()
        .any(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    let meant = received >= Version::HTTP_11 && body == BodyPresence::Present;
    if expects && !meant {
        retain(headers, |name| name != EXPECT);
    }
    expects && meant
}

/// Whether the sender of this head closes its connection after the message (RFC 9112 section 9.3).
pub(crate) fn closes(version: Version, headers: &HeaderMap) -> bool {
    let named = named_by_connection(headers);
    let says = |option: &str| named.iter().any(|name| name.eq_ignore_ascii_case(option));
    says("close") || (version < Version::HTTP_11 && !says("keep-alive"))
}

/// RFC 9112 section 3.2: a request with several `Host` lines, or HTTP/1.1 with none, is answered with 400.
fn check_host(head: &mut request::Parts) -> Result<(), Error> {
    let hosts = head.headers.get_all(HOST).iter().count();
    match (hosts, head.version) {
        (1, _) => Ok(()),
        (0, Version::HTTP_09 | Version::HTTP_10) => {
            // HTTP/1.1, which we speak to the server, needs the line; empty says "not known".
            head.headers.insert(HOST, HeaderValue::from_static(""));
            Ok(())
        }
        (count, _) => Err(Error::new(
            Kind::BadRequest,
            format!("expected one Host header, found {count}"),
        )),
    }
}

/// RFC 9112 section 3.2: a server gets origin-form, or `*` with `OPTIONS`; an authority in the target replaces
/// `Host` (section 3.2.2).
fn to_origin_form(head: &mut request::Parts) -> Result<(), Error> {
    if head.method == Method::CONNECT {
        return Err(Error::new(
            Kind::Tunnel,
            "CONNECT is for forward proxies; this is a gateway",
        ));
    }
    let Some(authority) = head.uri.authority() else {
        return Ok(());
    };
    // Credentials in an http URI are not for the server (RFC 9110 section 4.2.4).
    let host = authority.as_str().rsplit('@').next().unwrap_or_default();
    head.headers.insert(HOST, value(host)?);
    let path = head.uri.path_and_query().cloned();
    head.uri = Uri::from(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
    Ok(())
}

/// RFC 9110 section 7.6.1: the options of `Connection`, which name headers that end here.
fn named_by_connection(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all(CONNECTION).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|option| option.trim().to_ascii_lowercase())
        .filter(|option| !option.is_empty())
        .collect()
}

/// RFC 9110 section 7.6.1. `Upgrade` is among them: the server gets a plain request and answers it as one,
/// as section 7.8 allows. Exchange has no WebSocket.
fn is_hop_by_hop(name: &HeaderName, named: &[String]) -> bool {
    let listed = [
        CONNECTION,
        KEEP_ALIVE,
        PROXY_CONNECTION,
        TE,
        TRANSFER_ENCODING,
        UPGRADE,
    ];
    // `Connection: host` and the like would take from the server what it needs to understand the message.
    let end_to_end = [HOST, TRAILER, http::header::CONTENT_LENGTH];
    listed.contains(name)
        || (named.iter().any(|option| option == name.as_str()) && !end_to_end.contains(name))
}

/// Also with `_` for `-`: servers that put headers into variables (CGI, and what descends from it) can't tell them apart.
fn names_proxy(name: &HeaderName) -> bool {
    let starts = |text: &str| {
        let mut bytes = name.as_str().bytes().map(|byte| match byte {
            b'_' => b'-',
            byte => byte,
        });
        text.bytes().all(|byte| bytes.next() == Some(byte))
    };
    let is =
        |known: &HeaderName| name.as_str().len() == known.as_str().len() && starts(known.as_str());
    [VIA, FORWARDED].contains(name) || is(&X_CLIENT_SIDE) || starts(X_FORWARDED)
}

/// Keeps the headers that `keep` wants, and their order, which `HeaderMap::remove` would not: it fills the gap
/// with the last header.
pub(crate) fn retain(headers: &mut HeaderMap, keep: impl Fn(&HeaderName) -> bool) {
    if headers.keys().all(&keep) {
        return;
    }
    let all = std::mem::take(headers);
    headers.reserve(all.len());
    let mut current = None;
    for (name, value) in all {
        // The map yields a name with its first value, and its further values with none.
        current = name.or(current);
        if let Some(name) = current.as_ref().filter(|name| keep(name)) {
            headers.append(name.clone(), value);
        }
    }
}

/// Changes the lines of `name`, or leaves them out where `edit` says `None`; the order of headers stays.
pub(crate) fn edit_lines(
    headers: &mut HeaderMap,
    name: &HeaderName,
    edit: impl Fn(&HeaderValue) -> Option<HeaderValue>,
) {
    let all = std::mem::take(headers);
    headers.reserve(all.len());
    let mut current = None;
    for (next, value) in all {
        current = next.or(current);
        let Some(current) = &current else { continue };
        let value = if current == name {
            edit(&value)
        } else {
            Some(value)
        };
        if let Some(value) = value {
            headers.append(current.clone(), value);
        }
    }
}

/// Adds `ours` to the end of the list that all lines of `name` make, as one line.
fn append_to_list(headers: &mut HeaderMap, name: HeaderName, ours: &[u8]) -> Result<(), Error> {
    let mut list = Vec::new();
    for inbound in headers.get_all(&name) {
        list.extend_from_slice(inbound.as_bytes());
        list.extend_from_slice(b", ");
    }
    list.extend_from_slice(ours);
    headers.insert(name, value(list)?);
    Ok(())
}

pub(crate) fn value(bytes: impl Into<Vec<u8>>) -> Result<HeaderValue, Error> {
    HeaderValue::try_from(bytes.into())
        .map_err(|error| Error::new(Kind::BadRequest, "not a header value").because(error))
}

/// An IPv4 client of a dual-stack socket as what it is, not as `::ffff:192.0.2.1`.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests;
