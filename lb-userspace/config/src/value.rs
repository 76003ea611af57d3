//! Single values: from a TOML string or number to a type that holds only what makes sense.
//!
//! Invariant: every string is fully parsed here, and no caller looks into one again.
//! Not here: whether values fit together ([`crate::root`], [`crate::service`]).

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use http::uri::{Authority, PathAndQuery};
use rustls_pki_types::ServerName;

use crate::model::{HashKey, InterfaceName, Name, PathPrefix, PortRange};
use crate::reader::Node;

pub(crate) fn name(node: &Node<'_>) -> Option<Name> {
    node.string("a name of 1 to 63 characters a-z, 0-9 and -", Name::new)
}

pub(crate) fn interface(node: &Node<'_>) -> Option<InterfaceName> {
    node.string(
        "the name of a network interface, such as \"eth0\"",
        InterfaceName::new,
    )
}

/// An address that packets can be sent to, and a port.
pub(crate) fn endpoint(node: &Node<'_>) -> Option<SocketAddr> {
    const EXPECTED: &str =
        "an address and a port, such as \"10.203.1.100:443\" or \"[fd00:203:1::100]:443\"";
    let address = node.string(EXPECTED, |text| text.parse::<SocketAddr>().ok())?;
    if address.port() == 0 || !is_unicast(address.ip()) {
        let expected = "an address of one host, with a port that is not 0";
        return node.bad_value(&address.to_string(), expected);
    }
    Some(address)
}

pub(crate) fn address(node: &Node<'_>) -> Option<IpAddr> {
    const EXPECTED: &str = "an address, such as \"10.203.2.100\" or \"fd00:203:2::100\"";
    let address = node.string(EXPECTED, |text| text.parse::<IpAddr>().ok())?;
    if !is_unicast(address) {
        return node.bad_value(&address.to_string(), "an address of one host");
    }
    Some(address)
}

/// XDP compares whole addresses, and so a wildcard would match nothing. An IPv4-mapped address is never in a packet.
fn is_unicast(address: IpAddr) -> bool {
    let never = match address {
        IpAddr::V4(address) => address.is_broadcast(),
        IpAddr::V6(address) => address.to_ipv4_mapped().is_some(),
    };
    !(never || address.is_unspecified() || address.is_multicast())
}

pub(crate) fn hash_key(node: &Node<'_>) -> Option<HashKey> {
    node.string(
        "a secret of at least 16 bytes, such as the output of `openssl rand -hex 32`",
        HashKey::new,
    )
}

pub(crate) fn ports(node: &Node<'_>) -> Option<PortRange> {
    node.string(
        "a range of ports from 1 to 65535, such as \"61000-65535\"",
        |text| {
            let (first, last) = text.split_once('-')?;
            PortRange::new(first.trim().parse().ok()?, last.trim().parse().ok()?)
        },
    )
}

/// A whole number with a unit, such as `500ms`, within `range`.
pub(crate) fn duration(node: &Node<'_>, range: RangeInclusive<Duration>) -> Option<Duration> {
    let found = node.string(
        "a duration: a whole number with ms, s, m or h, such as \"500ms\" or \"40m\"",
        parse_duration,
    )?;
    if !range.contains(&found) {
        let expected = format!("from {} to {}", text(*range.start()), text(*range.end()));
        return node.bad_value(&text(found), expected);
    }
    Some(found)
}

fn parse_duration(text: &str) -> Option<Duration> {
    let unit = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit);
    let number: u64 = number.parse().ok()?;
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        "h" => number.checked_mul(60 * 60).map(Duration::from_secs),
        _ => None,
    }
}

/// `duration`, in the form that [`self::duration`] reads.
pub(crate) fn text(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    let units = [("h", 3_600_000), ("m", 60_000), ("s", 1000)];
    match units
        .into_iter()
        .find(|(_, unit)| milliseconds.is_multiple_of(*unit))
    {
        Some((name, unit)) => format!("{}{name}", milliseconds / unit),
        None => format!("{milliseconds}ms"),
    }
}

pub(crate) fn file(node: &Node<'_>) -> Option<PathBuf> {
    node.string("the path of a file", |text| {
        (!text.is_empty() && !text.contains('\0')).then(|| PathBuf::from(text))
    })
}

/// Path of a Unix socket: `sun_path` has 108 bytes, the last one for the NUL (unix(7)).
pub(crate) fn socket(node: &Node<'_>) -> Option<PathBuf> {
    node.string("an absolute path of at most 107 bytes", |text| {
        let fits = text.starts_with('/') && text.len() <= 107 && !text.contains('\0');
        fits.then(|| PathBuf::from(text))
    })
}

pub(crate) fn server_name(node: &Node<'_>) -> Option<ServerName<'static>> {
    node.string("a host name, such as \"mail.example.com\"", |text| {
        ServerName::try_from(text).ok().map(|name| name.to_owned())
    })
}

pub(crate) fn authority(node: &Node<'_>) -> Option<Authority> {
    const EXPECTED: &str = "a host name without user name, such as \"mail.example.com\"";
    node.string(EXPECTED, |text| {
        text.parse().ok().filter(|_| !text.contains('@'))
    })
}

pub(crate) fn path_and_query(node: &Node<'_>) -> Option<PathAndQuery> {
    node.string(
        "a path that begins with /, such as \"/owa/healthcheck.htm\"",
        |text| text.parse().ok().filter(|_| text.starts_with('/')),
    )
}

/// First bytes of a body; the health checker holds no more than this of it.
pub(crate) fn body_start(node: &Node<'_>) -> Option<String> {
    node.string("a string of at most 256 bytes", |text| {
        (text.len() <= 256).then(|| text.to_owned())
    })
}

/// Also what a `path_prefix` is replaced with.
pub(crate) fn path_prefix(node: &Node<'_>) -> Option<PathPrefix> {
    const EXPECTED: &str =
        "the beginning of a path, such as \"/owa\": without %, query, \"//\", \"/./\" and \"/../\"";
    node.string(EXPECTED, |text| segments(text).map(prefix))
}

/// The path whose segments these are, without a `/` at its end.
pub(crate) fn prefix(segments: &str) -> PathPrefix {
    let segments = segments.strip_suffix('/').unwrap_or(segments);
    PathPrefix(format!("/{}", segments.to_ascii_lowercase()))
}

/// What follows the first `/` of a path that can be read in one way only.
pub(crate) fn segments(path: &str) -> Option<&str> {
    let segments = path.strip_prefix('/')?;
    let plain = !path.contains(['%', '?', '#', '\\', ';']) && path.parse::<PathAndQuery>().is_ok();
    let names = segments.strip_suffix('/').unwrap_or(segments);
    let is_name = |segment| !matches!(segment, "" | "." | "..");
    let clean = names.is_empty() || names.split('/').all(is_name);
    (plain && clean).then_some(segments)
}
