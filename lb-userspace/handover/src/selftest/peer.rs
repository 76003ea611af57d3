//! Whose segment is received.
//!
//! Reverse path filtering drops a packet whose answer would leave by another interface than it came in by. So the peer is one like the
//! service's clients: where the default route leaves by the service's interface, clients are anywhere, and the peer is an address of
//! those that are kept for documentation and nobody has. Otherwise clients are expected in the interface's own networks, and the peer is an
//! address there that is not ours. Somebody else may have it: nothing is sent to them.
//!
//! If the kernel would reach neither by this interface the test goes on with one of them, and finds out what the kernel thinks of that.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nix::ifaddrs::{InterfaceAddress, getifaddrs};

use super::{Reason, SelfTest, route};

/// Whose segment is received, and how it is addressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    pub(super) address: IpAddr,
    /// Ethernet address of the service's interface.
    pub(super) our_link: [u8; 6],
    /// One that nobody has: locally administered.
    pub(super) their_link: [u8; 6],
}

impl Peer {
    pub(super) fn choose(test: &SelfTest) -> Result<Self, Reason> {
        let addresses = getifaddrs().map_err(|error| Reason::Network(error.into()))?;
        let addresses: Vec<_> = addresses
            .filter(|address| address.interface_name == test.interface_name)
            .collect();
        let our_link = addresses.iter().find_map(link);
        Ok(Self {
            address: address(test, &addresses).map_err(Reason::Network)?,
            our_link: our_link.ok_or_else(|| Reason::NotEthernet {
                interface: test.interface_name.clone(),
            })?,
            their_link: [0x02, 0, 0, 0, 0, 0x01],
        })
    }
}

fn address(test: &SelfTest, addresses: &[InterfaceAddress]) -> io::Result<IpAddr> {
    let anywhere: IpAddr = match test.listen.ip() {
        // TEST-NET-1 (RFC 5737) and its like (RFC 3849).
        IpAddr::V4(_) => Ipv4Addr::new(192, 0, 2, 1).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
    };
    let near = || {
        let networks = addresses.iter().filter_map(network);
        networks.filter_map(|(own, mask)| neighbour(own, mask, addresses))
    };
    let near = || near().filter(|near| near.is_ipv4() == anywhere.is_ipv4());
    for candidate in std::iter::once(anywhere).chain(near()) {
        if route::interface_to(candidate, test.listen.ip())? == Some(test.interface_index) {
            return Ok(candidate);
        }
    }
    Ok(near().next().unwrap_or(anywhere))
}

fn link(address: &InterfaceAddress) -> Option<[u8; 6]> {
    address.address?.as_link_addr()?.addr()
}

/// An address of the interface, and the mask of its network.
fn network(address: &InterfaceAddress) -> Option<(IpAddr, IpAddr)> {
    Some((ip(address.address)?, ip(address.netmask)?))
}

fn ip(address: Option<nix::sys::socket::SockaddrStorage>) -> Option<IpAddr> {
    let address = address?;
    let v4 = address.as_sockaddr_in().map(|address| address.ip().into());
    v4.or_else(|| Some(address.as_sockaddr_in6()?.ip().into()))
}

/// An address of the same network that is neither ours nor the network's own.
fn neighbour(own: IpAddr, mask: IpAddr, addresses: &[InterfaceAddress]) -> Option<IpAddr> {
    let is_ours = |it: &IpAddr| {
        let ours = addresses.iter().filter_map(|address| ip(address.address));
        ours.into_iter().any(|address| address == *it)
    };
    let (network, hosts) = match (own, mask) {
        (IpAddr::V4(own), IpAddr::V4(mask)) => {
            (u32::from(own & mask).into(), u32::from(!mask).into())
        }
        (IpAddr::V6(own), IpAddr::V6(mask)) => (u128::from(own & mask), u128::from(!mask)),
        _ => return None,
    };
    // From the last but one down: the last one is IPv4's broadcast address, the first ones are often routers.
    let numbers = (1..hosts).rev().take(MOST_TAKEN);
    let addresses = numbers.map(|host| match own {
        IpAddr::V4(_) => u32::try_from(network | host).map_or(own, |it| Ipv4Addr::from(it).into()),
        IpAddr::V6(_) => Ipv6Addr::from(network | host).into(),
    });
    addresses.into_iter().find(|address| !is_ours(address))
}

/// Addresses that are looked at. An interface has not so many in a row.
const MOST_TAKEN: usize = 256;
