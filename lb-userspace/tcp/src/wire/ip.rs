//! The IP header before a segment, as it is written by whoever sends segments without the kernel's IP.
//!
//! Packets are never fragmented on their way: IPv4's DF is set (RFC 1191), IPv6 knows no other way. So IPv4's identification has
//! no use, and is 0 (RFC 6864 §4.1).
//!
//! Deliberately not here: reading, and options or extension headers, which a sender of TCP needs none of.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::PROTOCOL;
use super::checksum::Sum;
use crate::FlowKey;

/// Bytes of an IPv4 header without options.
pub const IPV4_LEN: usize = 20;

/// Bytes of an IPv6 header.
pub const IPV6_LEN: usize = 40;

/// As Linux' `ip_default_ttl`.
const HOP_LIMIT: u8 = 64;

/// Bytes of the header of packets between these ends.
pub const fn header_len(key: &FlowKey) -> usize {
    if key.local.is_ipv4() {
        IPV4_LEN
    } else {
        IPV6_LEN
    }
}

/// Writes the header of a packet from `key.local` to `key.remote` with `tcp_len` bytes of TCP into `bytes`, which must be
/// [`header_len`] long.
pub fn write_header(key: &FlowKey, tcp_len: usize, bytes: &mut [u8]) {
    debug_assert_eq!(bytes.len(), header_len(key));
    // An IP packet has no more bytes than that.
    let len = u16::try_from(tcp_len).unwrap_or(u16::MAX);
    match (key.local.ip(), key.remote.ip()) {
        (IpAddr::V4(local), IpAddr::V4(remote)) => {
            if let Some(header) = bytes.first_chunk_mut() {
                *header = ipv4_header(local, remote, len);
            }
        }
        (IpAddr::V6(local), IpAddr::V6(remote)) => {
            if let Some(header) = bytes.first_chunk_mut() {
                *header = ipv6_header(local, remote, len);
            }
        }
        _ => debug_assert!(false, "ends of two families"),
    }
}

fn ipv4_header(source: Ipv4Addr, destination: Ipv4Addr, tcp_len: u16) -> [u8; IPV4_LEN] {
    const DONT_FRAGMENT: u8 = 0x40;
    let mut header = [0; IPV4_LEN];
    header[0] = 0x45;
    let total_len = tcp_len.saturating_add(20);
    header[2..4].copy_from_slice(&total_len.to_be_bytes());
    header[6] = DONT_FRAGMENT;
    header[8] = HOP_LIMIT;
    header[9] = PROTOCOL;
    header[12..16].copy_from_slice(&source.octets());
    header[16..20].copy_from_slice(&destination.octets());
    let mut sum = Sum::default();
    sum.add(&header);
    header[10..12].copy_from_slice(&(!sum.fold()).to_ne_bytes());
    header
}

fn ipv6_header(source: Ipv6Addr, destination: Ipv6Addr, tcp_len: u16) -> [u8; IPV6_LEN] {
    let mut header = [0; IPV6_LEN];
    header[0] = 0x60;
    header[4..6].copy_from_slice(&tcp_len.to_be_bytes());
    header[6] = PROTOCOL;
    header[7] = HOP_LIMIT;
    header[8..24].copy_from_slice(&source.octets());
    header[24..40].copy_from_slice(&destination.octets());
    header
}
