//! What servers are told of the client's side, what of a client's own claims is believed, and `Strict-Transport-Security`.

use std::time::Duration;

/// `forwarded`: one way to tell a server of the client's side.
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
    /// `Forwarded` (RFC 7239): all of it.
    Forwarded,
}

/// `inbound`: what becomes of `Via`, `X-ClientSide`, `Forwarded` and `X-Forwarded-*` that come with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inbound {
    /// Removed: at the edge they are a client's claim.
    Strip,
    /// Kept, because only a trusted proxy can reach the service.
    Keep,
}

/// `hsts`: the `Strict-Transport-Security` that clients get over TLS (RFC 6797).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hsts {
    /// Whole days for which browsers shall use TLS only; none takes an earlier answer back.
    pub max_age: Duration,
    /// Where it holds.
    pub reach: HstsReach,
}

/// For which names [`Hsts`] holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HstsReach {
    /// The host's own.
    Host,
    /// All below it as well.
    Subdomains,
    /// All below it as well, and browsers may ship it.
    Preload,
}
