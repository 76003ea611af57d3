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

mod v4;
mod v6;

use crate::abi::{HASH_KEYS, Settings};
use crate::checksum::Update;
use crate::layout::Layout;
use crate::verdict::Stage;
use crate::wire::{Header, Udp};
use core::fmt::Debug;
use core::hash::Hash;

/// A family of addresses.
pub trait Family: Copy + Debug + Default + Eq + Hash + sealed::Sealed + 'static {
    /// Network header, without options or extensions.
    type Header: Header + Copy;
    /// One address, in network order.
    type Address: Copy + Debug + Eq;
    /// Source and destination address, as read from the header.
    type Addresses: Copy + Debug + Default + Eq + Hash;
    /// [`Addresses`](Self::Addresses) in a flow entry.
    type Cells: Default;
    /// Key of the map of services.
    type ServiceKey: Copy + Debug + Eq + Hash;
    /// Key of the map of connections on the host's stack.
    type StackFlowKey: Copy + Debug + Eq + Hash;
    /// What a frame says it carries.
    const ETHERTYPE: [u8; 2];
    /// What an IP header says it carries if that is a packet of this family.
    const TUNNELLED: u8;
    /// The program that plain packets enter.
    const FIRST: Stage;
    /// The program of packets that are not plain.
    const EXTENDED: Stage;
    /// Who opens flows where that is simple.
    const NEW: Stage;
    /// Who decides about packets of no flow.
    const OPEN: Stage;
    /// Who rewrites what another stage has decided about.
    const LEAVE: Stage;
    /// Who lowers the MSS that a SYN announces.
    const MSS: Stage;
    /// Who decides what becomes of packets while userspace is gone.
    const ORPHANED: Stage;
    /// Who answers a packet that is too big for its tunnel.
    const TOO_BIG: Stage;
    /// Kind and code of that answer.
    const TOO_BIG_KIND: (u8, u8);
    /// Who decides about ICMP.
    const RELAY: Stage;
    /// Who tells a client that there is no way to a server for it.
    const REFUSE: Stage;
    /// Kind and code of that answer.
    const UNREACHABLE_KIND: (u8, u8);
    /// What an IP header says it carries if that is such an answer.
    const ICMP: u8;

    /// Whether an ICMP message of this kind reports an error, and so quotes the packet that met it.
    fn is_error(kind: u8) -> bool;

    /// Length of the header in bytes, options included; `None` if it is none of this family.
    fn header_len(header: &Self::Header) -> Option<usize>;
    /// Whether a packet with this header starts with the transport header, as far as this header says.
    fn is_first_fragment(header: &Self::Header) -> bool;
    /// Both addresses of a header.
    fn addresses(header: &Self::Header) -> Self::Addresses;
    /// Protocol of what follows the header.
    fn protocol(header: &Self::Header) -> u8;
    /// Hops left.
    fn hops(header: &Self::Header) -> u8;
    /// Length of the packet from this header on, in bytes, as the header claims it.
    fn total_len(header: &Self::Header) -> usize;
    /// Writes addresses and takes a hop off; keeps the header's checksum as right as it was.
    fn forward(header: &mut Self::Header, addresses: Self::Addresses);
    /// Writes addresses and nothing else: into a header that is only quoted.
    fn readdress(header: &mut Self::Header, addresses: Self::Addresses);

    /// The header of a packet in which `inner` travels, before `payload` bytes of `protocol`.
    fn outer(
        inner: &Self::Header,
        payload: usize,
        protocol: u8,
        addresses: Self::Addresses,
    ) -> Self::Header;
    /// The checksum of the UDP header in which a packet with a transport checksum travels.
    fn tunnel_checksum(inner: &Self::Header, udp: &Udp, addresses: Self::Addresses) -> [u8; 2];

    /// Whether [`tunnel_checksum`](Self::tunnel_checksum) is right for a packet of this layout.
    fn has_tunnel_checksum(layout: &Layout) -> bool;

    /// What an ICMP checksum covers besides the message of `length` bytes.
    fn icmp_pseudo_header(addresses: Self::Addresses, length: usize) -> Update;

    /// An ICMP checksum when addresses change that it covers: in its pseudo-header, or in a quoted header.
    fn update_icmp(checksum: Update, old: Self::Addresses, new: Self::Addresses) -> Update;

    /// Both addresses from each.
    fn join(source: Self::Address, destination: Self::Address) -> Self::Addresses;
    /// Those of a packet that answers.
    fn swapped(addresses: Self::Addresses) -> Self::Addresses;
    /// The first address; an IPv4 one as [`mapped`](crate::abi::mapped).
    fn wide_source(addresses: Self::Addresses) -> [u8; 16];
    /// The second address.
    fn destination(addresses: Self::Addresses) -> Self::Address;
    /// Whether both have the same second address.
    fn same_destination(one: Self::Addresses, other: Self::Addresses) -> bool;
    /// Whether the first address can be one host's, so that an error message may be sent to it (RFC 1122 §3.2.2).
    fn is_from_one_host(addresses: Self::Addresses) -> bool;
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
    /// Both addresses in 32 bits, not keyed.
    fn fold(addresses: Self::Addresses) -> u32;
    /// Word and bit of an address in map `PREFILTER`.
    fn prefilter_bit(address: Self::Address) -> (u32, u32);
    /// The service at an address and port.
    fn service_key(address: Self::Address, port: [u8; 2], protocol: u8) -> Self::ServiceKey;
    /// The connection whose client sends packets with these addresses, and ports as in [`crate::wire::Tcp::ports`].
    fn stack_flow_key(addresses: Self::Addresses, ports: u32) -> Self::StackFlowKey;
    /// Number of sets of the family's flow table, minus one.
    fn set_mask(settings: &Settings) -> u32;
    /// What use is made of the table's core.
    fn core(settings: &Settings) -> u16;
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

/// Lengths of packets that are within an MTU.
#[expect(clippy::cast_possible_truncation, reason = "an MTU has sixteen bits")]
#[inline(always)]
const fn low(length: usize) -> u16 {
    length as u16
}

#[inline(always)]
const fn high(sum: u64) -> u32 {
    (sum >> 32) as u32
}
