//! IPv4 and IPv6 as one type parameter: what differs between them, so that the flow table, the rewrite and the
//! decision are written once.
//!
//! Addresses are kept as they stand in packets, source and destination together, because a flow is found and
//! rewritten by both at once. Each program is compiled for one family, so that the parameter costs nothing.
//! Deliberately not here: what both families share (ports, protocols, hardware addresses).

#![expect(
    clippy::many_single_char_names,
    reason = "addresses are taken apart into bytes and words in their order"
)]

use crate::abi::{HASH_KEYS, ServiceKey, ServiceKey6, Settings, unmapped};
use crate::cell::Cell64;
use crate::checksum::Update;
use crate::wire::{Header, Ipv4, Ipv6};
use core::fmt::Debug;
use core::hash::Hash;

/// A family of addresses.
pub trait Family: Copy + Debug + Default + Eq + Hash + sealed::Sealed + 'static {
    /// Network header, without options or extensions.
    type Header: Header;
    /// One address, in network order.
    type Address: Copy + Debug + Eq;
    /// Source and destination address, as read from the header.
    type Addresses: Copy + Debug + Default + Eq + Hash;
    /// [`Addresses`](Self::Addresses) in a flow entry.
    type Cells: Default;
    /// Key of the map of services.
    type ServiceKey: Copy + Debug + Eq + Hash;

    /// Both addresses of a header.
    fn addresses(header: &Self::Header) -> Self::Addresses;
    /// Protocol of what follows the header.
    fn protocol(header: &Self::Header) -> u8;
    /// Hops left.
    fn hops(header: &Self::Header) -> u8;
    /// Length of the packet from this header on, in bytes, as the header claims it.
    fn total_len(header: &Self::Header) -> usize;
    /// Whether this is a piece of a larger packet, as far as this header says.
    fn is_fragment(header: &Self::Header) -> bool;
    /// Whether this piece, if it is one, starts with the transport header.
    fn is_first_fragment(header: &Self::Header) -> bool;
    /// Writes addresses and takes a hop off; keeps the header's checksum as right as it was.
    fn forward(header: &mut Self::Header, addresses: Self::Addresses);

    /// Both addresses from each.
    fn join(source: Self::Address, destination: Self::Address) -> Self::Addresses;
    /// Those of a packet that answers.
    fn swapped(addresses: Self::Addresses) -> Self::Addresses;
    /// The second address.
    fn destination(addresses: Self::Addresses) -> Self::Address;
    /// The address in a [`Backend`](crate::abi::Backend).
    fn unmapped(address: [u8; 16]) -> Self::Address;
    /// A checksum over both addresses when they change.
    fn update(checksum: Update, old: Self::Addresses, new: Self::Addresses) -> Update;

    /// Whether the cells hold these addresses.
    fn holds(cells: &Self::Cells, addresses: Self::Addresses) -> bool;
    /// Loads what [`store`](Self::store) stored.
    fn load(cells: &Self::Cells) -> Self::Addresses;
    /// Stores both addresses, in several stores if need be.
    fn store(cells: &Self::Cells, addresses: Self::Addresses);

    /// Two keyed hashes of a tuple, the second as good as independent of the first.
    fn hashes(keys: &[u64; HASH_KEYS], addresses: Self::Addresses, ports: u32) -> (u32, u32);
    /// Word and bit of an address in map `PREFILTER`.
    fn prefilter_bit(address: Self::Address) -> (u32, u32);
    /// The service at an address and port.
    fn service_key(address: Self::Address, port: [u8; 2], protocol: u8) -> Self::ServiceKey;
    /// Number of sets of the family's flow table, minus one.
    fn set_mask(settings: &Settings) -> u32;
    /// Valid elements of the family's map of source addresses.
    fn snat_address_count(settings: &Settings) -> u32;
}

mod sealed {
    /// Entries are mapped as memory, so nobody else may say what they hold.
    pub trait Sealed {}
    impl Sealed for super::V4 {}
    impl Sealed for super::V6 {}
}

/// IPv4 (RFC 791).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct V4;

/// IPv6 (RFC 8200).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct V6;

impl Family for V4 {
    type Header = Ipv4;
    type Address = [u8; 4];
    type Addresses = u64;
    type Cells = Cell64;
    type ServiceKey = ServiceKey;

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
    fn is_fragment(header: &Ipv4) -> bool {
        header.is_fragment()
    }

    #[inline(always)]
    fn is_first_fragment(header: &Ipv4) -> bool {
        header.is_first_fragment()
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
    fn join(source: [u8; 4], destination: [u8; 4]) -> u64 {
        let ([a, b, c, d], [e, f, g, h]) = (source, destination);
        u64::from_ne_bytes([a, b, c, d, e, f, g, h])
    }

    #[inline(always)]
    fn swapped(addresses: u64) -> u64 {
        addresses.rotate_left(32)
    }

    #[inline(always)]
    fn destination(addresses: u64) -> [u8; 4] {
        let [.., a, b, c, d] = addresses.to_ne_bytes();
        [a, b, c, d]
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
    fn set_mask(settings: &Settings) -> u32 {
        settings.flow_set_mask
    }

    #[inline(always)]
    fn snat_address_count(settings: &Settings) -> u32 {
        settings.snat_address_count
    }
}

impl Family for V6 {
    type Header = Ipv6;
    type Address = [u8; 16];
    type Addresses = [u64; 4];
    type Cells = [Cell64; 4];
    type ServiceKey = ServiceKey6;

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

    /// Fragments have an extension header, which this header is not.
    #[inline(always)]
    fn is_fragment(_: &Ipv6) -> bool {
        false
    }

    #[inline(always)]
    fn is_first_fragment(_: &Ipv6) -> bool {
        true
    }

    #[inline(always)]
    fn forward(header: &mut Ipv6, addresses: [u64; 4]) {
        header.hop_limit = header.hop_limit.wrapping_sub(1);
        header.addresses = addresses.map(u64::to_ne_bytes);
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
    fn destination([.., high, low]: [u64; 4]) -> [u8; 16] {
        let [a, b, c, d, e, f, g, h] = high.to_ne_bytes();
        let [i, j, k, l, m, n, o, p] = low.to_ne_bytes();
        [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
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
    fn set_mask(settings: &Settings) -> u32 {
        settings.flow6_set_mask
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

#[inline(always)]
const fn high(sum: u64) -> u32 {
    (sum >> 32) as u32
}
