//! By which interface the kernel would send to an address: one question by netlink, which knows all tables and rules.

use std::io::{self, Read as _, Write as _};
use std::net::IpAddr;

use socket2::{Domain, Protocol, Socket, Type};

/// Index of the interface by which packets from `from` to `to` leave; none if there is no route.
pub(super) fn interface_to(to: IpAddr, from: IpAddr) -> io::Result<Option<u32>> {
    let kind = Type::RAW;
    let protocol = Protocol::from(libc::NETLINK_ROUTE);
    let mut socket = Socket::new(Domain::from(libc::AF_NETLINK), kind, Some(protocol))?;
    socket.write_all(&question(to, from))?;
    let mut answer = [0; 4096];
    let len = socket.read(&mut answer)?;
    read(answer.get(..len).unwrap_or_default())
}

const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const RTA_DST: u16 = 1;
const RTA_SRC: u16 = 2;
const RTA_OIF: u16 = 4;

/// `struct nlmsghdr` and `struct rtmsg`.
const HEADER_LEN: usize = 16;
const ROUTE_LEN: usize = 12;

fn question(to: IpAddr, from: IpAddr) -> Vec<u8> {
    let (family, bits) = match to {
        IpAddr::V4(_) => (libc::AF_INET, 32),
        IpAddr::V6(_) => (libc::AF_INET6, 128),
    };
    let mut route = [0; ROUTE_LEN];
    // Both families have small numbers.
    route[0] = u8::try_from(family).unwrap_or(0);
    route[1] = bits;
    route[2] = bits;
    let attributes = [attribute(RTA_DST, to), attribute(RTA_SRC, from)].concat();
    let len = HEADER_LEN + ROUTE_LEN + attributes.len();
    let mut message = Vec::with_capacity(len);
    message.extend(u32::try_from(len).unwrap_or(0).to_ne_bytes());
    message.extend(RTM_GETROUTE.to_ne_bytes());
    message.extend(NLM_F_REQUEST.to_ne_bytes());
    // Number and sender, which the kernel copies into its answer.
    message.extend([0; 8]);
    message.extend(route);
    message.extend(attributes);
    message
}

fn attribute(kind: u16, address: IpAddr) -> Vec<u8> {
    let octets = match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let len = u16::try_from(4 + octets.len()).unwrap_or(0);
    [&len.to_ne_bytes()[..], &kind.to_ne_bytes(), &octets].concat()
}

fn read(answer: &[u8]) -> io::Result<Option<u32>> {
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "netlink's answer");
    let (header, rest) = answer
        .split_first_chunk::<HEADER_LEN>()
        .ok_or_else(malformed)?;
    match u16::from_ne_bytes([header[4], header[5]]) {
        RTM_NEWROUTE => {
            let attributes = rest.get(ROUTE_LEN..).ok_or_else(malformed)?;
            Ok(interface(attributes))
        }
        NLMSG_ERROR => {
            let code = rest.first_chunk().ok_or_else(malformed)?;
            match -i32::from_ne_bytes(*code) {
                libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EACCES | libc::EINVAL => Ok(None),
                code => Err(io::Error::from_raw_os_error(code)),
            }
        }
        _ => Err(malformed()),
    }
}

/// The attribute of the outgoing interface.
fn interface(mut attributes: &[u8]) -> Option<u32> {
    loop {
        let (&[l0, l1, k0, k1], _) = attributes.split_first_chunk()?;
        let len = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = attributes.get(4..len)?;
        if u16::from_ne_bytes([k0, k1]) == RTA_OIF {
            return Some(u32::from_ne_bytes(*value.first_chunk()?));
        }
        attributes = attributes.get(len.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ours_leaves_by_the_loopback() {
        for ip in ["127.0.0.1", "127.7.7.7"] {
            let ip = ip.parse().unwrap();
            assert_eq!(interface_to(ip, ip).unwrap(), Some(1), "{ip}");
        }
    }

    #[test]
    fn no_answer_makes_the_reader_panic() {
        let whole = question("::1".parse().unwrap(), "::1".parse().unwrap());
        for len in 0..whole.len() {
            for kind in [NLMSG_ERROR, RTM_NEWROUTE, 3] {
                let mut answer = whole[..len].to_vec();
                if let Some(at) = answer.get_mut(4..6) {
                    at.copy_from_slice(&kind.to_ne_bytes());
                }
                let _ = read(&answer);
            }
        }
    }
}
