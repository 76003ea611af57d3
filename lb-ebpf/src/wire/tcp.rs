//! TCP (RFC 9293 §3.1).

/// A TCP header without options.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Tcp {
    /// Source, then destination port. One field, as in [`super::Ipv4::addresses`].
    pub ports: [u8; 4],
    /// Sequence number.
    pub sequence: [u8; 4],
    /// Acknowledgement number.
    pub acknowledgement: [u8; 4],
    /// Data offset in 32-bit words in the high nibble.
    pub data_offset: u8,
    /// Control bits, see [`crate::tcp::Flags`].
    pub flags: u8,
    /// Receive window, unscaled.
    pub window: [u8; 2],
    /// One's-complement checksum of pseudo-header, header and payload (§3.1).
    pub checksum: [u8; 2],
    /// Urgent pointer.
    pub urgent: [u8; 2],
}

impl Tcp {
    /// Length of a header without options, in bytes.
    pub const LEN: usize = 20;

    /// Header length in bytes as the header claims it, 0 to 60.
    #[inline(always)]
    pub fn header_len(&self) -> usize {
        usize::from(self.data_offset >> 4) * 4
    }
}
