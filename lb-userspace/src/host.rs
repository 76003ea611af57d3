//! What this host must provide before anything is changed: the addresses that the configuration
//! names have to be its own.
//!
//! `lb` does not add addresses to interfaces: ARP, source address choice and failover tools
//! (keepalived, BGP speakers) all hang on them, and so they stay with whoever configures the host.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// An address of the configuration isn't an address of this host.
#[derive(Debug, thiserror::Error)]
#[error(
    "{owner}: {address} is not an address of this host, so nobody would answer ARP for it; \
     add it first, for example `ip address add {address}/32 dev {interface}`"
)]
pub(crate) struct NotLocal {
    owner: String,
    address: Ipv4Addr,
    interface: String,
}

/// Checks that `address` is local. `owner` says who wants it, `interface` where it might belong.
pub(crate) fn require_local(
    owner: &str,
    address: Ipv4Addr,
    interface: &str,
) -> Result<(), NotLocal> {
    // The kernel's own test: binding succeeds exactly for local addresses, whichever interface or
    // route table makes them so. Port 0 takes nothing that a listener could want.
    let bound = std::net::UdpSocket::bind(SocketAddr::new(IpAddr::V4(address), 0));
    match bound {
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => Err(NotLocal {
            owner: owner.to_owned(),
            address,
            interface: interface.to_owned(),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_local_and_a_documentation_address_is_not() {
        assert!(require_local("service a", Ipv4Addr::LOCALHOST, "lo").is_ok());
        let error = require_local("service a", Ipv4Addr::new(192, 0, 2, 1), "eth0").unwrap_err();
        assert!(
            error
                .to_string()
                .contains("ip address add 192.0.2.1/32 dev eth0"),
            "{error}"
        );
    }
}
