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

/// The one option that is looked at, maximum segment size (§3.7.1): a SYN says how much data its sender takes at once.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Mss {
    /// `Mss::KIND`; of another option, the first bytes of which are laid out alike, its kind.
    pub kind: u8,
    /// Of the whole option, in bytes.
    pub length: u8,
    /// Bytes of data.
    pub size: [u8; 2],
}

impl Mss {
    /// What tells it from other options.
    pub const KIND: u8 = 2;
    /// Length of the option, in bytes.
    pub const LEN: usize = 4;
    /// The end of the options; without a length.
    pub const END: u8 = 0;
    /// Padding between options; without a length.
    pub const NO_OPERATION: u8 = 1;
}

impl Tcp {
    /// Length of a header without options, in bytes.
    pub const LEN: usize = 20;

    /// Offset of the checksum, in bytes.
    pub const CHECKSUM: usize = 16;

    /// Header length in bytes as the header claims it, 0 to 60.
    #[inline(always)]
    pub fn header_len(&self) -> usize {
        usize::from(self.data_offset >> 4) * 4
    }
}
