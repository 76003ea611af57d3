//! What travels: the bytes of a segment, and whose they are.

use std::fmt;
use std::net::SocketAddr;

use lb_tcp::{Flags, FlowKey, wire};

/// A packet. Of its IP header there is what TCP needs: the addresses, and the length.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Packet {
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    /// TCP header and payload.
    pub(crate) bytes: Vec<u8>,
    /// A bit of it was flipped.
    pub(crate) is_damaged: bool,
}

impl Packet {
    /// Of the sender of `key`.
    pub(crate) fn new(key: &FlowKey, bytes: Vec<u8>) -> Self {
        Self {
            source: key.local,
            destination: key.remote,
            bytes,
            is_damaged: false,
        }
    }

    /// Bytes with the IP header.
    pub(crate) fn ip_len(&self) -> usize {
        self.bytes.len() + ip_header(self.source)
    }

    /// An acknowledgement without anything else.
    pub(crate) fn is_pure_ack(&self) -> bool {
        let header = usize::from(self.bytes[12] >> 4) * 4;
        self.bytes.len() == header && self.bytes[13] == Flags::ACK.0
    }

    pub(crate) fn checksum_holds(&self) -> bool {
        wire::checksum_holds(self.source.ip(), self.destination.ip(), &self.bytes)
    }
}

/// Bytes of an IP header without options.
pub(crate) const fn ip_header(address: SocketAddr) -> usize {
    if address.is_ipv4() { 20 } else { 40 }
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok((_, segment)) = wire::parse(&self.bytes) else {
            return write!(f, "{} bytes that are no segment", self.bytes.len());
        };
        let header = segment.header;
        for (flag, letter) in [
            (Flags::SYN, 'S'),
            (Flags::FIN, 'F'),
            (Flags::RST, 'R'),
            (Flags::PSH, 'P'),
            (Flags::ACK, 'A'),
        ] {
            if header.flags.has(flag) {
                write!(f, "{letter}")?;
            }
        }
        write!(f, " {}+{}", header.seq.0, segment.payload.len())?;
        if header.flags.has(Flags::ACK) {
            write!(f, " ack {}", header.ack.0)?;
        }
        write!(f, " win {}", header.window)?;
        let options = header.options;
        if let Some(mss) = options.mss {
            write!(f, " mss {mss}")?;
        }
        if let Some(scale) = options.window_scale {
            write!(f, " scale {scale}")?;
        }
        if options.sack_permitted {
            write!(f, " sack")?;
        }
        if let Some(timestamps) = options.timestamps {
            write!(f, " ts {}/{}", timestamps.value, timestamps.echo)?;
        }
        for block in options.sack.as_slice() {
            write!(f, " {}..{}", block.start.0, block.end.0)?;
        }
        if self.is_damaged {
            write!(f, " (damaged)")?;
        }
        Ok(())
    }
}
