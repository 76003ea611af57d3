//! Segments larger than the wire takes, which the kernel or the network card cuts: what `AF_XDP` can't express.
//!
//! One `AF_XDP` descriptor is one frame on the wire, so 64 KB cost 45 of everything. A packet socket takes them as one, with a
//! virtio-net header that says where to cut (`PACKET_VNET_HDR`, packet(7)), and sends by the same interface: the card cuts it (TSO), or
//! the kernel does right before the driver (GSO). Nothing else of the host's TCP/IP sees it. Which tx queue it leaves by is the kernel's
//! choice (by CPU), and can't be told from here: see [`SocketConfig::cuts`](crate::SocketConfig::cuts).
//!
//! Deliberately not here: receiving (the socket is bound to no protocol), which segments belong together.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd as _, OwnedFd};

use crate::error::Error;
use crate::socket::Flushed;
use crate::sys;

/// Memory of packets on their way. A super-segment takes some 70 KB of it.
const SEND_BUFFER: u32 = 4 << 20;

/// Where to cut a TCP packet in its Ethernet frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Offset of the TCP header in the frame.
    pub transport: u16,
    /// Length of the TCP header.
    pub tcp_header: u16,
    /// Payload of each piece but the last.
    pub mss: u16,
    /// Whether it is IPv6.
    pub is_ipv6: bool,
}

/// `struct virtio_net_hdr` of `linux/virtio_net.h`, as bytes in the order of this machine.
fn virtio_header(cut: Cut) -> [u8; 10] {
    const NEEDS_CSUM: u8 = 1;
    const GSO_TCPV4: u8 = 1;
    const GSO_TCPV6: u8 = 4;
    /// Of the checksum in a TCP header.
    const CHECKSUM_AT: u16 = 16;
    let kind = if cut.is_ipv6 { GSO_TCPV6 } else { GSO_TCPV4 };
    let [h0, h1] = (cut.transport + cut.tcp_header).to_ne_bytes();
    let [m0, m1] = cut.mss.to_ne_bytes();
    let [s0, s1] = cut.transport.to_ne_bytes();
    let [c0, c1] = CHECKSUM_AT.to_ne_bytes();
    [NEEDS_CSUM, kind, h0, h1, m0, m1, s0, s1, c0, c1]
}

/// A socket that sends frames which the kernel cuts.
#[derive(Debug)]
pub(crate) struct Cutter(OwnedFd);

impl Cutter {
    /// A socket on an interface of the caller's network namespace.
    pub(crate) fn open(ifindex: u32) -> Result<Self, Error> {
        let failed = |step| move |source| Error::Packet { step, source };
        let fd = sys::packet_socket().map_err(failed("create"))?;
        sys::set_at(fd.as_fd(), libc::SOL_PACKET, libc::PACKET_VNET_HDR, &1_u32)
            .map_err(failed("set PACKET_VNET_HDR of"))?;
        sys::set_at(
            fd.as_fd(),
            libc::SOL_SOCKET,
            libc::SO_SNDBUFFORCE,
            &SEND_BUFFER,
        )
        .map_err(failed("set SO_SNDBUFFORCE of"))?;
        sys::bind_packet(fd.as_fd(), ifindex).map_err(failed("bind"))?;
        Ok(Self(fd))
    }

    /// Sends a frame of `head` (all headers; the TCP checksum is the sum of the pseudo-header) and `payload`. If it is
    /// [`Flushed::Later`], nothing was sent.
    pub(crate) fn send(&self, head: &[u8], payload: &[u8], cut: Cut) -> io::Result<Flushed> {
        let virtio = virtio_header(cut);
        let parts = [&virtio[..], head, payload].map(IoSlice::new);
        match sys::send_message(self.0.as_fd(), &parts) {
            Ok(()) => Ok(Flushed::Done),
            Err(error) if is_busy(&error) => Ok(Flushed::Later),
            Err(error) => Err(error),
        }
    }
}

/// Memory or a queue is full for now.
fn is_busy(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EAGAIN | libc::ENOBUFS | libc::EBUSY | libc::EINTR)
    )
}
