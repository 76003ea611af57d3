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
/// Hop-by-hop options (RFC 8200 §4.3).
pub const PROTOCOL_HOP_BY_HOP: u8 = 0;
/// Routing header (RFC 8200 §4.4).
pub const PROTOCOL_ROUTING: u8 = 43;
/// Fragment header (RFC 8200 §4.5).
pub const PROTOCOL_FRAGMENT: u8 = 44;
/// Destination options (RFC 8200 §4.6).
pub const PROTOCOL_DESTINATION_OPTIONS: u8 = 60;
/// Mobility header (RFC 6275 §6.1).
pub const PROTOCOL_MOBILITY: u8 = 135;
/// Host identity protocol (RFC 7401 §5.1).
pub const PROTOCOL_HIP: u8 = 139;
/// Shim6 (RFC 5533 §5.1).
pub const PROTOCOL_SHIM6: u8 = 140;

/// Whether a next-header value names an extension header (IANA): hop-by-hop options, routing, fragment, ESP, AH,
/// destination options, mobility, HIP, shim6.
#[inline(always)]
pub const fn is_extension(next_header: u8) -> bool {
    matches!(
        next_header,
        PROTOCOL_HOP_BY_HOP
            | PROTOCOL_ROUTING
            | PROTOCOL_FRAGMENT
            | 50
            | 51
            | PROTOCOL_DESTINATION_OPTIONS
            | PROTOCOL_MOBILITY
            | PROTOCOL_HIP
            | PROTOCOL_SHIM6
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

/// The start of an extension header (RFC 6564 §4: all that may come follow this form).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Extension {
    /// Protocol of what follows.
    pub next_header: u8,
    /// Length of the header in units of 8 bytes, without the first 8.
    pub length: u8,
    /// Type of a routing header.
    pub kind: u8,
    /// Of a routing header: nodes still to be visited.
    pub segments_left: u8,
}

impl Extension {
    /// Length of the header in bytes as it claims it.
    #[inline(always)]
    pub fn header_len(&self) -> usize {
        8 + 8 * usize::from(self.length)
    }
}

/// A fragment header (RFC 8200 §4.5).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct FragmentHeader {
    /// Protocol of what follows in the first piece.
    pub next_header: u8,
    /// Always zero.
    pub reserved: u8,
    /// Offset in units of 8 bytes in the 13 high bits; bit 0: more fragments follow.
    pub offset_and_more: [u8; 2],
    /// The same in all pieces of a packet.
    pub identification: [u8; 4],
}

impl FragmentHeader {
    /// Length of the header, in bytes.
    pub const LEN: usize = 8;

    /// Offset in bytes.
    #[inline(always)]
    pub fn offset(&self) -> usize {
        usize::from(u16::from_be_bytes(self.offset_and_more) & !7)
    }

    /// Whether there are pieces behind this one.
    #[inline(always)]
    pub fn more(&self) -> bool {
        let [_, low] = self.offset_and_more;
        low & 1 != 0
    }
}
