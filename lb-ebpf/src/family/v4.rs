//! What is particular to IPv4 (RFC 791).

use super::{Family, V4, high, low};
use crate::abi::{HASH_KEYS, ServiceKey, Settings, StackFlowKey, mapped, unmapped};
use crate::cell::Cell64;
use crate::checksum::Update;
use crate::layout::Layout;
use crate::rewrite::TUNNEL_HOPS;
use crate::verdict::Stage;
use crate::wire::{ETHERTYPE_IPV4, Ipv4, PROTOCOL_ICMP, Udp};

impl Family for V4 {
    type Header = Ipv4;
    type Address = [u8; 4];
    type Addresses = u64;
    type Cells = Cell64;
    type ServiceKey = ServiceKey;
    type StackFlowKey = StackFlowKey;
    const ETHERTYPE: [u8; 2] = ETHERTYPE_IPV4;
    const TUNNELLED: u8 = 4;
    const FIRST: Stage = Stage::Ipv4;
    const EXTENDED: Stage = Stage::Extended;
    const LEAVE: Stage = Stage::Leave;
    const MSS: Stage = Stage::Mss;
    const ORPHANED: Stage = Stage::Orphaned;
    const NEW: Stage = Stage::New;
    const OPEN: Stage = Stage::Open;
    const TOO_BIG: Stage = Stage::TooBig;
    /// Destination unreachable, fragmentation needed and don't-fragment set (RFC 792).
    const TOO_BIG_KIND: (u8, u8) = (3, 4);
    const RELAY: Stage = Stage::Icmp;
    const REFUSE: Stage = Stage::Refuse;
    /// Destination unreachable, host unreachable (RFC 792).
    const UNREACHABLE_KIND: (u8, u8) = (3, 1);
    const ICMP: u8 = PROTOCOL_ICMP;

    /// Destination unreachable, time exceeded, parameter problem (RFC 792).
    #[inline(always)]
    fn is_error(kind: u8) -> bool {
        matches!(kind, 3 | 11 | 12)
    }

    #[inline(always)]
    fn header_len(header: &Ipv4) -> Option<usize> {
        let length = header.header_len();
        (header.version() == 4 && length >= Ipv4::LEN).then_some(length)
    }

    #[inline(always)]
    fn is_first_fragment(header: &Ipv4) -> bool {
        header.fragment_offset() == 0
    }

    #[inline(always)]
    fn addresses(header: &Ipv4) -> u64 {
        u64::from_ne_bytes(header.addresses)
    }

    #[inline(always)]
    fn protocol(header: &Ipv4) -> u8 {
        header.protocol
    }

    #[inline(always)]
    fn hops(header: &Ipv4) -> u8 {
        header.ttl
    }

    #[inline(always)]
    fn total_len(header: &Ipv4) -> usize {
        header.total_len()
    }

    #[inline(always)]
    fn forward(header: &mut Ipv4, addresses: u64) {
        let old_addresses = Self::addresses(header);
        let old_hop = u32::from(u16::from_ne_bytes([header.ttl, header.protocol]));
        header.ttl = header.ttl.wrapping_sub(1);
        let new_hop = u32::from(u16::from_ne_bytes([header.ttl, header.protocol]));
        header.checksum = Update::new(header.checksum)
            .long(old_addresses, addresses)
            .word(old_hop, new_hop)
            .finish();
        header.addresses = addresses.to_ne_bytes();
    }

    #[inline(always)]
    fn readdress(header: &mut Ipv4, addresses: u64) {
        header.checksum = Update::new(header.checksum)
            .long(Self::addresses(header), addresses)
            .finish();
        header.addresses = addresses.to_ne_bytes();
    }

    /// Not to be fragmented, and so without an identification (RFC 6864 §4.1).
    #[inline(always)]
    fn outer(inner: &Ipv4, payload: usize, protocol: u8, addresses: u64) -> Ipv4 {
        let mut outer = Ipv4 {
            version_ihl: 0x45,
            tos: inner.tos,
            total_length: low(Ipv4::LEN + payload).to_be_bytes(),
            identification: [0, 0],
            fragment: [0x40, 0],
            ttl: TUNNEL_HOPS,
            protocol,
            checksum: [0, 0],
            addresses: addresses.to_ne_bytes(),
        };
        let [length_high, length_low] = outer.total_length;
        let first = u32::from_ne_bytes([outer.version_ihl, outer.tos, length_high, length_low]);
        let hop = u32::from_ne_bytes([outer.ttl, outer.protocol, 0x40, 0]);
        outer.checksum = Update::empty()
            .word(0, first)
            .word(0, hop)
            .long(0, addresses)
            .finish();
        outer
    }

    /// None, which UDP over IPv4 may do without (RFC 768): both inner checksums are there.
    #[inline(always)]
    fn tunnel_checksum(_: &Ipv4, _: &Udp, _: u64) -> [u8; 2] {
        Udp::NO_CHECKSUM
    }

    #[inline(always)]
    fn has_tunnel_checksum(_: &Layout) -> bool {
        true
    }

    #[inline(always)]
    fn icmp_pseudo_header(_: u64, _: usize) -> Update {
        Update::empty()
    }

    /// Not at all: there is no pseudo-header, and a quoted header has a checksum of its own, which makes up for them.
    #[inline(always)]
    fn update_icmp(checksum: Update, _: u64, _: u64) -> Update {
        checksum
    }

    #[inline(always)]
    fn join(source: [u8; 4], destination: [u8; 4]) -> u64 {
        let ([a, b, c, d], [e, f, g, h]) = (source, destination);
        u64::from_ne_bytes([a, b, c, d, e, f, g, h])
    }

    #[inline(always)]
    fn swapped(addresses: u64) -> u64 {
        addresses.rotate_left(32)
    }

    #[inline(always)]
    fn wide_source(addresses: u64) -> [u8; 16] {
        let [a, b, c, d, ..] = addresses.to_ne_bytes();
        mapped([a, b, c, d])
    }

    #[inline(always)]
    fn destination(addresses: u64) -> [u8; 4] {
        let [.., a, b, c, d] = addresses.to_ne_bytes();
        [a, b, c, d]
    }

    #[inline(always)]
    fn same_destination(one: u64, other: u64) -> bool {
        high(one) == high(other)
    }

    /// Not "this network", loopback, multicast, reserved, broadcast (RFC 6890).
    #[inline(always)]
    fn is_from_one_host(addresses: u64) -> bool {
        let [first, ..] = addresses.to_ne_bytes();
        !matches!(first, 0 | 127 | 224..)
    }

    #[inline(always)]
    fn unmapped(address: [u8; 16]) -> [u8; 4] {
        unmapped(address)
    }

    #[inline(always)]
    fn update(checksum: Update, old: u64, new: u64) -> Update {
        checksum.long(old, new)
    }

    #[inline(always)]
    fn holds(cells: &Cell64, addresses: u64) -> bool {
        cells.load() == addresses
    }

    #[inline(always)]
    fn load(cells: &Cell64) -> u64 {
        cells.load()
    }

    #[inline(always)]
    fn store(cells: &Cell64, addresses: u64) {
        cells.store(addresses);
    }

    /// Multilinear `(k0 + k1·source + k2·destination + k3·ports) >> 32`: strongly universal (Lemire and
    /// Kaser, "Strongly universal string hashing is fast", 2014) and the cheapest measured on BPF.
    #[inline(always)]
    fn hashes(keys: &[u64; HASH_KEYS], addresses: u64, ports: u32) -> (u32, u32) {
        let [k0, k1, k2, k3, l0, l1, l2, l3, ..] = *keys;
        let hash = |k0: u64, k1: u64, k2: u64, k3: u64| {
            let sum = k0
                .wrapping_add(k1.wrapping_mul(addresses & 0xffff_ffff))
                .wrapping_add(k2.wrapping_mul(addresses >> 32))
                .wrapping_add(k3.wrapping_mul(u64::from(ports)));
            high(sum)
        };
        (hash(k0, k1, k2, k3), hash(l0, l1, l2, l3))
    }

    #[inline(always)]
    fn fold(addresses: u64) -> u32 {
        high(addresses) ^ high(addresses << 32)
    }

    #[inline(always)]
    fn prefilter_bit(address: [u8; 4]) -> (u32, u32) {
        crate::flow::prefilter_bit(address)
    }

    #[inline(always)]
    fn service_key(address: [u8; 4], port: [u8; 2], protocol: u8) -> ServiceKey {
        ServiceKey {
            address,
            port,
            protocol,
            zero: 0,
        }
    }

    #[inline(always)]
    fn stack_flow_key(addresses: u64, ports: u32) -> StackFlowKey {
        let [a, b, c, d, e, f, g, h] = addresses.to_ne_bytes();
        let [i, j, k, l] = ports.to_ne_bytes();
        StackFlowKey {
            remote: [a, b, c, d],
            local: [e, f, g, h],
            remote_port: [i, j],
            local_port: [k, l],
        }
    }

    #[inline(always)]
    fn set_mask(settings: &Settings) -> u32 {
        settings.flow_set_mask
    }

    #[inline(always)]
    fn core(settings: &Settings) -> u16 {
        settings.flow_core
    }

    #[inline(always)]
    fn snat_address_count(settings: &Settings) -> u32 {
        settings.snat_address_count
    }
}
