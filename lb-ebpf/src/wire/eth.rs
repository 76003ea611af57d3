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
