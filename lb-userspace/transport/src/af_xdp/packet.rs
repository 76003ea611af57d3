//! What the engine must know of a frame before TCP sees it: whose it is, and that it is whole.
//!
//! Invariant: a [`Segment`] is an unfragmented IPv4 or IPv6 packet with a complete TCP header, cut to the
//! length that its IP header states (Ethernet pads short frames).
//! Deliberately not here: TCP options and state. VLAN tags and IPv6 extension headers are not handled; the
//! XDP program drops such segments. Errors about segments of ours are read by `icmp`.

#[cfg_attr(
    not(test),
    expect(dead_code, reason = "the engine's TCP takes no errors yet")
)]
pub(super) mod icmp;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Bytes of an Ethernet header.
pub(super) const ETHERNET_LEN: usize = 14;

const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
const PROTOCOL_TCP: u8 = 6;

pub(super) const FIN: u8 = 0x01;
pub(super) const SYN: u8 = 0x02;
pub(super) const RST: u8 = 0x04;
pub(super) const ACK: u8 = 0x10;

/// Both ends of a connection, seen from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FlowKey {
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
}

/// The Ethernet header of frames to a peer: the addresses of its last frame, swapped. So answers take the way
/// that questions came, without routes or neighbours of our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link([u8; ETHERNET_LEN]);

impl Link {
    pub(super) fn header(&self) -> &[u8; ETHERNET_LEN] {
        &self.0
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

/// A TCP segment in its IP packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment<'a> {
    pub(super) key: FlowKey,
    pub(super) flags: u8,
    pub(super) seq: u32,
    pub(super) ack: u32,
    /// Sequence numbers that the segment occupies: payload, SYN and FIN.
    pub(super) seq_len: u32,
    /// The IP packet.
    pub(super) ip: &'a [u8],
    tcp: &'a [u8],
}

impl Segment<'_> {
    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// A SYN that asks for a new connection.
    pub(super) fn opens(&self) -> bool {
        self.flags & (SYN | ACK | RST | FIN) == SYN
    }

    fn checksum_holds(&self) -> bool {
        let header = &self.ip[..self.ip.len() - self.tcp.len()];
        let ends = (self.key.remote.ip(), self.key.local.ip());
        header_holds(header) && holds(self.tcp, pseudo_header(ends, PROTOCOL_TCP, self.tcp.len()))
    }
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
pub(super) fn parse(frame: &[u8], checksums: RxChecksums) -> Result<(Link, Segment<'_>), Reject> {
    let (ethernet, ip) = frame.split_first_chunk().ok_or(Reject::Malformed)?;
    let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, t0, t1] = *ethernet;
    if ![ETHERTYPE_IPV4, ETHERTYPE_IPV6].contains(&[t0, t1]) {
        return Err(Reject::NotIp);
    }
    let link = Link([s0, s1, s2, s3, s4, s5, d0, d1, d2, d3, d4, d5, t0, t1]);
    let segment = parse_ip(ip)?;
    if checksums == RxChecksums::Verify && !segment.checksum_holds() {
        return Err(Reject::Checksum);
    }
    Ok((link, segment))
}

/// Reads an IP packet, sender as `remote`.
pub(super) fn parse_ip(ip: &[u8]) -> Result<Segment<'_>, Reject> {
    let (header, packet) = parse_packet(ip)?;
    if header.protocol != PROTOCOL_TCP {
        return Err(Reject::NotTcp);
    }
    parse_tcp(packet, &header)
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

fn parse_ipv4(header: &[u8; 20]) -> Result<IpHeader, Reject> {
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

fn parse_ipv6(header: &[u8; 40]) -> Result<IpHeader, Reject> {
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

fn parse_tcp<'a>(ip: &'a [u8], header: &IpHeader) -> Result<Segment<'a>, Reject> {
    let (source, destination) = header.ends;
    let tcp = &ip[header.len..];
    let header = tcp.first_chunk::<20>().ok_or(Reject::Malformed)?;
    let data_offset = usize::from(header[12] >> 4) * 4;
    if data_offset < header.len() || data_offset > tcp.len() {
        return Err(Reject::Malformed);
    }
    let flags = header[13];
    let payload = u32::try_from(tcp.len() - data_offset).map_err(|_| Reject::Malformed)?;
    let seq_len = payload + u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
    let port = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let word = |at: usize| {
        u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    let key = FlowKey {
        local: SocketAddr::new(destination, port(2)),
        remote: SocketAddr::new(source, port(0)),
    };
    Ok(Segment {
        key,
        flags,
        seq: word(4),
        ack: word(8),
        seq_len,
        ip,
        tcp,
    })
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
fn fold(mut total: u64) -> u64 {
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    total
}

#[cfg(test)]
pub(super) mod tests {
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
        let (link, segment) = parse(&frame, RxChecksums::Verify).unwrap();
        assert_eq!(segment.key.local, "10.203.1.100:443".parse().unwrap());
        assert_eq!(segment.key.remote, "10.203.1.10:40000".parse().unwrap());
        assert!(segment.opens());
        assert_eq!((segment.seq, segment.seq_len, segment.ip.len()), (1, 1, 40));
        assert_eq!(link.header()[..], bytes("020000000001 020000000002 0800"));
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
