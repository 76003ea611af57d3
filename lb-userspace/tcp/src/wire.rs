//! Segments as bytes (RFC 9293 §3.1): the only place that knows offsets, kinds of options and checksums.

use core::net::IpAddr;

use crate::{FlowKey, Header, Payload, Segment};

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

/// Reads a segment. Options that are cut off or have an impossible length end the reading of options.
#[expect(unused_variables, missing_docs, reason = "the skeleton")]
pub fn parse(bytes: &[u8]) -> Result<(Ports, Segment<'_>), Malformed> {
    unimplemented!()
}

/// Bytes of a header with its options, padded.
#[expect(unused_variables, reason = "the skeleton")]
pub fn header_len(header: &Header) -> usize {
    unimplemented!()
}

/// Writes a segment from `key.local` to `key.remote`, checksum included, into `bytes`, which must be exactly as long as both
/// parts.
#[expect(unused_variables, reason = "the skeleton")]
pub fn emit(key: &FlowKey, header: &Header, payload: Payload<'_>, bytes: &mut [u8]) {
    unimplemented!()
}

/// Whether the checksum of a segment holds (RFC 9293 §3.1).
#[expect(unused_variables, reason = "the skeleton")]
pub fn checksum_holds(source: IpAddr, destination: IpAddr, segment: &[u8]) -> bool {
    unimplemented!()
}
