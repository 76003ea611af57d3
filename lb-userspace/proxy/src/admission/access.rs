//! Lists of networks that may connect or may not.
//!
//! The longest prefix that holds an address decides, so that a host can be let in from a network that is kept out, and the
//! other way round. The XDP program decides by the same rule, from a trie; this is for what it doesn't see: clients behind
//! a PROXY header, and connections that were there before it. Invariant: both give the same answer.

use std::collections::HashMap;
use std::net::IpAddr;

/// A network: the first bits of addresses. IPv4 ones are held as IPv4-mapped (RFC 4291 section 2.5.5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Prefix {
    bits: u128,
    length: u8,
}

impl Prefix {
    /// The network of the first `length` bits of `address`; `None` if it has fewer.
    pub fn new(address: IpAddr, length: u8) -> Option<Self> {
        let (bits, length) = match address {
            IpAddr::V4(address) if length <= 32 => {
                (address.to_ipv6_mapped().to_bits(), length + 96)
            }
            IpAddr::V6(address) if length <= 128 => (address.to_bits(), length),
            _ => return None,
        };
        Some(Self {
            bits: bits & mask(length),
            length,
        })
    }
}

/// `length` ones, then zeros.
const fn mask(length: u8) -> u128 {
    match length {
        0 => 0,
        _ => u128::MAX << (128 - length),
    }
}

/// What becomes of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It may connect.
    Allow,
    /// It may not.
    Deny,
}

/// Networks, each with its decision.
#[derive(Clone, Debug)]
pub struct Access {
    /// Longest prefixes first.
    by_length: Vec<(u8, HashMap<u128, Decision>)>,
    otherwise: Decision,
}

/// Everyone may connect.
impl Default for Access {
    fn default() -> Self {
        Self {
            by_length: Vec::new(),
            otherwise: Decision::Allow,
        }
    }
}

impl Access {
    /// Lists as they are configured: as soon as somebody is allowed by name, nobody else is. A network that is in both is denied.
    pub fn new(
        allow: impl IntoIterator<Item = Prefix>,
        deny: impl IntoIterator<Item = Prefix>,
    ) -> Self {
        let mut access = Self::default();
        for prefix in allow {
            access.otherwise = Decision::Deny;
            access.insert(prefix, Decision::Allow);
        }
        for prefix in deny {
            access.insert(prefix, Decision::Deny);
        }
        access
    }

    fn insert(&mut self, prefix: Prefix, decision: Decision) {
        let longer = |(length, _): &(u8, _)| *length > prefix.length;
        let at = self.by_length.partition_point(longer);
        let found = self
            .by_length
            .get(at)
            .is_some_and(|(length, _)| *length == prefix.length);
        if !found {
            self.by_length.insert(at, (prefix.length, HashMap::new()));
        }
        if let Some((_, networks)) = self.by_length.get_mut(at) {
            networks.insert(prefix.bits, decision);
        }
    }

    /// Whether everyone may connect.
    pub fn is_open(&self) -> bool {
        self.by_length.is_empty() && self.otherwise == Decision::Allow
    }

    /// What becomes of a client with this address.
    pub fn decide(&self, address: IpAddr) -> Decision {
        let bits = match address.to_canonical() {
            IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
            IpAddr::V6(address) => address.to_bits(),
        };
        let mut lengths = self.by_length.iter();
        let found = lengths.find_map(|(length, networks)| networks.get(&(bits & mask(*length))));
        found.copied().unwrap_or(self.otherwise)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        let (address, length) = text.split_once('/').unwrap();
        Prefix::new(address.parse().unwrap(), length.parse().unwrap()).unwrap()
    }

    fn access(allow: &[&str], deny: &[&str]) -> Access {
        let prefixes = |list: &[&str]| list.iter().map(|text| prefix(text)).collect::<Vec<_>>();
        Access::new(prefixes(allow), prefixes(deny))
    }

    fn allowed(access: &Access, address: &str) -> bool {
        access.decide(address.parse().unwrap()) == Decision::Allow
    }

    #[test]
    fn without_lists_everyone_may_connect() {
        assert!(access(&[], &[]).is_open());
        assert!(allowed(&Access::default(), "192.0.2.1"));
        assert!(!access(&["10.0.0.0/8"], &[]).is_open());
        assert!(!access(&[], &["10.0.0.0/8"]).is_open());
    }

    #[test]
    fn who_is_allowed_by_name_keeps_out_the_others_of_both_families() {
        let access = access(&["10.0.0.0/8"], &[]);
        assert!(allowed(&access, "10.255.0.1"));
        assert!(allowed(&access, "::ffff:10.0.0.1"));
        assert!(!allowed(&access, "11.0.0.1"));
        assert!(!allowed(&access, "2001:db8::1"));
    }

    #[test]
    fn the_longest_prefix_decides() {
        let access = access(
            &["10.0.0.0/8", "10.1.2.3/32", "2001:db8::/32"],
            &["10.1.0.0/16", "2001:db8:1::/48"],
        );
        assert!(allowed(&access, "10.2.0.1"));
        assert!(!allowed(&access, "10.1.0.1"));
        assert!(allowed(&access, "10.1.2.3"));
        assert!(allowed(&access, "2001:db8::1"));
        assert!(!allowed(&access, "2001:db8:1::1"));
    }

    #[test]
    fn the_whole_of_a_family_can_be_denied() {
        let access = access(&[], &["0.0.0.0/0"]);
        assert!(!allowed(&access, "192.0.2.1"));
        assert!(allowed(&access, "2001:db8::1"));
        let access = Access::new([], [prefix("::/0")]);
        assert!(!allowed(&access, "2001:db8::1"));
        assert!(
            !allowed(&access, "192.0.2.1"),
            "which is all, mapped ones too"
        );
    }

    #[test]
    fn what_is_in_both_lists_is_denied() {
        assert!(!allowed(
            &access(&["10.0.0.0/8"], &["10.0.0.0/8"]),
            "10.0.0.1"
        ));
    }

    #[test]
    fn bits_behind_the_prefix_do_not_matter_and_too_many_are_refused() {
        assert_eq!(prefix("10.1.2.3/8"), prefix("10.0.0.0/8"));
        assert_eq!(Prefix::new([10, 0, 0, 0].into(), 33), None);
        assert_eq!(
            Prefix::new(IpAddr::V6(std::net::Ipv6Addr::LOCALHOST), 129),
            None
        );
    }
}
