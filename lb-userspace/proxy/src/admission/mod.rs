//! Who may come in, and how much of them: lists of addresses, limits of connections and requests, rates.
//!
//! What is counted over all workers of a service (connections, requests under way, rates) is held in shared atomics, or
//! behind one of many small locks for what is known by client address: a limit that each worker kept for itself would
//! be another number on each host. Invariant: what isn't configured costs nothing, neither a lock nor a shared cache
//! line. Not here: what a refused client is told ([`crate::error`]).

mod access;
mod connections;
mod pace;
mod rate;
mod requests;

use std::net::IpAddr;

pub use access::{Access, Decision, Prefix};
pub use connections::ConnectionLimits;
pub(crate) use connections::{ClientSeat, Seat};
pub use pace::BodyRate;
pub(crate) use pace::Pace;
pub use rate::Rate;
pub(crate) use requests::Admitted;
pub use requests::{Exceeded, RequestLimits};

/// What counts as one client: an IPv4 address, or 64 bits of an IPv6 one, of which a single host has all the rest.
fn client_key(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits() >> 64 << 64,
    }
}

#[cfg(test)]
mod tests {
    use super::client_key;

    #[test]
    fn a_client_is_an_ipv4_address_or_an_ipv6_network() {
        let key = |text: &str| client_key(text.parse().unwrap());
        assert_eq!(key("2001:db8::1"), key("2001:db8::ffff:1:2:3"));
        assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
        assert_eq!(key("192.0.2.1"), key("::ffff:192.0.2.1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
    }
}
