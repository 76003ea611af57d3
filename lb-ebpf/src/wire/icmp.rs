//! ICMP (RFC 792) and `ICMPv6` (RFC 4443), as far as errors go.

/// The header of an error message: eight bytes, then the packet that it is about.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Icmp {
    /// Kind of message.
    pub kind: u8,
    /// What exactly.
    pub code: u8,
    /// One's-complement checksum of the message, in `ICMPv6` of a pseudo-header as well.
    pub checksum: [u8; 2],
    /// What the kind says; of "too big" in `ICMPv6` the MTU, in ICMP its last two bytes (RFC 1191 §4).
    pub rest: [u8; 4],
}

impl Icmp {
    /// Length of the header, in bytes.
    pub const LEN: usize = 8;

    /// The most that we quote, in bytes: with all headers before it within the 576 that any IPv4 host takes
    /// (RFC 1812 §4.3.2.3).
    pub const MAX_QUOTE: usize = 512;
}

/// Two bytes of what is quoted: a field of a header that need not be there as a whole.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Half(pub [u8; 2]);

impl Half {
    /// Length, in bytes.
    pub const LEN: usize = 2;
}

/// Four bytes of what is quoted, to be summed up.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Word(pub [u8; 4]);

impl Word {
    /// Length, in bytes.
    pub const LEN: usize = 4;
}
