//! Segments as bytes (RFC 9293 §3.1): the only place that knows offsets, kinds of options and checksums; and the IP header before
//! them, for those who write it themselves.
//!
//! What is read is exactly what is written: a header that [`emit`] wrote is the one that [`parse`] gives, if it holds no more
//! SACK blocks than there is room for. Options of a handshake exist in segments with SYN only, in both directions.
//!
//! Deliberately not here: the urgent pointer (urgent data is data: RFC 6093 §6), ECN's meaning (its bits are kept in the flags),
//! who checks the checksum (a network card may have).

use core::net::IpAddr;

use crate::{Flags, FlowKey, Header, Payload, Segment, Seq};

mod checksum;
pub mod ip;
mod options;
#[cfg(test)]
mod tests;

/// Bytes of a header without options.
pub const MIN_HEADER_LEN: usize = 20;

/// Bytes of a header at most: the data offset counts fifteen words.
pub const MAX_HEADER_LEN: usize = 60;

/// TCP among the protocols of IP.
pub const PROTOCOL: u8 = 6;

/// Why bytes are no segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Fewer bytes than a header, or than its data offset says.
    Truncated,
    /// A data offset below five words.
    DataOffset,
}

/// Ports of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// Of the sender.
    pub source: u16,
    /// Of the receiver.
    pub destination: u16,
}

/// Reads a segment. Options that are cut off or have an impossible length end the reading of options, and what stood before them
/// counts.
pub fn parse(bytes: &[u8]) -> Result<(Ports, Segment<'_>), Malformed> {
    let (fixed, rest) = bytes
        .split_first_chunk::<MIN_HEADER_LEN>()
        .ok_or(Malformed::Truncated)?;
    let &[
        s0,
        s1,
        d0,
        d1,
        q0,
        q1,
        q2,
        q3,
        a0,
        a1,
        a2,
        a3,
        offset,
        flags,
        w0,
        w1,
        ..,
    ] = fixed;
    let options_len = (usize::from(offset >> 4) * 4)
        .checked_sub(MIN_HEADER_LEN)
        .ok_or(Malformed::DataOffset)?;
    let (options, payload) = rest
        .split_at_checked(options_len)
        .ok_or(Malformed::Truncated)?;
    let ports = Ports {
        source: u16::from_be_bytes([s0, s1]),
        destination: u16::from_be_bytes([d0, d1]),
    };
    let flags = Flags(flags);
    let header = Header {
        seq: Seq(u32::from_be_bytes([q0, q1, q2, q3])),
        ack: Seq(u32::from_be_bytes([a0, a1, a2, a3])),
        flags,
        window: u16::from_be_bytes([w0, w1]),
        options: options::read(options, flags.has(Flags::SYN)),
    };
    Ok((ports, Segment { header, payload }))
}

/// Bytes of a header with its options, padded.
pub fn header_len(header: &Header) -> usize {
    MIN_HEADER_LEN + options::len(&header.options, header.flags.has(Flags::SYN))
}

/// Writes a segment from `key.local` to `key.remote`, checksum included, into `bytes`, which must be exactly as long as both
/// parts.
pub fn emit(key: &FlowKey, header: &Header, payload: Payload<'_>, bytes: &mut [u8]) {
    debug_assert_eq!(bytes.len(), header_len(header) + payload.len());
    let len = bytes.len();
    let Some((head, body)) = bytes.split_at_mut_checked(header_len(header)) else {
        return;
    };
    write_header(key, header, head);
    let mut sum = checksum::pseudo_header(key.local.ip(), key.remote.ip(), len);
    sum.add(head);
    sum.copy(payload, body);
    if let Some(field) = head.get_mut(16..18) {
        field.copy_from_slice(&(!sum.fold()).to_ne_bytes());
    }
}

/// Writes the header of a segment with so many bytes of payload into `bytes`, which must be exactly as long. Its checksum field holds the
/// sum of the pseudo-header, to which whoever cuts the segment adds the rest (`CHECKSUM_PARTIAL` on Linux).
pub fn emit_partial(key: &FlowKey, header: &Header, payload_len: usize, bytes: &mut [u8]) {
    debug_assert_eq!(bytes.len(), header_len(header));
    let len = bytes.len() + payload_len;
    write_header(key, header, bytes);
    let sum = checksum::pseudo_header(key.local.ip(), key.remote.ip(), len);
    if let Some(field) = bytes.get_mut(16..18) {
        field.copy_from_slice(&sum.fold().to_ne_bytes());
    }
}

/// Whether the checksum of a segment holds (RFC 9293 §3.1).
pub fn checksum_holds(source: IpAddr, destination: IpAddr, segment: &[u8]) -> bool {
    let mut sum = checksum::pseudo_header(source, destination, segment.len());
    sum.add(segment);
    sum.fold() == u16::MAX
}

/// A header whose checksum is still zero.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a header has at most fifteen words"
)]
fn write_header(key: &FlowKey, header: &Header, bytes: &mut [u8]) {
    let words = bytes.len() as u8 / 4;
    let Some((fixed, options)) = bytes.split_first_chunk_mut::<MIN_HEADER_LEN>() else {
        return;
    };
    let [s0, s1] = key.local.port().to_be_bytes();
    let [d0, d1] = key.remote.port().to_be_bytes();
    let [q0, q1, q2, q3] = header.seq.0.to_be_bytes();
    let [a0, a1, a2, a3] = header.ack.0.to_be_bytes();
    let [w0, w1] = header.window.to_be_bytes();
    let flags = header.flags.0;
    *fixed = [
        s0,
        s1,
        d0,
        d1,
        q0,
        q1,
        q2,
        q3,
        a0,
        a1,
        a2,
        a3,
        words << 4,
        flags,
        w0,
        w1,
        0,
        0,
        0,
        0,
    ];
    options::write(&header.options, header.flags.has(Flags::SYN), options);
}
