//! UDP (RFC 768).

/// A UDP header.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Udp {
    /// Source, then destination port. One field, as in [`super::Ipv4::addresses`].
    pub ports: [u8; 4],
    /// Length of header and payload, in bytes.
    pub length: [u8; 2],
    /// One's-complement checksum of pseudo-header, header and payload; [`Udp::NO_CHECKSUM`] for none.
    pub checksum: [u8; 2],
}

impl Udp {
    /// Length of the header, in bytes.
    pub const LEN: usize = 8;

    /// Where the sender has computed no checksum. One that is computed as zero is sent as its other
    /// representation, all ones.
    pub const NO_CHECKSUM: [u8; 2] = [0, 0];

    /// Length of header and payload in bytes as the header claims it.
    #[inline(always)]
    pub fn length(&self) -> usize {
        usize::from(u16::from_be_bytes(self.length))
    }
}
