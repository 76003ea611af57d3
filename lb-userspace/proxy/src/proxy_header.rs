//! The PROXY protocol (haproxy.org, `proxy-protocol.txt`, versions 1 and 2): who a connection is from, said before its first
//! byte by a balancer that made it for somebody else.
//!
//! Reading takes the header's bytes and not one more, so that what follows is still in the stream. Invariant: a header that is
//! not understood to its last byte is an error and never a guess; the addresses of a connection are either the header's or,
//! if the sender says that the connection is its own, the connection's. Not here: who may send one ([`crate::entrance`]).

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::service::ClientAddr;

/// Which form of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// One line of text.
    V1,
    /// Binary.
    V2,
}

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
const VERSION: u8 = 0x20;
const LOCAL: u8 = 0;
const PROXY: u8 = 1;
const UNSPECIFIED: u8 = 0x00;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;
const TLV_CRC32C: u8 = 0x03;

/// The longest line of version 1, `\r\n` included (section 2.1).
const LONGEST_LINE: usize = 107;
/// The shortest, `PROXY UNKNOWN\r\n`; less than any header of version 2.
const SHORTEST: usize = 15;
/// Signature, command, family and length (section 2.2).
const FIXED: usize = 16;
/// Addresses take 36 bytes and what is known of TLVs a few hundred; nobody needs the 64 KiB that the length can say.
const LONGEST_REST: usize = 4096;

/// The header for a server, of a connection that is made for `client`; for nobody if `None`, as a health check's is.
pub fn write(version: ProxyProtocol, client: Option<ClientAddr>) -> Vec<u8> {
    match (version, client) {
        (ProxyProtocol::V1, None) => b"PROXY UNKNOWN\r\n".to_vec(),
        (ProxyProtocol::V1, Some(ClientAddr { peer, local })) => {
            let (from, to) = same_family(peer.ip(), local.ip());
            let family = if from.is_ipv4() { "TCP4" } else { "TCP6" };
            let (from_port, to_port) = (peer.port(), local.port());
            format!("PROXY {family} {from} {to} {from_port} {to_port}\r\n").into_bytes()
        }
        (ProxyProtocol::V2, None) => binary(LOCAL, UNSPECIFIED, &[]),
        (ProxyProtocol::V2, Some(ClientAddr { peer, local })) => {
            let (from, to) = same_family(peer.ip(), local.ip());
            let family = if from.is_ipv4() { TCP4 } else { TCP6 };
            let ports = [peer.port().to_be_bytes(), local.port().to_be_bytes()].concat();
            binary(PROXY, family, &[octets(from), octets(to), ports].concat())
        }
    }
}

/// Both ends as one family, for a header has no room for another pair: one of each comes from a proxy before us.
fn same_family(from: IpAddr, to: IpAddr) -> (IpAddr, IpAddr) {
    let wide = |address| match address {
        IpAddr::V4(address) => IpAddr::V6(address.to_ipv6_mapped()),
        address @ IpAddr::V6(_) => address,
    };
    let (from, to) = (from.to_canonical(), to.to_canonical());
    if from.is_ipv4() == to.is_ipv4() {
        (from, to)
    } else {
        (wide(from), wide(to))
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn binary(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
    // 36 at most.
    let length = u16::try_from(addresses.len()).unwrap_or_default();
    let fixed = [VERSION | command, family];
    [&SIGNATURE[..], &fixed, &length.to_be_bytes(), addresses].concat()
}

/// Reads the header at the start of `stream`; `None` if the sender speaks for itself.
pub(crate) async fn read<S>(stream: &mut S) -> io::Result<Option<ClientAddr>>
where
    S: AsyncRead + Unpin,
{
    let mut start = [0; FIXED];
    let (shortest, last) = start.split_at_mut(SHORTEST);
    stream.read_exact(shortest).await?;
    if shortest.starts_with(&SIGNATURE) {
        stream.read_exact(last).await?;
        let length = usize::from(u16::from_be_bytes([start[14], start[15]]));
        if length > LONGEST_REST {
            return Err(bad("longer than any that makes sense"));
        }
        let mut rest = vec![0; length];
        stream.read_exact(&mut rest).await?;
        return parse_binary(&start, &rest);
    }
    if !shortest.starts_with(b"PROXY ") {
        return Err(bad("neither of version 1 nor of version 2"));
    }
    // Where the line ends is not known before it does. It is the one of its connection, and it is short.
    let mut line = shortest.to_vec();
    while !line.ends_with(b"\r\n") {
        if line.len() == LONGEST_LINE {
            return Err(bad("a line that doesn't end"));
        }
        line.push(stream.read_u8().await?);
    }
    parse_line(&line)
}

fn bad(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Section 2.1: the words are separated by one space each.
fn parse_line(line: &[u8]) -> io::Result<Option<ClientAddr>> {
    let text = std::str::from_utf8(line)
        .ok()
        .and_then(|text| text.strip_suffix("\r\n"));
    let text = text.ok_or_else(|| bad("not a line of text"))?;
    if text.contains(['\r', '\n']) {
        return Err(bad("more than one line"));
    }
    let words: Vec<_> = text.split(' ').collect();
    let ends = match &words[..] {
        // "The receiver must ignore anything presented before the CRLF."
        ["PROXY", "UNKNOWN", ..] => return Ok(None),
        ["PROXY", "TCP4", a, b, ap, bp] => {
            let ip = |text: &str| text.parse().ok().map(IpAddr::V4);
            ip(a).zip(ip(b)).zip(port(ap).zip(port(bp)))
        }
        ["PROXY", "TCP6", a, b, ap, bp] => {
            let ip = |text: &str| text.parse().ok().map(IpAddr::V6);
            ip(a).zip(ip(b)).zip(port(ap).zip(port(bp)))
        }
        _ => None,
    };
    let ((a, b), (ap, bp)) = ends.ok_or_else(|| bad("a line that makes no sense"))?;
    Ok(Some(ClientAddr {
        peer: SocketAddr::new(a, ap),
        local: SocketAddr::new(b, bp),
    }))
}

/// Digits without a sign and without zeros ahead of them.
fn port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    plain.then(|| text.parse().ok()).flatten()
}

/// Section 2.2.
fn parse_binary(fixed: &[u8; FIXED], rest: &[u8]) -> io::Result<Option<ClientAddr>> {
    if fixed[12] & 0xf0 != VERSION {
        return Err(bad("of an unknown version"));
    }
    let (ends, tlvs) = match fixed[13] {
        TCP4 => {
            let (from, more) = split::<4>(rest)?;
            let (to, more) = split::<4>(more)?;
            (Some((IpAddr::from(*from), IpAddr::from(*to))), more)
        }
        TCP6 => {
            let (from, more) = split::<16>(rest)?;
            let (to, more) = split::<16>(more)?;
            (Some((IpAddr::from(*from), IpAddr::from(*to))), more)
        }
        // Datagrams, Unix sockets, or nothing said: the rest is to be skipped.
        _ => (None, &[][..]),
    };
    let (client, tlvs) = match ends {
        Some((from, to)) => {
            let ([a, b, c, d], tlvs) = split::<4>(tlvs)?;
            let peer = SocketAddr::new(from, u16::from_be_bytes([*a, *b]));
            let local = SocketAddr::new(to, u16::from_be_bytes([*c, *d]));
            (Some(ClientAddr { peer, local }), tlvs)
        }
        None => (None, tlvs),
    };
    check_tlvs(fixed, rest, tlvs)?;
    match fixed[12] & 0x0f {
        LOCAL => Ok(None),
        PROXY => Ok(client),
        _ => Err(bad("an unknown command")),
    }
}

fn split<const N: usize>(bytes: &[u8]) -> io::Result<(&[u8; N], &[u8])> {
    bytes
        .split_first_chunk()
        .ok_or_else(|| bad("too short for its addresses"))
}

/// Section 2.2.3: the values are walked over, and a checksum is held to be right if there is one.
fn check_tlvs(fixed: &[u8; FIXED], rest: &[u8], mut tlvs: &[u8]) -> io::Result<()> {
    while let Some((&[kind, high, low], more)) = tlvs.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes([high, low]));
        let Some((value, behind)) = more.split_at_checked(length) else {
            return Err(bad("a value that is longer than the header"));
        };
        if kind == TLV_CRC32C {
            let claimed: [u8; 4] = value
                .try_into()
                .map_err(|_| bad("a checksum that is none"))?;
            let at = rest.len() - more.len();
            let zeroed = rest.iter().enumerate();
            let zeroed = zeroed.map(|(i, &byte)| if (at..at + 4).contains(&i) { 0 } else { byte });
            if crc32c(fixed.iter().copied().chain(zeroed)) != u32::from_be_bytes(claimed) {
                return Err(bad("a checksum that is wrong"));
            }
        }
        tlvs = behind;
    }
    if tlvs.is_empty() {
        Ok(())
    } else {
        Err(bad("bytes behind its last value"))
    }
}

/// CRC-32C (RFC 9260 appendix A), bit by bit: a header is short, and comes once for each connection.
fn crc32c(bytes: impl Iterator<Item = u8>) -> u32 {
    let crc = bytes.fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 }
        })
    });
    !crc
}

#[cfg(test)]
mod tests;
