//! Both ends of a connection as few bytes as there are: what is hashed for every segment, and kept for a minute in TIME-WAIT.

use core::net::IpAddr;

use crate::FlowKey;

/// Addresses and ports, our end first; 37 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tuple {
    V4([u8; 12]),
    V6([u8; 36]),
}

impl Tuple {
    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::V4(bytes) => bytes,
            Self::V6(bytes) => bytes,
        }
    }
}

impl From<&FlowKey> for Tuple {
    fn from(key: &FlowKey) -> Self {
        let ports = [key.local.port(), key.remote.port()].map(u16::to_be_bytes);
        if let (IpAddr::V4(local), IpAddr::V4(remote)) = (key.local.ip(), key.remote.ip()) {
            let mut bytes = [0; 12];
            bytes[..4].copy_from_slice(&local.octets());
            bytes[4..8].copy_from_slice(&remote.octets());
            bytes[8..].copy_from_slice(ports.as_flattened());
            return Self::V4(bytes);
        }
        let octets = |ip| match ip {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
            IpAddr::V6(ip) => ip.octets(),
        };
        let mut bytes = [0; 36];
        bytes[..16].copy_from_slice(&octets(key.local.ip()));
        bytes[16..32].copy_from_slice(&octets(key.remote.ip()));
        bytes[32..].copy_from_slice(ports.as_flattened());
        Self::V6(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuple(local: &str, remote: &str) -> Tuple {
        Tuple::from(&FlowKey {
            local: local.parse().unwrap(),
            remote: remote.parse().unwrap(),
        })
    }

    #[test]
    fn different_ends_have_different_bytes() {
        let v4 = tuple("10.0.0.1:443", "10.0.0.2:40000");
        assert_eq!(v4.as_bytes().len(), 12);
        assert_ne!(v4, tuple("10.0.0.2:443", "10.0.0.1:40000"));
        assert_ne!(v4, tuple("10.0.0.1:40000", "10.0.0.2:443"));
        let v6 = tuple("[fd00::1]:443", "[fd00::2]:40000");
        assert_eq!(v6.as_bytes().len(), 36);
        assert_ne!(v6, tuple("[fd00::1]:443", "[fd00::3]:40000"));
        assert_ne!(v6, tuple("[fd00::1]:443", "[fd00::2]:40001"));
        let mapped = tuple("[::ffff:10.0.0.1]:443", "[::ffff:10.0.0.2]:40000");
        assert_ne!(v4, mapped, "another family is another connection");
    }
}
