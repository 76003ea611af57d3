//! The types that the XDP program and userspace share through maps.
//!
//! Plain old data only: no `bool`, no `Option`, no enum that carries data, no implicit padding, so
//! that every bit pattern is a valid value and both sides see the same bytes. Addresses and ports
//! that stand in packets are byte arrays in network order, and so can't be swapped twice.
//! Userspace writes everything here except [`FlowEntry`](crate::flow::FlowEntry) and the counters;
//! the map table in `ARCHITECTURE.md` says who writes what, and when.

use crate::family::{V4, V6};
use crate::layout::{FragmentKey, Handover};

/// Version of everything in this module and of the flow entries. Userspace does not reuse a pinned map
/// whose [`Settings::abi_version`] differs, and the program passes all packets while it does: zero,
/// for instance, before userspace has written anything.
pub const ABI_VERSION: u32 = 4;

/// Slots of one Maglev table: prime, and more than 100 times the servers we expect in one pool, which
/// keeps the imbalance below 1 % (Eisenbud et al., "Maglev", NSDI 2016, §5.3).
pub const RING_SIZE: u32 = 65_537;

/// Slots in one element of map `RINGS`. The kernel spaces elements eight bytes apart, and a ring that is four times as long in
/// memory is not at hand when a connection asks for its server.
pub const RING_SLOTS: u32 = 4;

/// Services that one host can hold. Each owns two rings, so that a new one is written beside the one in use.
pub const MAX_SERVICES: u32 = 64;

/// Servers of all services together.
pub const MAX_BACKENDS: u32 = 4096;

/// Numbers for services: [`Service::id`] is below. More than [`MAX_SERVICES`], because a number that flows still have is
/// not given to another service.
pub const SERVICE_IDS: u32 = 256;

/// Numbers for servers, which are indices of map `BACKENDS`. More than [`MAX_BACKENDS`], for the same reason.
pub const BACKEND_IDS: u32 = 4 * MAX_BACKENDS;

// What a flow's entry has room for.
const _: () = assert!(MAX_SERVICES * 2 <= SERVICE_IDS && SERVICE_IDS <= 1 << 8);
const _: () = assert!(MAX_BACKENDS * 2 <= BACKEND_IDS && BACKEND_IDS <= 1 << 16);

/// Source addresses for full NAT.
pub const MAX_SNAT_ADDRESSES: u32 = 64;

/// Interfaces that the program is attached to.
pub const MAX_INTERFACES: u32 = 16;

/// VLANs on those interfaces.
pub const MAX_VLANS: u32 = 256;

/// Datagrams of which fragments are under way at once; of each family.
pub const MAX_FRAGMENTED: u32 = 8192;

/// Connections of workers' services that are known to live on the host's stack; of each family. Beyond that the least recently
/// seen is forgotten, which costs its packets the way by a worker.
pub const MAX_STACK_FLOWS: u32 = 65_536;

/// Slots of the `AF_XDP` socket map: `Interface::xsk_base + rx queue`.
pub const MAX_XSKS: u32 = 256;

/// Keys of the flow hashes: two sums of four for IPv4, all of them for IPv6.
pub const HASH_KEYS: usize = 12;

/// Networks in the lists of all services together.
pub const MAX_PREFIXES: u32 = 1 << 20;

/// Bits of the address prefilter (see [`crate::flow::prefilter_bit`]).
pub const PREFILTER_WORDS: u32 = 1024;

/// Global settings, the only element of map `SETTINGS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// [`ABI_VERSION`] of the userspace that wrote this.
    pub abi_version: u32,
    /// Coarse clock in seconds, advanced by userspace. The program never calls a clock helper for it.
    pub tick: u32,
    /// Keys of the multilinear flow hash, random or from the config.
    pub hash_key: [u64; HASH_KEYS],
    /// Number of sets in map `FLOWS`, minus one; the number is a power of two.
    pub flow_set_mask: u32,
    /// As `flow_set_mask`, of map `FLOWS6`.
    pub flow6_set_mask: u32,
    /// Valid elements of map `SNAT_ADDRESSES`.
    pub snat_address_count: u32,
    /// Valid elements of map `SNAT_ADDRESSES6`.
    pub snat6_address_count: u32,
    /// First port of the SNAT range.
    pub snat_port_first: u16,
    /// Ports in the SNAT range.
    pub snat_port_count: u16,
    /// Bits `SETTINGS_*`.
    pub flags: u32,
    /// The SNAT range is dealt out to `1 << snat_partition_bits` CPUs by the low bits of the port, so
    /// that two CPUs never want the same one. Must cover the possible CPUs of the machine.
    pub snat_partition_bits: u32,
    /// Not zero when userspace is gone: the program has looked at the clock after [`alive_until`](Self::alive_until).
    /// Userspace writes zero with every tick.
    pub orphaned: u32,
    /// Nanoseconds of `CLOCK_MONOTONIC_COARSE` after which userspace counts as gone, for services with
    /// [`SERVICE_FLAG_PASS_IF_ORPHANED`]. Userspace moves it ahead with every tick; zero if there is no such service.
    pub alive_until: u64,
    /// `CORE_*`: what use is made of the core of map `FLOWS`.
    pub flow_core: u16,
    /// As `flow_core`, of map `FLOWS6`.
    pub flow6_core: u16,
    /// Always zero.
    pub zero: u32,
}

/// At least one service keeps the client's address, so replies are found by their source, not
/// their destination: the prefilter must look at both.
pub const SETTINGS_MATCH_SOURCE: u32 = 1;

/// At least one service has a [`Service::mss`], so each SYN must be asked for its own.
pub const SETTINGS_LIMIT_MSS: u32 = 2;

/// The core of a flow table is its first sixteenth: this many halvings of it. See [`crate::flow`].
pub const CORE_SHIFT: u16 = 4;
/// A table without core.
pub const CORE_NONE: u16 = 0;
/// Flows are looked for and placed in the core first.
pub const CORE_FIRST: u16 = CORE_SHIFT;
/// The core was filled first, and then became too small: flows are placed all over the table, but may lie there still.
pub const CORE_SPREAD: u16 = 0x100;

/// Key of map `SERVICES`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceKey {
    /// Virtual address.
    pub address: [u8; 4],
    /// Virtual port.
    pub port: [u8; 2],
    /// IP protocol number: 6 (TCP), or 17 (UDP) for a service of kind [`SERVICE_KIND_L4`].
    pub protocol: u8,
    /// Always zero: the map compares bytes.
    pub zero: u8,
}

/// Key of map `SERVICES6`, fields as in [`ServiceKey`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceKey6 {
    /// Virtual address.
    pub address: [u8; 16],
    /// Virtual port.
    pub port: [u8; 2],
    /// IP protocol number.
    pub protocol: u8,
    /// Always zero.
    pub zero: u8,
}

/// Value of maps `SERVICES` and `SERVICES6`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// `SERVICE_KIND_*`.
    pub kind: u8,
    /// `SERVICE_FLAG_*`.
    pub flags: u8,
    /// The number by which flows know it; also the index of its counters. Below [`SERVICE_IDS`].
    pub id: u16,
    /// First slot of the live Maglev ring in map `RINGS`; [`RING_EMPTY`] when no server is up.
    pub ring: u32,
    /// First slot of the ring that was live before, for segments in mid-connection that have no flow here;
    /// [`RING_EMPTY`] if there was none.
    pub previous_ring: u32,
    /// `FORWARD_*`, for [`SERVICE_KIND_L4`].
    pub forward: u8,
    /// Always zero.
    pub zero: u8,
    /// Greatest TCP MSS that a SYN of either side may announce, in bytes; 0 leaves it alone. Needs [`SETTINGS_LIMIT_MSS`].
    pub mss: u16,
}

/// [`Service::ring`] of a service without a live server.
pub const RING_EMPTY: u32 = u32::MAX;
/// No service: what is not in the map.
pub const SERVICE_KIND_NONE: u8 = 0;
/// Forwarded by the program.
pub const SERVICE_KIND_L4: u8 = 1;
/// Redirected to the worker of the packet's queue.
pub const SERVICE_KIND_WORKER: u8 = 2;
/// Passed up: a worker listens on a kernel socket.
pub const SERVICE_KIND_STACK: u8 = 3;
/// With [`FORWARD_NAT`], the server sees the client's address: only the destination is rewritten.
pub const SERVICE_FLAG_KEEP_SOURCE: u8 = 1;
/// Connections of one client address go to one server: the ring slot depends on nothing else.
pub const SERVICE_FLAG_AFFINITY: u8 = 2;
/// When userspace is gone ([`Settings::orphaned`]), pass packets up instead of forwarding them.
pub const SERVICE_FLAG_PASS_IF_ORPHANED: u8 = 4;

/// The service has a list of who may connect: [`Service::id`] is its [`AccessKey::scope`].
pub const SERVICE_FLAG_LISTED: u8 = 8;
/// The list for all services, [`ACCESS_GLOBAL`], holds for this one.
pub const SERVICE_FLAG_LISTED_GLOBALLY: u8 = 16;
/// Of [`SERVICE_KIND_WORKER`]: some of its connections may live on the host's stack, and map `STACK_FLOWS` says which.
pub const SERVICE_FLAG_MOVES: u8 = 32;
/// With [`SERVICE_FLAG_MOVES`]: new connections begin on the host's stack. A SYN is noted in map `STACK_FLOWS` and passed.
pub const SERVICE_FLAG_BEGINS_ON_STACK: u8 = 64;

/// Key of map `STACK_FLOWS`: the ends of a connection of a worker's service. Aligned, because the program makes it on its stack,
/// where the verifier refuses misaligned stores.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StackFlowKey {
    /// Address of the client.
    pub remote: [u8; 4],
    /// Virtual address.
    pub local: [u8; 4],
    /// Port of the client.
    pub remote_port: [u8; 2],
    /// Virtual port.
    pub local_port: [u8; 2],
}

/// Key of map `STACK_FLOWS6`, fields as in [`StackFlowKey`].
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StackFlowKey6 {
    /// Address of the client.
    pub remote: [u8; 16],
    /// Virtual address.
    pub local: [u8; 16],
    /// Port of the client.
    pub remote_port: [u8; 2],
    /// Virtual port.
    pub local_port: [u8; 2],
}

/// Value of map `STACK_FLOWS`: the connection began with a worker and moved. Its worker takes it off some seconds after its end.
pub const STACK_FLOW_MOVED: u32 = 1;
/// Value of map `STACK_FLOWS`: it began on the stack, since new ones do ([`SERVICE_FLAG_BEGINS_ON_STACK`]) or since the one before it
/// between the same ends had moved there. The program writes it at the SYN; no worker takes it off. A program or a userspace of this
/// [`ABI_VERSION`] that makes no difference between the two does no harm: what is taken off too early only takes a longer way.
pub const STACK_FLOW_BEGUN: u32 = 2;

/// Key of map `ACCESS`, which finds the longest prefix of it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccessKey {
    /// Number of the service, or [`ACCESS_GLOBAL`].
    pub scope: u32,
    /// Address of the client; an IPv4 one as [`mapped`].
    pub address: [u8; 16],
}

/// Bits of an [`AccessKey`].
pub const ACCESS_BITS: u32 = 32 + 128;
/// [`AccessKey::scope`] of the list for all services.
pub const ACCESS_GLOBAL: u32 = u32::MAX;
/// Value of map `ACCESS`: clients of this network may connect.
pub const ACCESS_ALLOW: u32 = 1;
/// Value of map `ACCESS`: clients of this network may not.
pub const ACCESS_DENY: u32 = 2;

/// An element of map `ACCESS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessPrefix {
    /// Its bits; those behind the prefix don't count.
    pub key: AccessKey,
    /// Bits of the prefix: 32 of the scope, and those of the address.
    pub length: u32,
    /// `ACCESS_ALLOW` or `ACCESS_DENY`.
    pub decision: u32,
}

/// Full NAT: destination, and source unless [`SERVICE_FLAG_KEEP_SOURCE`], are rewritten; answers come back here.
pub const FORWARD_NAT: u8 = 0;
/// Direct server return on one link: hardware addresses are rewritten, nothing else. The server owns the
/// virtual address and answers the client itself.
pub const FORWARD_DSR: u8 = 1;
/// The packet travels in another IP header (RFC 2003, RFC 2473); the server unwraps it and answers itself.
pub const FORWARD_IPIP: u8 = 2;
/// The packet travels in UDP by Generic UDP Encapsulation (draft-ietf-intarea-gue, version 1: the IP header
/// follows the UDP header directly), to port [`GUE_PORT`].
pub const FORWARD_GUE: u8 = 3;

/// UDP port of GUE (IANA).
pub const GUE_PORT: u16 = 6080;

/// Element of map `BACKENDS`, named by the slots of a ring.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backend {
    /// Server address; an IPv4 one as IPv4-mapped (RFC 4291 §2.5.5.2), see [`mapped`].
    pub address: [u8; 16],
    /// Ours, as the source of tunnel packets to it; in the same form.
    pub tunnel_source: [u8; 16],
    /// Hardware address of the next hop towards the server.
    pub destination_mac: [u8; 6],
    /// Hardware address of our interface towards it.
    pub source_mac: [u8; 6],
    /// Link towards the server: the kernel index of an interface, or [`LINK_VLAN`] and an index of map `VLANS`.
    pub link: u32,
    /// Server port.
    pub port: [u8; 2],
    /// `BACKEND_FLAG_*`.
    pub flags: u16,
    /// Greatest IP packet, in bytes, that the interface towards the server takes.
    pub mtu: u16,
    /// [`Service::id`] of its service. The program does not ask; the next daemon does, to know whose the number is.
    pub service: u16,
    /// Always zero.
    pub zero: [u16; 4],
}

/// The next hop is resolved; without this bit a packet for the server is dropped and counted.
pub const BACKEND_FLAG_REACHABLE: u16 = 1;

/// An IPv4 address in the place of an IPv6 one: `::ffff:a.b.c.d`.
#[inline(always)]
#[must_use]
pub const fn mapped(address: [u8; 4]) -> [u8; 16] {
    let [a, b, c, d] = address;
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
}

/// The IPv4 address of [`mapped`]; the last four bytes of any other address.
#[inline(always)]
#[must_use]
pub const fn unmapped(address: [u8; 16]) -> [u8; 4] {
    let [.., a, b, c, d] = address;
    [a, b, c, d]
}

/// Value of map `INTERFACES`, keyed by interface index.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Slot in `XSKS` of this interface's rx queue 0.
    pub xsk_base: u32,
    /// Queues with a socket.
    pub queues: u32,
}

/// Element of the per-CPU map `SERVICE_COUNTERS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServiceCounters {
    /// Packets that matched the service or one of its flows, both directions.
    pub packets: u64,
    /// Bytes of those packets, Ethernet header included.
    pub bytes: u64,
    /// Flows inserted.
    pub flows: u64,
    /// Those of the packets that were rewritten and sent on, or would have been if they had fitted into their tunnel.
    pub forwarded: u64,
}

/// In the place of an interface index: a VLAN, whose index of map `VLANS` is in the other bits. The interface that carries it
/// is the one that the program is attached to; packets for it get its tags.
pub const LINK_VLAN: u32 = 1 << 31;

/// Element of map `VLANS`: a VLAN device of the kernel, stacked on an interface that the program is attached to.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vlan {
    /// Kernel index of the interface at the bottom of the stack.
    pub ifindex: u32,
    /// Tags that packets carry there, 1 or 2; 0 if the element is not in use.
    pub count: u32,
    /// [`Tags::tags`](crate::layout::Tags::tags), with priorities zero.
    pub tags: u64,
}

impl Vlan {
    /// What map `VLAN_IDS` knows it by.
    #[must_use]
    pub fn key(&self) -> VlanKey {
        VlanKey {
            vlans: self.tags,
            ifindex: self.ifindex,
            zero: 0,
        }
    }
}

/// Key of map `VLAN_IDS`, whose values are indices of map `VLANS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct VlanKey {
    /// [`Tags::vlans`](crate::layout::Tags::vlans).
    pub vlans: u64,
    /// As in [`Vlan`].
    pub ifindex: u32,
    /// Always zero: the map compares bytes.
    pub zero: u32,
}

macro_rules! pod {
    ($($type:ty: $size:literal),* $(,)?) => {$(
        const _: () = assert!(size_of::<$type>() == $size, "layout is part of the ABI");
        #[cfg(feature = "user")]
        #[expect(unsafe_code, reason = "aya asks for the promise in this form")]
        // SAFETY: `repr(C)`, integers and integer arrays only, no padding (the size assertion above).
        unsafe impl aya::Pod for $type {}
    )*};
}

pod! {
    Settings: 152,
    ServiceKey: 8,
    ServiceKey6: 20,
    StackFlowKey: 12,
    StackFlowKey6: 36,
    AccessKey: 20,
    Service: 16,
    Backend: 64,
    Interface: 8,
    Vlan: 16,
    VlanKey: 16,
    Handover: 28,
    FragmentKey<V4>: 16,
    FragmentKey<V6>: 40,
    ServiceCounters: 32,
}
