//! The loads. Every contender gets each of them.
//!
//! Sizes and numbers of connections follow the first measurements of `AF_XDP` against kernel sockets, whose
//! crossover lies between 4 KB and 8 KB of body: 1 KB is on one side, 64 KB and 1 MB are on the other.

use serde::{Deserialize, Serialize};

/// One kind of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Case {
    /// 1 KB bodies, connections kept.
    KeepAlive,
    /// 1 KB bodies, a connection for each.
    PerRequest,
    /// 1 KB bodies over TLS in front, plain towards the pool.
    Tls,
    /// 1 KB bodies over TLS in front and towards the pool, whose certificates are verified.
    ReEncrypt,
    /// 64 KB bodies.
    Body64K,
    /// 1 MB bodies.
    Body1M,
}

impl Case {
    /// In the order of the report.
    pub const ALL: [Self; 6] = [
        Self::KeepAlive,
        Self::PerRequest,
        Self::Tls,
        Self::ReEncrypt,
        Self::Body64K,
        Self::Body1M,
    ];

    /// For people.
    pub const fn title(self) -> &'static str {
        match self {
            Self::KeepAlive => "1 KB, keep-alive",
            Self::PerRequest => "1 KB, connection per request",
            Self::Tls => "1 KB, keep-alive, TLS in front",
            Self::ReEncrypt => "1 KB, keep-alive, TLS on both sides",
            Self::Body64K => "64 KB, keep-alive",
            Self::Body1M => "1 MB, keep-alive",
        }
    }

    /// Bytes of a body.
    pub const fn body(self) -> u32 {
        match self {
            Self::KeepAlive | Self::PerRequest | Self::Tls | Self::ReEncrypt => 1_024,
            Self::Body64K => 65_536,
            Self::Body1M => 1_048_576,
        }
    }

    /// Connections at a time. Few for large bodies: more only queue in front of the same two CPUs.
    pub const fn connections(self) -> u32 {
        match self {
            Self::KeepAlive | Self::PerRequest | Self::Tls | Self::ReEncrypt => 64,
            Self::Body64K => 16,
            Self::Body1M => 4,
        }
    }

    /// Scheme of the clients' URL.
    pub const fn scheme(self) -> &'static str {
        match self {
            Self::Tls | Self::ReEncrypt => "https",
            Self::KeepAlive | Self::PerRequest | Self::Body64K | Self::Body1M => "http",
        }
    }

    /// Where a balancer listens for it.
    pub const fn port(self) -> u16 {
        match self {
            Self::ReEncrypt => RE_ENCRYPT_PORT,
            Self::Tls => 443,
            Self::KeepAlive | Self::PerRequest | Self::Body64K | Self::Body1M => 80,
        }
    }

    /// A header field that every request has besides `Host`.
    pub const fn field(self) -> Option<&'static str> {
        match self {
            Self::PerRequest => Some("Connection: close"),
            Self::KeepAlive | Self::Tls | Self::ReEncrypt | Self::Body64K | Self::Body1M => None,
        }
    }
}

/// Port of a balancer that speaks TLS on both sides.
pub(super) const RE_ENCRYPT_PORT: u16 = 8443;
