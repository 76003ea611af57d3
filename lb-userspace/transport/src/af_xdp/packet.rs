//! Frames as segments, in both directions: Ethernet and IP around TCP.
//!
//! Invariant: a [`Packet`] is an unfragmented IPv4 or IPv6 packet with a complete TCP header, cut to the
//! length that its IP header states (Ethernet pads short frames).
//! Deliberately not here: TCP (`lb_tcp::wire`). VLAN tags and IPv6 extension headers are not handled; the
//! XDP program drops such segments. Errors about segments of ours are read by `icmp`.

pub(super) mod icmp;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use lb_tcp::wire::ip::{self, IPV4_LEN, IPV6_LEN};
use lb_tcp::{FlowKey, Header, Payload, Segment, wire};

/// Bytes of an Ethernet header.
pub(super) const ETHERNET_LEN: usize = 14;

const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];

/// The Ethernet header of frames to a peer: the addresses of its last frame, swapped. So answers take the way
/// that questions came, without routes or neighbours of our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link([u8; ETHERNET_LEN]);

#[cfg(test)]
impl Link {
    pub(super) fn new(header: [u8; ETHERNET_LEN]) -> Self {
        Self(header)
    }
}

/// Why a frame was dropped before TCP saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reject {
    /// Neither IPv4 nor IPv6 directly behind the Ethernet header.
    NotIp,
    /// Not TCP, or TCP behind IPv6 extension headers.
    NotTcp,
    /// A fragment.
    Fragment,
    /// Lengths contradict each other.
    Malformed,
    /// IPv4 header or TCP checksum.
    Checksum,
}

/// Whether checksums of received packets are verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RxChecksums {
    /// Verify. Right for network cards: with `AF_XDP` nobody else does.
    Verify,
    /// Don't. Right for virtual Ethernet pairs: packets of a local sender carry only the sum of the
    /// pseudo header (`CHECKSUM_PARTIAL`), so verifying would drop every one of them.
    Trust,
}

/// A received frame, understood.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet<'a> {
    /// The way back.
    pub(super) link: Link,
    /// Its receiver is the local end.
    pub(super) key: FlowKey,
    pub(super) segment: Segment<'a>,
}

/// What an IP header says, of a packet or of one that is quoted.
struct IpHeader {
    /// Length of the header, in bytes.
    len: usize,
    /// Length of the packet from the header on, in bytes.
    total_len: usize,
    protocol: u8,
    is_fragment: bool,
    /// Source and destination.
    ends: (IpAddr, IpAddr),
}

/// Reads a frame.
pub(super) fn parse(frame: &[u8], checksums: RxChecksums) -> Result<Packet<'_>, Reject> {
    let (link, header, packet) = parse_link(frame)?;
    let (network, tcp) = packet
        .split_at_checked(header.len)
        .ok_or(Reject::Malformed)?;
    let (ports, segment) = wire::parse(tcp).map_err(|_| Reject::Malformed)?;
    let (source, destination) = header.ends;
    if checksums == RxChecksums::Verify
        && !(header_holds(network) && wire::checksum_holds(source, destination, tcp))
    {
        return Err(Reject::Checksum);
    }
    let key = FlowKey {
        local: SocketAddr::new(destination, ports.destination),
        remote: SocketAddr::new(source, ports.source),
    };
    Ok(Packet { link, key, segment })
}

/// The ends of a frame's connection, if it is likely to be TCP: nothing else is looked at.
pub(super) fn peek_key(frame: &[u8]) -> Option<FlowKey> {
    let (_, header, packet) = parse_link(frame).ok()?;
    let &[s0, s1, d0, d1] = packet.get(header.len..)?.first_chunk()?;
    let (source, destination) = header.ends;
    Some(FlowKey {
        local: SocketAddr::new(destination, u16::from_be_bytes([d0, d1])),
        remote: SocketAddr::new(source, u16::from_be_bytes([s0, s1])),
    })
}

/// The way back, and header and bytes of a whole packet of TCP.
fn parse_link(frame: &[u8]) -> Result<(Link, IpHeader, &[u8]), Reject> {
    let (ethernet, ip) = frame.split_first_chunk().ok_or(Reject::Malformed)?;
    let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, t0, t1] = *ethernet;
    if ![ETHERTYPE_IPV4, ETHERTYPE_IPV6].contains(&[t0, t1]) {
        return Err(Reject::NotIp);
    }
    let link = Link([s0, s1, s2, s3, s4, s5, d0, d1, d2, d3, d4, d5, t0, t1]);
    let (header, packet) = parse_packet(ip)?;
    if header.protocol != wire::PROTOCOL {
        return Err(Reject::NotTcp);
    }
    Ok((link, header, packet))
}

/// Header and bytes of a whole packet.
fn parse_packet(ip: &[u8]) -> Result<(IpHeader, &[u8]), Reject> {
    let header = parse_header(ip)?;
    let packet = ip.get(..header.total_len).ok_or(Reject::Malformed)?;
    if header.is_fragment {
        return Err(Reject::Fragment);
    }
    Ok((header, packet))
}

fn parse_header(ip: &[u8]) -> Result<IpHeader, Reject> {
    match ip.first().ok_or(Reject::Malformed)? >> 4 {
        4 => parse_ipv4(ip.first_chunk().ok_or(Reject::Malformed)?),
        6 => parse_ipv6(ip.first_chunk().ok_or(Reject::Malformed)?),
        _ => Err(Reject::Malformed),
    }
}

fn parse_ipv4(header: &[u8; IPV4_LEN]) -> Result<IpHeader, Reject> {
    let len = usize::from(header[0] & 0x0f) * 4;
    let total_len = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if len < header.len() || total_len < len {
        return Err(Reject::Malformed);
    }
    let source = Ipv4Addr::new(header[12], header[13], header[14], header[15]);
    let destination = Ipv4Addr::new(header[16], header[17], header[18], header[19]);
    Ok(IpHeader {
        len,
        total_len,
        protocol: header[9],
        is_fragment: u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0,
        ends: (source.into(), destination.into()),
    })
}

fn parse_ipv6(header: &[u8; IPV6_LEN]) -> Result<IpHeader, Reject> {
    let payload_len = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let address = |at: usize| -> Result<IpAddr, Reject> {
        let octets = header[at..].first_chunk::<16>().ok_or(Reject::Malformed)?;
        Ok(Ipv6Addr::from_octets(*octets).into())
    };
    Ok(IpHeader {
        len: header.len(),
        total_len: header.len() + payload_len,
        protocol: header[6],
        is_fragment: false,
        ends: (address(8)?, address(24)?),
    })
}

/// Bytes of a frame with this segment.
pub(super) fn frame_len(key: &FlowKey, header: &Header, payload: Payload<'_>) -> usize {
    ETHERNET_LEN + ip::header_len(key) + wire::header_len(header) + payload.len()
}

/// Writes a frame of [`frame_len`] bytes.
pub(super) fn emit(
    link: &Link,
    key: &FlowKey,
    header: &Header,
    payload: Payload<'_>,
    frame: &mut [u8],
) {
    let len = wire::header_len(header) + payload.len();
    if let Some(tcp) = emit_network(link, key, len, frame) {
        wire::emit(key, header, payload, tcp);
    }
}

/// Writes the headers of a frame with so many bytes of payload, for somebody who cuts it; how many bytes.
pub(super) fn emit_head(
    link: &Link,
    key: &FlowKey,
    header: &Header,
    payload_len: usize,
    head: &mut [u8],
) -> Option<usize> {
    let tcp_len = wire::header_len(header);
    let len = ETHERNET_LEN + ip::header_len(key) + tcp_len;
    let tcp = emit_network(link, key, tcp_len + payload_len, head.get_mut(..len)?)?;
    wire::emit_partial(key, header, payload_len, tcp);
    Some(len)
}

/// Writes the Ethernet and IP headers of `tcp_len` bytes; what is behind them.
fn emit_network<'a>(
    link: &Link,
    key: &FlowKey,
    tcp_len: usize,
    frame: &'a mut [u8],
) -> Option<&'a mut [u8]> {
    let (ethernet, ip) = frame.split_first_chunk_mut()?;
    *ethernet = link.0;
    let (ip_header, tcp) = ip.split_at_mut_checked(ip::header_len(key))?;
    ip::write_header(key, tcp_len, ip_header);
    Some(tcp)
}

/// Whether the header of a packet is as it was sent; that of IPv6 doesn't say.
fn header_holds(header: &[u8]) -> bool {
    header[0] >> 4 == 6 || holds(header, 0)
}

/// Whether bytes that hold their own checksum sum up, with what else it covers.
fn holds(bytes: &[u8], covered: u64) -> bool {
    fold(sum(bytes, covered)) == 0xffff
}

/// What the checksum behind an IP header covers of it (RFC 9293 §3.1, RFC 8200 §8.1).
fn pseudo_header(ends: (IpAddr, IpAddr), protocol: u8, len: usize) -> u64 {
    let address = |address| match address {
        IpAddr::V4(address) => sum(&address.octets(), 0),
        IpAddr::V6(address) => sum(&address.octets(), 0),
    };
    // A packet has at most 64 KiB and a header.
    address(ends.0) + address(ends.1) + u64::from(protocol) + len as u64
}

/// Adds the 16-bit words of `bytes` to `start` (RFC 1071 §2, carries kept for [`fold`]).
fn sum(bytes: &[u8], start: u64) -> u64 {
    let (words, rest) = bytes.as_chunks::<4>();
    let mut total = start;
    for word in words {
        total += u64::from(u32::from_be_bytes(*word));
    }
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    total + u64::from(u32::from_be_bytes(last))
}

/// Folds the carries in.
#[expect(
    clippy::cast_possible_truncation,
    reason = "folded until 16 bits are left"
)]
fn fold(mut total: u64) -> u16 {
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    total as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SYN from 10.203.1.10:40000 to 10.203.1.100:443, seq 1, correct checksums.
    const SYN_V4: &str = "020000000002 020000000001 0800 \
        4500 0028 0000 4000 40 06 22cd 0acb010a 0acb0164 \
        9c40 01bb 00000001 00000000 5002 ffff f9e2 0000";

    pub(super) fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<char> = hex.chars().filter(|c| !c.is_whitespace()).collect();
        let byte = |pair: &[char]| u8::from_str_radix(&String::from_iter(pair), 16).unwrap();
        digits.chunks(2).map(byte).collect()
    }

    pub(super) fn changed(hex: &str, at: usize, value: u8) -> Vec<u8> {
        let mut frame = bytes(hex);
        frame[at] = value;
        frame
    }

    #[test]
    fn reads_a_segment_and_the_way_back() {
        let mut frame = bytes(SYN_V4);
        frame.extend([0; 6]); // Ethernet padding.
        let Packet { link, key, segment } = parse(&frame, RxChecksums::Verify).unwrap();
        assert_eq!(key.local, "10.203.1.100:443".parse().unwrap());
        assert_eq!(key.remote, "10.203.1.10:40000".parse().unwrap());
        assert!(segment.opens() && segment.payload.is_empty());
        assert_eq!(segment.header.seq.0, 1);
        assert_eq!(link.0[..], bytes("020000000001 020000000002 0800"));
    }

    #[test]
    fn rejects_with_the_reason() {
        let check = |frame: &[u8], reason: Reject| {
            assert_eq!(parse(frame, RxChecksums::Verify).unwrap_err(), reason);
        };
        check(&[], Reject::Malformed);
        check(&bytes(SYN_V4)[..33], Reject::Malformed);
        check(&bytes(SYN_V4)[..53], Reject::Malformed);
        check(&changed(SYN_V4, 12, 0x81), Reject::NotIp);
        check(&changed(SYN_V4, 14, 0x44), Reject::Malformed);
        check(&changed(SYN_V4, 14, 0x55), Reject::Malformed);
        check(&changed(SYN_V4, 17, 0x10), Reject::Malformed);
        check(&changed(SYN_V4, 20, 0x20), Reject::Fragment);
        check(&changed(SYN_V4, 21, 0x01), Reject::Fragment);
        check(&changed(SYN_V4, 23, 17), Reject::NotTcp);
        check(&changed(SYN_V4, 46, 0x40), Reject::Malformed);
        check(&changed(SYN_V4, 46, 0xf0), Reject::Malformed);
        check(&changed(SYN_V4, 22, 0x3f), Reject::Checksum);
        check(&changed(SYN_V4, 41, 0x02), Reject::Checksum);
    }

    #[test]
    fn trusts_wrong_checksums_when_told_to() {
        let frame = changed(SYN_V4, 50, 0);
        assert_eq!(
            parse(&frame, RxChecksums::Verify).unwrap_err(),
            Reject::Checksum
        );
        assert!(parse(&frame, RxChecksums::Trust).is_ok());
    }

    fn check_emit(local: &str, remote: &str, text: &[u8]) -> Vec<u8> {
        let key = FlowKey {
            local: local.parse().unwrap(),
            remote: remote.parse().unwrap(),
        };
        let segment = Header {
            seq: lb_tcp::Seq(1),
            flags: lb_tcp::Flags::ACK,
            window: 0xffff,
            ..Header::default()
        };
        let ethertype = if key.local.is_ipv4() {
            ETHERTYPE_IPV4
        } else {
            ETHERTYPE_IPV6
        };
        let link: Vec<u8> = [&[2; 12][..], &ethertype].concat();
        let link = Link(link.try_into().unwrap());
        let payload = Payload::from(text);
        let mut frame = vec![0; frame_len(&key, &segment, payload)];
        emit(&link, &key, &segment, payload, &mut frame);
        let read = parse(&frame, RxChecksums::Verify).unwrap();
        assert_eq!((read.key.local, read.key.remote), (key.remote, key.local));
        assert_eq!(read.segment.header, segment);
        assert_eq!(read.segment.payload, text);
        frame
    }

    #[test]
    fn what_is_written_can_be_read() {
        let frame = check_emit("10.203.1.100:443", "10.203.1.10:40000", b"odd");
        assert_eq!(
            frame[14..34],
            bytes("4500 002b 0000 4000 40 06 22ca 0acb0164 0acb010a")
        );
        let frame = check_emit("[fd00::1]:443", "[fd00::2]:40000", b"even");
        assert_eq!(frame[14..22], bytes("60000000 0018 06 40"));
    }

    #[test]
    fn no_frame_makes_the_parser_panic() {
        let whole = bytes(SYN_V4);
        for len in 0..=whole.len() {
            for at in 0..len {
                for value in [0, 1, 0x0f, 0x40, 0x60, 0x7f, 0xff] {
                    let mut frame = whole[..len].to_vec();
                    frame[at] = value;
                    let _ = parse(&frame, RxChecksums::Verify);
                }
            }
        }
    }
}
