//! What a server is told of the client's side of the proxy: `X-Forwarded-*`, and `Forwarded` as RFC 7239 has it.
//!
//! Invariant: what is told is what the proxy knows itself. What a client claims was removed before, or is kept because a
//! trusted proxy in front said it: then lists (`X-Forwarded-For`, `Forwarded`) get our entry at their end, and what
//! can only be said once (`-Proto`, `-Port`, `-Host`) stays as the one nearer to the client said it.

use std::net::SocketAddr;

use http::header::{FORWARDED, HOST};
use http::{HeaderMap, HeaderName};

use super::{X_FORWARDED_FOR, append_to_list, canonical, value};
use crate::error::Error;
use crate::service::ClientAddr;

const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// One way to tell a server of the client's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tell {
    /// `X-Forwarded-For`: the client's address.
    XForwardedFor,
    /// `X-Forwarded-Proto`: `http` or `https`.
    XForwardedProto,
    /// `X-Forwarded-Port`: the port that the client connected to.
    XForwardedPort,
    /// `X-Forwarded-Host`: the client's `Host`.
    XForwardedHost,
    /// `Forwarded`: all of it in one (RFC 7239).
    Forwarded,
}

/// A set of [`Tell`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told(u8);

impl Told {
    /// None of them.
    pub const NOTHING: Self = Self(0);

    const fn has(self, tell: Tell) -> bool {
        self.0 & (1 << tell as u8) != 0
    }
}

impl FromIterator<Tell> for Told {
    fn from_iter<I: IntoIterator<Item = Tell>>(tells: I) -> Self {
        let bits = tells.into_iter().map(|tell| 1 << tell as u8);
        Self(bits.fold(0, |all, bit| all | bit))
    }
}

/// How the client speaks to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

impl Told {
    /// Adds what is to be told, except for `X-Forwarded-For`, which has [`add_x_forwarded_for`].
    pub(super) fn add(
        self,
        headers: &mut HeaderMap,
        client: ClientAddr,
        scheme: Scheme,
    ) -> Result<(), Error> {
        if self == Self::NOTHING {
            return Ok(());
        }
        if self.has(Tell::XForwardedProto) {
            add_once(headers, X_FORWARDED_PROTO, scheme.name())?;
        }
        if self.has(Tell::XForwardedPort) {
            let port = client.local.port().to_string();
            add_once(headers, X_FORWARDED_PORT, port)?;
        }
        let host = headers.get(HOST).map(|host| host.as_bytes().to_vec());
        let host = host.filter(|host| !host.is_empty());
        if let (true, Some(host)) = (self.has(Tell::XForwardedHost), &host) {
            add_once(headers, X_FORWARDED_HOST, host.as_slice())?;
        }
        if self.has(Tell::Forwarded) {
            let element = element(client, scheme, host.as_deref());
            append_to_list(headers, FORWARDED, &element)?;
        }
        Ok(())
    }

    pub(super) const fn wants_x_forwarded_for(self) -> bool {
        self.has(Tell::XForwardedFor)
    }
}

/// Adds the client's address to the list of them.
pub(super) fn add_x_forwarded_for(
    headers: &mut HeaderMap,
    client: ClientAddr,
) -> Result<(), Error> {
    let ours = canonical(client.peer).ip().to_string();
    append_to_list(headers, X_FORWARDED_FOR, ours.as_bytes())
}

fn add_once(
    headers: &mut HeaderMap,
    name: HeaderName,
    ours: impl Into<Vec<u8>>,
) -> Result<(), Error> {
    if !headers.contains_key(&name) {
        headers.insert(name, value(ours)?);
    }
    Ok(())
}

/// RFC 7239 section 4: `forwarded-element`.
fn element(client: ClientAddr, scheme: Scheme, host: Option<&[u8]>) -> Vec<u8> {
    let mut element = b"for=".to_vec();
    element.extend(node(client.peer));
    element.extend(b";by=");
    element.extend(node(client.local));
    if let Some(host) = host {
        element.extend(b";host=");
        element.extend(token_or_quoted(host));
    }
    element.extend(b";proto=");
    element.extend(scheme.name().bytes());
    element
}

/// RFC 7239 section 6: an IPv6 address is in brackets, and what has brackets or a colon must be quoted.
fn node(address: SocketAddr) -> Vec<u8> {
    token_or_quoted(canonical(address).to_string().as_bytes())
}

/// RFC 9110 sections 5.6.2 and 5.6.4.
fn token_or_quoted(text: &[u8]) -> Vec<u8> {
    let is_token_byte =
        |&byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if !text.is_empty() && text.iter().all(is_token_byte) {
        return text.to_vec();
    }
    let mut quoted = vec![b'"'];
    for &byte in text {
        if matches!(byte, b'"' | b'\\') {
            quoted.push(b'\\');
        }
        quoted.push(byte);
    }
    quoted.push(b'"');
    quoted
}
