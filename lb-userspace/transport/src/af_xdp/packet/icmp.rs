//! ICMP errors about segments that we have sent: a router's or the peer's word that one could not go on.
//!
//! Invariant: an [`IcmpError`] is whole, its checksums hold, and it was sent to the host whose packet it quotes. That says nothing
//! about its truth: anyone can send one (RFC 5927), and TCP must compare the quoted sequence number with what is in flight.
//!
//! Checksums are verified whatever [`RxChecksums`](super::RxChecksums) says: no sender leaves that of ICMP to hardware, a virtual
//! Ethernet pair's kernel included, so that one that is wrong is damage. What is quoted is not verified: its own
//! checksum may have been left to hardware, and covers more than is here.
//!
//! Deliberately not here: echo, redirects, parameter problems, source quench (RFC 6633) and neighbour discovery, which are the
//! host's or nobody's; quotes of anything but TCP; quotes with IPv6 extension headers, for we send none.

use std::net::SocketAddr;

use lb_tcp::{FlowKey, Seq, wire};

use super::{
    ETHERNET_LEN, ETHERTYPE_IPV4, ETHERTYPE_IPV6, IpHeader, Reject, header_holds, holds,
    parse_header, parse_packet, pseudo_header,
};

const PROTOCOL_ICMP: u8 = 1;
const PROTOCOL_ICMPV6: u8 = 58;

/// Type, code, checksum, and a word whose meaning depends on them.
const HEADER_LEN: usize = 8;

/// What any IPv6 link takes; a path that claims less is a lie or has a translator (RFC 8201 §4).
const IPV6_MIN_MTU: usize = 1280;

/// MTUs of common links (RFC 1191 §7.1), of which routers before that document leave us to guess.
const PLATEAUS: [usize; 9] = [32_000, 17_914, 8166, 4352, 2002, 1492, 1006, 508, 296];
const LEAST_PLATEAU: usize = 68;

/// An error about a segment of ours. Small and without borrows, so that it can be told to the worker who has sent that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpError {
    /// The connection of the segment, seen from here: its source is `local`.
    pub(in crate::af_xdp) key: FlowKey,
    /// Sequence number of the segment.
    pub(in crate::af_xdp) seq: Seq,
    /// What has happened to it.
    pub(in crate::af_xdp) kind: IcmpKind,
}

/// What has happened to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::af_xdp) enum IcmpKind {
    /// It did not fit into a link: the greatest IP packet that would.
    PacketTooBig {
        /// In bytes. Over IPv4 as small as it was said to be: below which it isn't believed is up to TCP.
        mtu: usize,
    },
    /// It could not be delivered; codes are those of RFC 792 or of RFC 4443, by the family of the key.
    Unreachable {
        /// Why.
        code: u8,
    },
    /// It went in circles, or a fragment of it was lost.
    TimeExceeded,
}

/// Reads a frame that is no TCP segment.
///
/// # Errors
/// [`Reject::NotTcp`] for everything that is not about a segment: no damage, but nothing for TCP.
pub(in crate::af_xdp) fn parse_icmp(frame: &[u8]) -> Result<IcmpError, Reject> {
    let (ethernet, ip) = frame
        .split_first_chunk::<ETHERNET_LEN>()
        .ok_or(Reject::Malformed)?;
    if ![ETHERTYPE_IPV4, ETHERTYPE_IPV6].contains(&[ethernet[12], ethernet[13]]) {
        return Err(Reject::NotIp);
    }
    let (header, packet) = parse_packet(ip)?;
    let (network, message) = packet
        .split_at_checked(header.len)
        .ok_or(Reject::Malformed)?;
    let is_v4 = header.ends.0.is_ipv4();
    // Unlike the older one, ICMPv6 covers the addresses (RFC 4443 §2.3).
    let covered = match header.protocol {
        PROTOCOL_ICMP if is_v4 => 0,
        PROTOCOL_ICMPV6 if !is_v4 => pseudo_header(header.ends, PROTOCOL_ICMPV6, message.len()),
        _ => return Err(Reject::NotTcp),
    };
    if !header_holds(network) || !holds(message, covered) {
        return Err(Reject::Checksum);
    }
    let (fields, quote) = message
        .split_first_chunk::<HEADER_LEN>()
        .ok_or(Reject::Malformed)?;
    let kind = if is_v4 {
        kind_of_ipv4(*fields)?
    } else {
        kind_of_ipv6(*fields)?
    };
    let quoted = parse_header(quote)?;
    about(kind, &header, &quoted, quote)
}

/// The error, if it quotes a segment that the one to whom it was sent has sent.
fn about(
    kind: IcmpKind,
    header: &IpHeader,
    quoted: &IpHeader,
    quote: &[u8],
) -> Result<IcmpError, Reject> {
    if quoted.is_fragment {
        return Err(Reject::Fragment);
    }
    if quoted.protocol != wire::PROTOCOL {
        return Err(Reject::NotTcp);
    }
    let (local, remote) = quoted.ends;
    let (_, told) = header.ends;
    // RFC 792 asks for so much of it, and no more.
    let segment = quote.get(quoted.len..).and_then(<[u8]>::first_chunk::<8>);
    let Some([s0, s1, d0, d1, seq @ ..]) = segment else {
        return Err(Reject::Malformed);
    };
    if local != told {
        return Err(Reject::Malformed);
    }
    let key = FlowKey {
        local: SocketAddr::new(local, u16::from_be_bytes([*s0, *s1])),
        remote: SocketAddr::new(remote, u16::from_be_bytes([*d0, *d1])),
    };
    let seq = Seq(u32::from_be_bytes(*seq));
    let kind = match kind {
        IcmpKind::PacketTooBig { mtu: 0 } => IcmpKind::PacketTooBig {
            mtu: plateau_below(quoted.total_len),
        },
        kind => kind,
    };
    Ok(IcmpError { key, seq, kind })
}

/// RFC 792, RFC 1191; an MTU of 0 was not told.
fn kind_of_ipv4(fields: [u8; HEADER_LEN]) -> Result<IcmpKind, Reject> {
    let [kind, code, .., high, low] = fields;
    match (kind, code) {
        (3, 4) => Ok(IcmpKind::PacketTooBig {
            mtu: u16::from_be_bytes([high, low]).into(),
        }),
        (3, code) => Ok(IcmpKind::Unreachable { code }),
        (11, _) => Ok(IcmpKind::TimeExceeded),
        _ => Err(Reject::NotTcp),
    }
}

/// The MTU that a link probably has which a packet of so many bytes did not fit into (RFC 1191 §5).
fn plateau_below(packet: usize) -> usize {
    let below = PLATEAUS.into_iter().find(|mtu| *mtu < packet);
    below.unwrap_or(LEAST_PLATEAU)
}

/// RFC 4443.
fn kind_of_ipv6(fields: [u8; HEADER_LEN]) -> Result<IcmpKind, Reject> {
    let [kind, code, _, _, mtu @ ..] = fields;
    match kind {
        1 => Ok(IcmpKind::Unreachable { code }),
        2 => {
            let mtu = usize::try_from(u32::from_be_bytes(mtu)).unwrap_or(usize::MAX);
            if mtu < IPV6_MIN_MTU {
                return Err(Reject::Malformed);
            }
            Ok(IcmpKind::PacketTooBig { mtu })
        }
        3 => Ok(IcmpKind::TimeExceeded),
        _ => Err(Reject::NotTcp),
    }
}

#[cfg(test)]
mod tests;
