//! Wire formats: what the bytes of a frame are called.
//!
//! One header per file, as a struct of byte arrays in network order, laid over the packet by
//! [`Packet::header`]. A field is never converted twice, because the conversion is visible where it is
//! used. Checks that make a header trustworthy (lengths, versions) belong to the caller, who knows
//! which verdict a broken one deserves.

mod eth;
mod header;
mod icmp;
mod ipv4;
mod ipv6;
mod tcp;
mod udp;

pub use eth::{
    ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_QINQ, ETHERTYPE_VLAN, Eth, Ethertype,
    Tag,
};
pub use header::{Header, Packet};
pub use icmp::{Half, Icmp, Word};
pub use ipv4::{Ipv4, Ipv4Option, PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP};
pub use ipv6::{
    Extension, FragmentHeader, Ipv6, PROTOCOL_DESTINATION_OPTIONS, PROTOCOL_FRAGMENT, PROTOCOL_HIP,
    PROTOCOL_HOP_BY_HOP, PROTOCOL_ICMPV6, PROTOCOL_MOBILITY, PROTOCOL_ROUTING, PROTOCOL_SHIM6,
    is_extension,
};
pub use tcp::{Mss, Tcp};
pub use udp::Udp;
