//! Ethernet II (IEEE 802.3, clause 3.2.6: the type field).

/// An Ethernet header without tags.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Eth {
    /// Destination, then source hardware address. One field, because a rewrite replaces both.
    pub addresses: [u8; 12],
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

    /// The addresses of a frame that answers this one.
    #[expect(clippy::many_single_char_names, reason = "bytes in their order")]
    #[inline(always)]
    pub fn swapped(&self) -> [u8; 12] {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = self.addresses;
        [g, h, i, j, k, l, a, b, c, d, e, f]
    }
}
