//! IPv4 (RFC 791 §3.1).

/// An IPv4 header without options.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Ipv4 {
    /// Version (4) in the high nibble, header length in 32-bit words in the low one.
    pub version_ihl: u8,
    /// Type of service, today DSCP and ECN (RFC 2474, RFC 3168); carried unchanged.
    pub tos: u8,
    /// Length of the datagram, header included, in bytes.
    pub total_length: [u8; 2],
    /// Identification of a fragmented datagram.
    pub identification: [u8; 2],
    /// Flags (bit 13: more fragments follow) and fragment offset in units of 8 bytes.
    pub fragment: [u8; 2],
    /// Hops left.
    pub ttl: u8,
    /// Protocol of the payload, `PROTOCOL_*`.
    pub protocol: u8,
    /// One's-complement checksum of the header.
    pub checksum: [u8; 2],
    /// Source, then destination address. One field, because a flow is found and rewritten by both at once.
    pub addresses: [u8; 8],
}

/// ICMP (RFC 792).
pub const PROTOCOL_ICMP: u8 = 1;
/// TCP (RFC 9293).
pub const PROTOCOL_TCP: u8 = 6;
/// UDP (RFC 768).
pub const PROTOCOL_UDP: u8 = 17;

const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET_MASK: u16 = 0x1fff;

impl Ipv4 {
    /// Length of a header without options, in bytes.
    pub const LEN: usize = 20;

    /// IP version.
    #[inline(always)]
    pub fn version(&self) -> u8 {
        self.version_ihl >> 4
    }

    /// Header length in bytes as the header claims it, 0 to 60.
    #[inline(always)]
    pub fn header_len(&self) -> usize {
        usize::from(self.version_ihl & 0xf) * 4
    }

    /// Length of the datagram in bytes as the header claims it.
    #[inline(always)]
    pub fn total_len(&self) -> usize {
        usize::from(u16::from_be_bytes(self.total_length))
    }

    /// Whether this is a piece of a larger datagram.
    #[inline(always)]
    pub fn is_fragment(&self) -> bool {
        u16::from_be_bytes(self.fragment) & (MORE_FRAGMENTS | OFFSET_MASK) != 0
    }

    /// Offset in bytes of this piece in its datagram.
    #[inline(always)]
    pub fn fragment_offset(&self) -> usize {
        8 * usize::from(u16::from_be_bytes(self.fragment) & OFFSET_MASK)
    }

    /// Whether there are pieces behind this one.
    #[inline(always)]
    pub fn more_fragments(&self) -> bool {
        u16::from_be_bytes(self.fragment) & MORE_FRAGMENTS != 0
    }

    /// Source address.
    #[inline(always)]
    pub fn source(&self) -> [u8; 4] {
        let [a, b, c, d, ..] = self.addresses;
        [a, b, c, d]
    }

    /// Destination address.
    #[inline(always)]
    pub fn destination(&self) -> [u8; 4] {
        let [.., a, b, c, d] = self.addresses;
        [a, b, c, d]
    }
}

/// The start of an option (RFC 791 §3.1).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Ipv4Option {
    /// Which one.
    pub kind: u8,
    /// Of the whole option, in bytes; not there if the kind is [`END`](Self::END) or [`NO_OPERATION`](Self::NO_OPERATION).
    pub length: u8,
}

impl Ipv4Option {
    /// The end of the options.
    pub const END: u8 = 0;
    /// Padding between options.
    pub const NO_OPERATION: u8 = 1;
    /// Loose source and record route.
    pub const LOOSE_SOURCE_ROUTE: u8 = 131;
    /// Strict source and record route.
    pub const STRICT_SOURCE_ROUTE: u8 = 137;
    /// As many as fit into a header.
    pub const MOST: usize = 40;

    /// Bytes to the next option, which is at least one. In sums: see who calls it.
    #[inline(always)]
    pub fn step(&self) -> usize {
        let is_zero = |byte: u8| usize::from(byte).wrapping_sub(1) >> (usize::BITS - 1);
        let is_padding = is_zero(self.kind ^ Self::NO_OPERATION);
        let length = usize::from(self.length) | is_zero(self.length);
        is_padding | length & is_padding.wrapping_sub(1)
    }
}
