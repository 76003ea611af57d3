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
}

/// The start of a packet, as an error message about it quotes it. One that is too big has so many bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Quote(pub [[u8; 8]; 64]);

impl Quote {
    /// Length, in bytes: with all headers before it within the 576 that any IPv4 host takes (RFC 1812 §4.3.2.3).
    pub const LEN: usize = 512;
}
