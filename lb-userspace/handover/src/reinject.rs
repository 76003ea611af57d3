//! Received packets, given to the kernel as if it had received them.
//!
//! A raw socket sends them from the peer's address to ours, which is one of this host, so they go by the loopback interface: neither a
//! network card, nor an XDP program, nor reverse path filtering sees them. Netfilter does (`output`, then `prerouting` and `input` of `lo`).
//! Headers are written anew: a received checksum may be one that a virtual interface never finished.
//!
//! Invariant: what is injected was received. The caller answers for that.

use std::io;
use std::net::{IpAddr, SocketAddr};

use lb_tcp::wire::{self, ip};
use lb_tcp::{FlowKey, Header, Payload};
use socket2::{Domain, Protocol, Socket, Type};

/// Gives packets to the kernel. One per worker.
#[derive(Debug)]
pub struct Reinjector {
    v4: Socket,
    /// None on a host without IPv6.
    v6: Option<Socket>,
}

impl Reinjector {
    /// Opens the raw sockets, which needs `CAP_NET_RAW`.
    pub fn new() -> io::Result<Self> {
        let v6 = match open(Domain::IPV6) {
            Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => None,
            opened => Some(opened?),
        };
        Ok(Self {
            v4: open(Domain::IPV4)?,
            v6,
        })
    }

    /// Gives a segment from `key.remote` to `key.local`. By the time it returns the kernel's TCP has usually seen it.
    ///
    /// # Errors
    /// `WouldBlock` or `ENOBUFS`: no memory now; the packet is lost, as one that a router had dropped. `EMSGSIZE`: larger than the
    /// loopback's MTU.
    pub fn inject(&self, key: &FlowKey, header: &Header, payload: &[u8]) -> io::Result<()> {
        let socket = match key.local.ip() {
            IpAddr::V4(_) => &self.v4,
            IpAddr::V6(_) => self
                .v6
                .as_ref()
                .ok_or_else(|| io::Error::from_raw_os_error(libc::EAFNOSUPPORT))?,
        };
        let packet = packet(key, header, payload);
        // The port must be zero: of a raw IPv6 socket it is the protocol, which the header says.
        let to = SocketAddr::new(key.local.ip(), 0);
        socket.send_to_with_flags(&packet, &to.into(), libc::MSG_NOSIGNAL)?;
        Ok(())
    }
}

/// `IPPROTO_RAW` means, in both families, that packets come with their IP header and that none are received.
fn open(domain: Domain) -> io::Result<Socket> {
    let kind = Type::RAW.nonblocking();
    Socket::new(domain, kind, Some(Protocol::from(libc::IPPROTO_RAW)))
}

/// The packet as it came from the peer.
pub(crate) fn packet(key: &FlowKey, header: &Header, payload: &[u8]) -> Vec<u8> {
    let from_peer = FlowKey {
        local: key.remote,
        remote: key.local,
    };
    let tcp_len = wire::header_len(header) + payload.len();
    let mut packet = vec![0; ip::header_len(&from_peer) + tcp_len];
    let (ip_header, tcp) = packet.split_at_mut(ip::header_len(&from_peer));
    ip::write_header(&from_peer, tcp_len, ip_header);
    wire::emit(&from_peer, header, Payload::from(payload), tcp);
    packet
}
