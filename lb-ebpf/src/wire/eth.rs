//! Ethernet II (IEEE 802.3, clause 3.2.6: the type field).

/// An Ethernet header without tags.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Eth {
    /// The destination's hardware address and two bytes of the source's. A rewrite replaces both, in two
    /// stores; with a field for each LLVM would make it twelve.
    pub addresses_head: [u8; 8],
    /// The rest of the source's.
    pub addresses_tail: [u8; 4],
    /// What follows, `ETHERTYPE_*`.
    pub ethertype: [u8; 2],
}

/// IPv4 (RFC 894).
pub const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
/// Address resolution (RFC 826).
pub const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];
/// A VLAN tag follows (IEEE 802.1Q).
pub const ETHERTYPE_VLAN: [u8; 2] = [0x81, 0x00];
/// A service VLAN tag follows (IEEE 802.1ad).
pub const ETHERTYPE_QINQ: [u8; 2] = [0x88, 0xa8];
/// IPv6 (RFC 2464).
pub const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];

impl Eth {
    /// Offset of the header that follows.
    pub const LEN: usize = 14;
}

/// What follows, where tags may stand before it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ethertype(pub [u8; 2]);

/// A VLAN tag (IEEE 802.1Q §9.3): [`ETHERTYPE_VLAN`] or [`ETHERTYPE_QINQ`], then priority in the four high bits of the
/// third byte, and the VLAN in the twelve others.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Tag(pub [u8; 4]);

impl Tag {
    /// Length, in bytes.
    pub const LEN: usize = 4;
    /// Where the first one stands: between the addresses and the ethertype.
    pub const FIRST: usize = 12;

    /// Its bytes as the first four of a long.
    #[inline(always)]
    #[must_use]
    pub fn long(&self) -> u64 {
        u64::from(u32::from_le_bytes(self.0))
    }

    /// From the first four bytes of a long.
    #[expect(clippy::cast_possible_truncation, reason = "the first four are meant")]
    #[inline(always)]
    #[must_use]
    pub const fn of_long(long: u64) -> Self {
        Self((long as u32).to_le_bytes())
    }
}
