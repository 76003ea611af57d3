//! IPv6 (RFC 8200 §3).

/// An IPv6 header, without what extension headers may follow.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Ipv6 {
    /// Version (6) in the high nibble, then traffic class and flow label; carried unchanged.
    pub version_class_flow: [u8; 4],
    /// Length of what follows this header, in bytes.
    pub payload_length: [u8; 2],
    /// Protocol of what follows, `PROTOCOL_*` or an extension header.
    pub next_header: u8,
    /// Hops left.
    pub hop_limit: u8,
    /// Source, then destination address, each as two halves.
    pub addresses: [[u8; 8]; 4],
}

/// `ICMPv6` (RFC 4443).
pub const PROTOCOL_ICMPV6: u8 = 58;
/// Fragment header (RFC 8200 §4.5).
pub const PROTOCOL_FRAGMENT: u8 = 44;

/// Whether a next-header value names an extension header (IANA): hop-by-hop options, routing, fragment, ESP, AH,
/// destination options, mobility, HIP, shim6.
#[inline(always)]
pub const fn is_extension(next_header: u8) -> bool {
    matches!(
        next_header,
        0 | 43 | PROTOCOL_FRAGMENT | 50 | 51 | 60 | 135 | 139 | 140
    )
}

impl Ipv6 {
    /// Length of the header, in bytes.
    pub const LEN: usize = 40;

    /// IP version.
    #[inline(always)]
    pub fn version(&self) -> u8 {
        let [first, ..] = self.version_class_flow;
        first >> 4
    }

    /// Length of what follows the header in bytes, as it claims it.
    #[inline(always)]
    pub fn payload_len(&self) -> usize {
        usize::from(u16::from_be_bytes(self.payload_length))
    }
}
