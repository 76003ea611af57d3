//! Values with variables in them.
//!
//! Invariant: whatever a request says, one value comes out. Targets, `Host` and names hold no byte that a value may not;
//! should a text of whoever built the rule do so, it is %-encoded.

use std::io::Write as _;

use http::HeaderValue;

use super::Facts;
use crate::headers::canonical;

/// A header's value, with variables in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(pub Vec<Piece>);

/// A piece of a [`Template`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// As it stands.
    Text(String),
    /// What it is for each request.
    Variable(Variable),
}

/// What a [`Template`] can say of a request as the client sent it. What isn't known is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variable {
    /// The client's address.
    ClientIp,
    /// The client's port.
    ClientPort,
    /// The address that the client connected to.
    ListenIp,
    /// The port that the client connected to.
    ListenPort,
    /// `http` or `https`.
    Scheme,
    /// The name that the client's TLS was made for (SNI).
    Sni,
    /// Method.
    Method,
    /// `Host`, with its port.
    Host,
    /// Path of the target, without the query.
    Path,
    /// Query of the target.
    Query,
    /// Name of the server that answered.
    Server,
}

impl Template {
    pub(super) fn expand(&self, facts: Facts<'_>) -> HeaderValue {
        if let [Piece::Text(text)] = &self.0[..] {
            return value(text.as_bytes());
        }
        let mut bytes = Vec::with_capacity(64);
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => bytes.extend_from_slice(text.as_bytes()),
                Piece::Variable(variable) => variable.write(&mut bytes, facts),
            }
        }
        value(&bytes)
    }
}

impl Variable {
    fn write(self, bytes: &mut Vec<u8>, facts: Facts<'_>) {
        let asked = facts.asked;
        let (peer, local) = (canonical(facts.client.peer), canonical(facts.client.local));
        // Writing to memory does not fail.
        let _ = match self {
            Self::ClientIp => write!(bytes, "{}", peer.ip()),
            Self::ClientPort => write!(bytes, "{}", peer.port()),
            Self::ListenIp => write!(bytes, "{}", local.ip()),
            Self::ListenPort => write!(bytes, "{}", local.port()),
            Self::Scheme => write!(bytes, "{}", facts.scheme.name()),
            Self::Sni => write!(bytes, "{}", facts.server_name.unwrap_or_default()),
            Self::Method => write!(bytes, "{}", asked.method),
            Self::Host => bytes.write_all(asked.host.as_ref().map_or(&[], HeaderValue::as_bytes)),
            Self::Path => write!(bytes, "{}", asked.uri.path()),
            Self::Query => write!(bytes, "{}", asked.uri.query().unwrap_or_default()),
            Self::Server => write!(bytes, "{}", facts.server.unwrap_or_default()),
        };
    }
}

/// `bytes` as a value.
pub(super) fn value(bytes: &[u8]) -> HeaderValue {
    HeaderValue::from_bytes(bytes).unwrap_or_else(|_| {
        let mut encoded = Vec::with_capacity(bytes.len() + 2);
        for &byte in bytes {
            match byte {
                b'\t' | b' '..=b'~' | 0x80.. => encoded.push(byte),
                byte => encoded.extend_from_slice(format!("%{byte:02X}").as_bytes()),
            }
        }
        // Nothing is left that it could refuse.
        HeaderValue::from_bytes(&encoded).unwrap_or_else(|_| HeaderValue::from_static(""))
    })
}
