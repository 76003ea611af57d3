//! Who may connect to a service, and how much of it one client, or all of them, may have.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// A network, such as `10.0.0.0/8`; an address by itself is one of one host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    /// Its first address: all bits behind the prefix are zero.
    pub address: IpAddr,
    /// Bits that all addresses of it have in common; at most as many as an address has.
    pub length: u8,
}

/// A text that is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a network, such as \"10.0.0.0/8\" or \"2001:db8::/32\", with zeros behind the prefix")]
pub struct NotANetwork;

impl FromStr for Prefix {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NotANetwork)?;
        let (bits, most) = match address {
            IpAddr::V4(address) => (u128::from(address.to_bits()), 32),
            // One way to write each network, or lists would have to be searched for both.
            IpAddr::V6(address) if address.to_ipv4_mapped().is_some() => return Err(NotANetwork),
            IpAddr::V6(address) => (address.to_bits(), 128),
        };
        let length: u8 = match length {
            None => most,
            Some(text) if text.bytes().all(|b| b.is_ascii_digit()) => {
                text.parse().map_err(|_| NotANetwork)?
            }
            Some(_) => return Err(NotANetwork),
        };
        let behind = most.checked_sub(length).ok_or(NotANetwork)?;
        let rest = 1_u128
            .checked_shl(u32::from(behind))
            .map_or(u128::MAX, |bit| bit - 1);
        if bits & rest == 0 {
            Ok(Self { address, length })
        } else {
            Err(NotANetwork)
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

/// `allow`, `deny` and `deny_file`. The longest prefix that holds an address decides; if none does, it is let in
/// unless somebody is allowed by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Who may connect.
    pub allow: Vec<Prefix>,
    /// Who may not.
    pub deny: Vec<Prefix>,
    /// A file with more of those, one a line; relative to the configuration file.
    pub deny_file: Option<PathBuf>,
}

/// `limits` of a service; what is `None` has no limit of ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Connections of clients at once.
    pub connections: Option<NonZeroU32>,
    /// Of these, from one IPv4 address or IPv6 /64.
    pub connections_per_client: Option<NonZeroU32>,
    /// Lines in the head of a request.
    pub headers: Option<NonZeroU32>,
    /// Bytes in the head of a request.
    pub header_bytes: Option<NonZeroU32>,
    /// For the head of a request.
    pub request_head: Option<Duration>,
    /// For the handshake of TLS.
    pub tls_handshake: Option<Duration>,
    /// Of the requests of all routes together.
    pub requests: RequestLimits,
}

/// How many requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestLimits {
    /// Under way at once.
    pub concurrent: Option<NonZeroU32>,
    /// In a time.
    pub rate: Option<Rate>,
    /// In a time, from one IPv4 address or IPv6 /64.
    pub rate_per_client: Option<Rate>,
    /// What becomes of those above a rate.
    pub when_exceeded: WhenExceeded,
}

/// So many in a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub requests: NonZeroU32,
    /// In which time.
    pub per: Duration,
    /// How many of these may come at once.
    pub burst: NonZeroU32,
}

/// `when_exceeded`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenExceeded {
    /// Status 429 and `Retry-After`.
    #[default]
    TooManyRequests,
    /// Status 503 and `Retry-After`.
    Unavailable,
    /// The connection is closed.
    Drop,
}

/// How large and how slow the bodies of requests may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BodyLimits {
    /// The most bytes.
    pub max: Option<NonZeroU32>,
    /// The least speed.
    pub rate: Option<BodyRate>,
}

/// `body_rate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyRate {
    /// On average.
    pub bytes_per_second: NonZeroU32,
    /// How long a client may be silent at first, and how much it can save up.
    pub grace: Duration,
}

/// `proxy_protocol`: how servers are told who a connection is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// One line of text.
    V1,
    /// Binary.
    V2,
}
