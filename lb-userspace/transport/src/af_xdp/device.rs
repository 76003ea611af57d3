//! smoltcp's view of a port: a device that holds one packet, and sends into frames.
//!
//! With `tcp` the only file that names smoltcp. A received packet is lent for one call; a sent one is written
//! where the kernel takes it from, so nothing is copied in between. Checksums are computed in software:
//! `AF_XDP` can ask for more only of drivers with TX metadata.

use smoltcp::phy::{
    Checksum, ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken,
};
use smoltcp::time::Instant as Micros;

use super::Counters;
use super::frames::{Slot, Transmit};
use super::packet::{self, ETHERNET_LEN, Link, RST, SYN};

/// Sequence numbers that have left: the next new one, and the one expected from the peer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sent {
    pub(super) next: u32,
    pub(super) ack: u32,
}

/// Where segments go.
pub(super) struct Out<'a, T> {
    pub(super) link: Link,
    pub(super) tx: &'a mut T,
    pub(super) counters: &'a mut Counters,
    /// Record of the flow, if there is one.
    pub(super) sent: Option<&'a mut Sent>,
}

/// Verified before they get here (`packet`), computed in software on the way out.
pub(super) fn tx_checksums() -> ChecksumCapabilities {
    let mut checksums = ChecksumCapabilities::ignored();
    checksums.ipv4 = Checksum::Tx;
    checksums.tcp = Checksum::Tx;
    checksums
}

fn capabilities(mtu: usize) -> DeviceCapabilities {
    let mut capabilities = DeviceCapabilities::default();
    capabilities.medium = Medium::Ip;
    capabilities.max_transmission_unit = mtu;
    capabilities.checksum = tx_checksums();
    capabilities
}

/// A device that holds at most one received packet.
pub(super) struct OnePacket<'a, T> {
    pub(super) input: Option<&'a [u8]>,
    pub(super) out: Out<'a, T>,
    pub(super) mtu: usize,
}

impl<T: Transmit> Device for OnePacket<'_, T> {
    type RxToken<'t>
        = InToken<'t>
    where
        Self: 't;
    type TxToken<'t>
        = OutToken<'t, T>
    where
        Self: 't;

    fn receive(&mut self, _: Micros) -> Option<(InToken<'_>, OutToken<'_, T>)> {
        let input = self.input.take()?;
        Some((
            InToken(input),
            OutToken {
                out: self.out.reborrow(),
            },
        ))
    }

    fn transmit(&mut self, _: Micros) -> Option<OutToken<'_, T>> {
        (self.out.tx.room() > 0).then(|| OutToken {
            out: self.out.reborrow(),
        })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        capabilities(self.mtu)
    }
}

impl<T> Out<'_, T> {
    fn reborrow(&mut self) -> Out<'_, T> {
        Out {
            link: self.link,
            tx: self.tx,
            counters: self.counters,
            sent: self.sent.as_deref_mut(),
        }
    }
}

pub(super) struct InToken<'a>(&'a [u8]);

impl RxToken for InToken<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

pub(super) struct OutToken<'a, T> {
    pub(super) out: Out<'a, T>,
}

impl<T: Transmit> TxToken for OutToken<'_, T> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let Out {
            link,
            tx,
            counters,
            sent,
        } = self.out;
        let Some(mut slot) = tx.reserve(ETHERNET_LEN + len) else {
            counters.lost_output += 1;
            return f(&mut vec![0; len]);
        };
        let (ethernet, ip) = slot.split_at_mut(ETHERNET_LEN);
        ethernet.copy_from_slice(link.header());
        let result = f(ip);
        note_sent(ip, counters, sent);
        slot.send();
        result
    }
}

/// Reads back what was written: the flow's sequence numbers must survive its `Tcb` (TIME-WAIT).
fn note_sent(ip: &[u8], counters: &mut Counters, sent: Option<&mut Sent>) {
    let Ok(segment) = packet::parse_ip(ip) else {
        return;
    };
    counters.tx_segments += 1;
    counters.resets_sent += u64::from(segment.has(RST));
    let Some(sent) = sent else { return };
    let end = segment.seq.wrapping_add(segment.seq_len);
    if segment.has(SYN) || end.wrapping_sub(sent.next).cast_signed() > 0 {
        sent.next = end;
    }
    sent.ack = segment.ack;
}

/// Stands in while an interface is made; never sends.
pub(super) struct Closed {
    pub(super) mtu: usize,
}

/// The token of a device that never hands one out.
pub(super) enum NoToken {}

impl RxToken for NoToken {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, _: F) -> R {
        match self {}
    }
}

impl TxToken for NoToken {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, _: usize, _: F) -> R {
        match self {}
    }
}

impl Device for Closed {
    type RxToken<'t> = NoToken;
    type TxToken<'t> = NoToken;

    fn receive(&mut self, _: Micros) -> Option<(NoToken, NoToken)> {
        None
    }

    fn transmit(&mut self, _: Micros) -> Option<NoToken> {
        None
    }

    fn capabilities(&self) -> DeviceCapabilities {
        capabilities(self.mtu)
    }
}
