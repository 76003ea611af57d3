//! Full segments of one flow in a row, put together for a way that cuts them again (TSO, GSO).
//!
//! Invariant: the segments of a train follow each other without a gap, say the same of the other direction, and all but the last
//! carry the same number of bytes; so cutting gives back what was put together, but for IPv4's identification.
//!
//! What a train may not change: the order in which a flow's segments leave, and whether one leaves at all. One that can't leave now
//! waits, and its port takes nothing more until it could.
//!
//! Deliberately not here: how a train is sent (`frames`), and who fills it (`core`).

use lb_tcp::{Flags, FlowKey, Header, Payload, wire};
use lb_xsk::Cut;

use super::packet::{self, Link};

/// An IP packet has at most 65,535 bytes; less the headers.
const MAX_PAYLOAD: usize = 65_535 - 100;

/// Header bytes at most: Ethernet, IPv6, TCP with all options.
pub(super) const MAX_HEAD: usize = 14 + 40 + 60;

/// A train that is put together, or waits.
#[derive(Debug, Default)]
pub(super) struct Train {
    first: Option<First>,
    payload: Vec<u8>,
    /// Bytes of each segment but the last.
    mss: usize,
    /// Nothing may follow: the last segment was short, or pushes or finishes.
    is_closed: bool,
    /// There was no way for it at the last try.
    is_held: bool,
}

/// What the first segment says for all.
#[derive(Clone, Copy, Debug)]
struct First {
    key: FlowKey,
    link: Link,
    header: Header,
}

/// What shall leave.
pub(super) enum Departure<'a> {
    /// A segment that stayed alone.
    Single(&'a FlowKey, &'a Link, &'a Header, Payload<'a>),
    /// Several: how many bytes of `head` are its headers, and its payload.
    Cut(usize, &'a [u8], Cut),
}

impl Train {
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    pub(super) fn is_held(&self) -> bool {
        self.is_held
    }

    pub(super) fn hold(&mut self) {
        self.is_held = true;
    }

    /// Begins with a segment that others may follow.
    pub(super) fn start(
        &mut self,
        key: &FlowKey,
        link: &Link,
        header: &Header,
        payload: Payload<'_>,
    ) {
        debug_assert!(self.is_empty(), "a train is put together already");
        self.first = Some(First {
            key: *key,
            link: *link,
            header: *header,
        });
        self.mss = payload.len();
        self.is_closed = !is_open(header.flags);
        self.append(payload);
    }

    /// Takes the segment if it belongs behind the last one.
    pub(super) fn takes(&mut self, key: &FlowKey, header: &Header, payload: Payload<'_>) -> bool {
        let Some(first) = &mut self.first else {
            return false;
        };
        // The payload of a train is below 64 KiB.
        let next = first.header.seq + u32::try_from(self.payload.len()).unwrap_or(u32::MAX);
        let follows = !self.is_closed
            && !self.is_held
            && first.key == *key
            && header.seq == next
            && (1..=self.mss).contains(&payload.len())
            && self.payload.len() + payload.len() <= MAX_PAYLOAD
            && says_the_same(&first.header, header);
        if follows {
            self.is_closed = payload.len() < self.mss || !is_open(header.flags);
            // Cutting leaves these two with the last piece (Linux: `tcp_gso_segment`).
            first.header.flags = first.header.flags | header.flags;
            self.append(payload);
        }
        follows
    }

    /// What is there to send; `head` has room for its headers.
    pub(super) fn departure<'a>(&'a self, head: &mut [u8; MAX_HEAD]) -> Option<Departure<'a>> {
        let First { key, link, header } = self.first.as_ref()?;
        if self.payload.len() <= self.mss {
            let payload = Payload::from(&self.payload[..]);
            return Some(Departure::Single(key, link, header, payload));
        }
        let tcp_header = wire::header_len(header);
        let len = packet::emit_head(link, key, header, self.payload.len(), head)?;
        let cut = Cut {
            transport: u16::try_from(len - tcp_header).ok()?,
            tcp_header: u16::try_from(tcp_header).ok()?,
            mss: u16::try_from(self.mss).ok()?,
            is_ipv6: key.local.is_ipv6(),
        };
        Some(Departure::Cut(len, &self.payload, cut))
    }

    /// It has left.
    pub(super) fn clear(&mut self) {
        self.first = None;
        self.payload.clear();
        self.is_held = false;
    }

    fn append(&mut self, payload: Payload<'_>) {
        for slice in payload.slices() {
            self.payload.extend_from_slice(slice);
        }
    }
}

/// Whether a segment with these flags can have followers: PSH and FIN come last, and nothing else travels by train.
const fn is_open(flags: Flags) -> bool {
    flags.0 == Flags::ACK.0
}

/// Whether two segments differ in nothing but their place, and PSH and FIN of the second.
fn says_the_same(first: &Header, next: &Header) -> bool {
    let Flags(flags) = next.flags;
    flags & !(Flags::PSH.0 | Flags::FIN.0) == Flags::ACK.0
        && first.ack == next.ack
        && first.window == next.window
        && first.options == next.options
}

#[cfg(test)]
mod tests;
