//! The lab's addressing plan: every address that a namespace, a configuration or a test may use.
//!
//! Invariant: all of it lies in `10.203.0.0/16` and `fd00:203::/32`, which no host is expected to route.
//! Not here: who gets which address (`lab::topology`).

use std::net::{Ipv4Addr, Ipv6Addr};

/// Prefix length of both networks, in bits.
pub const PREFIX: u8 = 24;

/// The client; it also owns [`CLIENT_EXTRA`], so that a test can come from several addresses.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 203, 1, 10);

/// Last octets of the further client addresses in the network of [`CLIENT`].
pub const CLIENT_EXTRA: std::ops::RangeInclusive<u8> = 11..=20;

/// The edge host on the client's side.
pub const EDGE_FRONT: Ipv4Addr = Ipv4Addr::new(10, 203, 1, 1);

/// Virtual address of the HTTP and HTTPS services.
pub const VIP_HTTP: Ipv4Addr = Ipv4Addr::new(10, 203, 1, 100);

/// Virtual address of the SMTP service.
pub const VIP_SMTP: Ipv4Addr = Ipv4Addr::new(10, 203, 1, 101);

/// The edge host on the pool's side: the servers' way to the clients.
pub const EDGE_BACK: Ipv4Addr = Ipv4Addr::new(10, 203, 2, 1);

/// Source address for full NAT. Its own address, so that the edge's kernel never picks a port of it.
pub const SNAT: Ipv4Addr = Ipv4Addr::new(10, 203, 2, 100);

/// Most servers a lab can have: the last octets .11 to .99 of the pool's network.
pub const MAX_SERVERS: u8 = 89;

/// Prefix length of both IPv6 networks, in bits.
pub const PREFIX6: u8 = 64;

/// The IPv6 address beside `address`: `fd00:203:1::/64` is the client's side, `fd00:203:2::/64` the pool's.
pub const fn ipv6(address: Ipv4Addr) -> Ipv6Addr {
    let [_, _, net, host] = address.octets();
    Ipv6Addr::new(0xfd00, 0x203, net as u16, 0, 0, 0, 0, host as u16)
}

/// Address of pool server `number`, counted from 1 to [`MAX_SERVERS`].
pub const fn server(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 203, 2, 10 + number)
}
