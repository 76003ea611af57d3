//! What is particular to IPv6 (RFC 8200).

use super::{Family, V4, V6, high, low};
use crate::abi::{HASH_KEYS, ServiceKey6, Settings, StackFlowKey6};
use crate::cell::Cell64;
use crate::checksum::Update;
use crate::layout::{Layout, Piece};
use crate::rewrite::TUNNEL_HOPS;
use crate::verdict::Stage;
use crate::wire::{ETHERTYPE_IPV6, Ipv6, PROTOCOL_ICMPV6, PROTOCOL_UDP, Udp};

impl Family for V6 {
    type Header = Ipv6;
    type Address = [u8; 16];
    type Addresses = [u64; 4];
    type Cells = [Cell64; 4];
    type ServiceKey = ServiceKey6;
    type StackFlowKey = StackFlowKey6;
    const ETHERTYPE: [u8; 2] = ETHERTYPE_IPV6;
    const TUNNELLED: u8 = 41;
    const FIRST: Stage = Stage::Ipv6;
    const EXTENDED: Stage = Stage::Extended6;
    const LEAVE: Stage = Stage::Leave6;
    const MSS: Stage = Stage::Mss6;
    const ORPHANED: Stage = Stage::Orphaned6;
    /// Two tuples of IPv6, and what becomes of them, are too much for the stack of one program.
    const NEW: Stage = Stage::Open6;
    const OPEN: Stage = Stage::Open6;
    const TOO_BIG: Stage = Stage::TooBig6;
    /// Packet too big (RFC 4443 §3.2).
    const TOO_BIG_KIND: (u8, u8) = (2, 0);
    const RELAY: Stage = Stage::Icmp6;
    const REFUSE: Stage = Stage::Refuse6;
    /// Destination unreachable, address unreachable (RFC 4443 §3.1).
    const UNREACHABLE_KIND: (u8, u8) = (1, 3);
    const ICMP: u8 = PROTOCOL_ICMPV6;

    /// Destination unreachable, packet too big, time exceeded, parameter problem (RFC 4443 §3).
    #[inline(always)]
    fn is_error(kind: u8) -> bool {
        matches!(kind, 1..=4)
    }

    #[inline(always)]
    fn header_len(header: &Ipv6) -> Option<usize> {
        (header.version() == 6).then_some(Ipv6::LEN)
    }

    /// A fragment has an extension header, which this header is not.
    #[inline(always)]
    fn is_first_fragment(_: &Ipv6) -> bool {
        true
    }

    #[inline(always)]
    fn addresses(header: &Ipv6) -> [u64; 4] {
        header.addresses.map(u64::from_ne_bytes)
    }

    #[inline(always)]
    fn protocol(header: &Ipv6) -> u8 {
        header.next_header
    }

    #[inline(always)]
    fn hops(header: &Ipv6) -> u8 {
        header.hop_limit
    }

    #[inline(always)]
    fn total_len(header: &Ipv6) -> usize {
        Ipv6::LEN + header.payload_len()
    }

    #[inline(always)]
    fn forward(header: &mut Ipv6, addresses: [u64; 4]) {
        header.hop_limit = header.hop_limit.wrapping_sub(1);
        header.addresses = addresses.map(u64::to_ne_bytes);
    }

    #[inline(always)]
    fn readdress(header: &mut Ipv6, addresses: [u64; 4]) {
        header.addresses = addresses.map(u64::to_ne_bytes);
    }

    #[inline(always)]
    fn outer(inner: &Ipv6, payload: usize, protocol: u8, addresses: [u64; 4]) -> Ipv6 {
        Ipv6 {
            version_class_flow: inner.version_class_flow,
            payload_length: low(payload).to_be_bytes(),
            next_header: protocol,
            hop_limit: TUNNEL_HOPS,
            addresses: addresses.map(u64::to_ne_bytes),
        }
    }

    /// UDP over IPv6 must have one (RFC 8200 §8.1). What the inner packet adds to it follows from its header alone: with
    /// its pseudo-header, the inner segment sums to zero, and its addresses are in header and pseudo-header alike. So
    /// what is left is version, class, label, hops, and the protocol, which stands in another byte in each. A damaged
    /// packet makes a wrong checksum, as it should.
    #[inline(always)]
    fn tunnel_checksum(inner: &Ipv6, udp: &Udp, addresses: [u64; 4]) -> [u8; 2] {
        let [length_high, length_low] = udp.length;
        let [a, b, c, d] = addresses;
        let hop_and_protocol = [inner.next_header, inner.hop_limit, 0, PROTOCOL_UDP];
        let protocol_low = u32::from_ne_bytes([0, inner.next_header, 0, 0]);
        let checksum = Update::empty()
            .word(0, u32::from_ne_bytes(inner.version_class_flow))
            .word(protocol_low, u32::from_ne_bytes(hop_and_protocol))
            .word(0, u32::from_ne_bytes(udp.ports))
            // Once in the pseudo-header, once in the header.
            .word(
                0,
                u32::from_ne_bytes([length_high, length_low, length_high, length_low]),
            )
            .long(0, a)
            .long(0, b)
            .long(0, c)
            .long(0, d)
            .finish();
        match checksum {
            Udp::NO_CHECKSUM => [0xff, 0xff],
            computed => computed,
        }
    }

    /// The transport header and all that it covers must follow at once.
    #[inline(always)]
    fn has_tunnel_checksum(layout: &Layout) -> bool {
        layout.piece == Piece::Whole && layout.transport == layout.network + Ipv6::LEN
    }

    #[inline(always)]
    fn icmp_pseudo_header([a, b, c, d]: [u64; 4], length: usize) -> Update {
        let [high, low] = low(length).to_be_bytes();
        Update::empty()
            .long(0, a)
            .long(0, b)
            .long(0, c)
            .long(0, d)
            .word(0, u32::from_ne_bytes([high, low, 0, PROTOCOL_ICMPV6]))
    }

    #[inline(always)]
    fn update_icmp(checksum: Update, old: [u64; 4], new: [u64; 4]) -> Update {
        Self::update(checksum, old, new)
    }

    #[inline(always)]
    fn join(source: [u8; 16], destination: [u8; 16]) -> [u64; 4] {
        let ([a, b], [c, d]) = (halves(source), halves(destination));
        [a, b, c, d]
    }

    #[inline(always)]
    fn swapped([a, b, c, d]: [u64; 4]) -> [u64; 4] {
        [c, d, a, b]
    }

    #[inline(always)]
    fn wide_source([high, low, ..]: [u64; 4]) -> [u8; 16] {
        let [a, b, c, d, e, f, g, h] = high.to_ne_bytes();
        let [i, j, k, l, m, n, o, p] = low.to_ne_bytes();
        [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
    }

    #[inline(always)]
    fn destination([.., high, low]: [u64; 4]) -> [u8; 16] {
        let [a, b, c, d, e, f, g, h] = high.to_ne_bytes();
        let [i, j, k, l, m, n, o, p] = low.to_ne_bytes();
        [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
    }

    /// Half by half, as in [`holds`](Self::holds).
    #[inline(always)]
    fn same_destination([.., a, b]: [u64; 4], [.., c, d]: [u64; 4]) -> bool {
        a == c && b == d
    }

    /// Not unspecified, loopback or multicast (RFC 4291 §2.4).
    #[inline(always)]
    fn is_from_one_host([first, second, ..]: [u64; 4]) -> bool {
        let [leading, ..] = first.to_ne_bytes();
        leading != 0xff && (first != 0 || u64::from_be(second) > 1)
    }

    #[inline(always)]
    fn unmapped(address: [u8; 16]) -> [u8; 16] {
        address
    }

    #[inline(always)]
    fn update(checksum: Update, old: [u64; 4], new: [u64; 4]) -> Update {
        let ([a, b, c, d], [e, f, g, h]) = (old, new);
        checksum.long(a, e).long(b, f).long(c, g).long(d, h)
    }

    /// Half by half: a comparison of arrays is a call of `memcmp`, which the verifier refuses.
    #[inline(always)]
    fn holds([a, b, c, d]: &[Cell64; 4], addresses: [u64; 4]) -> bool {
        let [e, f, g, h] = addresses;
        b.load() == f && d.load() == h && a.load() == e && c.load() == g
    }

    #[inline(always)]
    fn load([a, b, c, d]: &[Cell64; 4]) -> [u64; 4] {
        [a.load(), b.load(), c.load(), d.load()]
    }

    #[inline(always)]
    fn store([a, b, c, d]: &[Cell64; 4], addresses: [u64; 4]) {
        let [e, f, g, h] = addresses;
        a.store(e);
        b.store(f);
        c.store(g);
        d.store(h);
    }

    /// Multilinear-HM, half the multiplications for the same promise (Lemire and Kaser, 2014, §4); the second hash
    /// is a multiply-shift (Dietzfelbinger et al., 1997) of all 64 bits of the first one's sum.
    #[inline(always)]
    fn hashes(keys: &[u64; HASH_KEYS], addresses: [u64; 4], ports: u32) -> (u32, u32) {
        let [k0, k1, k2, k3, k4, k5, k6, k7, k8, k9, k10, k11] = *keys;
        let [a, b, c, d] = addresses;
        let pair = |left: u64, right: u64, pair: u64| {
            left.wrapping_add(pair & 0xffff_ffff)
                .wrapping_mul(right.wrapping_add(pair >> 32))
        };
        let sum = k8
            .wrapping_add(pair(k0, k1, a))
            .wrapping_add(pair(k2, k3, b))
            .wrapping_add(pair(k4, k5, c))
            .wrapping_add(pair(k6, k7, d))
            .wrapping_add(k9.wrapping_mul(u64::from(ports)));
        let second = k11.wrapping_add(sum.wrapping_mul(k10 | 1));
        (high(sum), high(second))
    }

    #[inline(always)]
    fn fold([a, b, c, d]: [u64; 4]) -> u32 {
        V4::fold(a ^ b ^ c ^ d)
    }

    #[inline(always)]
    fn prefilter_bit(address: [u8; 16]) -> (u32, u32) {
        crate::flow::prefilter_bit6(address)
    }

    #[inline(always)]
    fn service_key(address: [u8; 16], port: [u8; 2], protocol: u8) -> ServiceKey6 {
        ServiceKey6 {
            address,
            port,
            protocol,
            zero: 0,
        }
    }

    #[inline(always)]
    fn stack_flow_key(addresses: [u64; 4], ports: u32) -> StackFlowKey6 {
        let [a, b, c, d] = ports.to_ne_bytes();
        StackFlowKey6 {
            remote: Self::wide_source(addresses),
            local: Self::destination(addresses),
            remote_port: [a, b],
            local_port: [c, d],
        }
    }

    #[inline(always)]
    fn set_mask(settings: &Settings) -> u32 {
        settings.flow6_set_mask
    }

    #[inline(always)]
    fn core(settings: &Settings) -> u16 {
        settings.flow6_core
    }

    #[inline(always)]
    fn snat_address_count(settings: &Settings) -> u32 {
        settings.snat6_address_count
    }
}

#[inline(always)]
fn halves(address: [u8; 16]) -> [u64; 2] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = address;
    [
        u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
        u64::from_ne_bytes([i, j, k, l, m, n, o, p]),
    ]
}
