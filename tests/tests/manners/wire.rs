//! Packets that no ordinary socket sends or shows.

use std::{
    io::{ErrorKind, Read as _},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use lb_tests::{forwarding::Family, lab::Namespace};
use socket2::{Domain, Protocol, Socket, Type};

/// Everything that arrives in a namespace or leaves it from now on, as frames.
#[derive(Debug)]
pub(crate) struct Capture(Socket);

impl Capture {
    pub(crate) fn start(namespace: &Namespace) -> Self {
        // In network order, as the kernel wants it.
        let every_protocol = i32::from(3_u16.to_be());
        let socket = namespace
            .run(|| {
                Socket::new(
                    Domain::PACKET,
                    Type::RAW,
                    Some(Protocol::from(every_protocol)),
                )
            })
            .unwrap()
            .unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(socket)
    }

    /// The first frame that is `wanted`.
    pub(crate) fn find(&self, what: &str, wanted: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        let mut frame = vec![0; 65536];
        loop {
            match (&self.0).read(&mut frame) {
                Ok(length) if wanted(&frame[..length]) => return frame[..length].to_vec(),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("no {what}: {error}"),
            }
        }
    }
}

/// Sends an ICMP message, whose checksum is right, from a namespace.
pub(crate) fn send_icmp(namespace: &Namespace, family: Family, message: &[u8], to: IpAddr) {
    let (domain, protocol) = match family {
        Family::V4 => (Domain::IPV4, Protocol::ICMPV4),
        Family::V6 => (Domain::IPV6, Protocol::ICMPV6),
    };
    let socket = namespace
        .run(|| Socket::new(domain, Type::RAW, Some(protocol)))
        .unwrap()
        .unwrap();
    socket
        .send_to(message, &SocketAddr::new(to, 0).into())
        .unwrap();
}

/// For what takes milliseconds unless something is wrong.
const PATIENCE: Duration = Duration::from_secs(30);
