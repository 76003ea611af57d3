//! Errors that we report ourselves, in the name of the virtual address.
//!
//! **Packet too big**, to a packet that does not fit into the tunnel to its server. The server can't send it, because the
//! packet never gets there; a router on the way would send it to us, who are the sender of the outer packet. So that path
//! MTU discovery works (RFC 1191, RFC 8201), we send it. There is one answer for each packet that is too big: a client
//! that listens sends no second one, and the answer has 560 bytes at most, on any usual link less than half of what it
//! answers: a limit by bandwidth, as RFC 4443 §2.4 (f) asks for one.
//!
//! **Host unreachable**, to the first packet of a flow for which NAT has no free port (RFC 6888 REQ-11; RFC 5508 REQ-8
//! had asked for the code of a prohibition). The client fails at once, and not by timeout, and its next try comes from
//! another port, for which others are looked at. The answer is longer than what it answers by the headers of one message.
//! So that nobody may use us to multiply a flood of forged senders, each CPU sends a fixed number in each second, as Linux
//! does (`icmp_msgs_per_sec`), and drops the rest.
//!
//! **Nothing** when the flow table is full. That is most of the time a flood that has filled it, whose senders are
//! forged; and it concerns one set of entries for an instant: the client's next SYN may well find room, where a client
//! that was told gives up.
//!
//! Deliberately not here: fragmentation, neither of packets that allow it. Every client of today understands the answer.

use super::parse::parse_transport;
use super::{Tables, settings};
use crate::checksum::Update;
use crate::family::Family;
use crate::flow::Table;
use crate::layout::{Layout, Tags};
use crate::rewrite::{Macs, distance};
use crate::verdict::Reason::{self, Malformed, NoHeadroom, SnatExhausted, TooBig};
use crate::verdict::Verdict::{self, Answer, Drop, Pass};
use crate::wire::{Eth, Icmp, Packet, Word};

/// How many clients a CPU has refused with an answer: the element of the per-CPU map `ANSWERS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// In this tick,
    tick: u32,
    /// so many.
    sent: u32,
}

impl Answers {
    /// At most so many of a CPU in a tick, which is a second: some 50 KB.
    pub const PER_TICK: u32 = 100;

    /// With one more at `tick`; `None` if that would be too many.
    #[inline(always)]
    #[must_use]
    pub fn one_more(self, tick: u32) -> Option<Self> {
        let sent = if self.tick == tick { self.sent } else { 0 };
        (sent < Self::PER_TICK).then_some(Self {
            tick,
            sent: sent + 1,
        })
    }
}

/// Decides about a packet of [`Stage::TooBig`](crate::verdict::Stage::TooBig), which was found too big before.
#[inline(always)]
pub fn answer_too_big<F, P, T>(packet: &mut P, tables: &T) -> Verdict
where
    F: Family,
    P: Packet + ?Sized,
    T: Tables<F>,
{
    let layout = tables.take_over().layout();
    let mtu = match inner_mtu::<F, P, T>(packet, tables, layout) {
        Ok(mtu) => mtu,
        Err(verdict) => return verdict,
    };
    let [.., high, low] = mtu.to_be_bytes();
    let message = Message {
        kind: F::TOO_BIG_KIND,
        rest: [0, 0, high, low],
        reason: TooBig,
    };
    message.send::<F, P>(packet, layout)
}

/// Decides about a packet of [`Stage::Refuse`](crate::verdict::Stage::Refuse), for which no port is free.
#[inline(always)]
pub fn refuse<F, P, T>(packet: &mut P, tables: &T) -> Verdict
where
    F: Family,
    P: Packet + ?Sized,
    T: Tables<F>,
{
    let layout = tables.take_over().layout();
    let tick = match settings(tables) {
        Ok(settings) => settings.tick,
        Err(verdict) => return verdict,
    };
    let Some(answers) = tables.answers().one_more(tick) else {
        return Drop(SnatExhausted);
    };
    tables.set_answers(answers);
    let message = Message {
        kind: F::UNREACHABLE_KIND,
        rest: [0; 4],
        reason: SnatExhausted,
    };
    message.send::<F, P>(packet, layout)
}

/// The greatest packet that fits.
#[inline(always)]
fn inner_mtu<F, P, T>(packet: &P, tables: &T, layout: Layout) -> Result<usize, Verdict>
where
    F: Family,
    P: Packet + ?Sized,
    T: Tables<F>,
{
    let settings = settings(tables)?;
    let ip = packet
        .header::<F::Header>(layout.network)
        .ok_or(Pass(Malformed))?;
    let segment = parse_transport::<F, P>(packet, ip, layout, packet.whole_len())?;
    // It was there when this packet was found too big; if it is gone by now, its sender tries again.
    let flow = Table::new(tables, settings).find(&segment.key);
    flow.and_then(|found| found.rewrite())
        .map(|rewrite| rewrite.inner_mtu())
        .ok_or(Drop(TooBig))
}

/// An error message that is about to be written.
struct Message {
    /// With the code.
    kind: (u8, u8),
    rest: [u8; 4],
    /// Why it is sent; and dropped, if nobody may be told.
    reason: Reason,
}

impl Message {
    /// Makes the packet the answer to itself.
    #[inline(always)]
    fn send<F: Family, P: Packet + ?Sized>(&self, packet: &mut P, layout: Layout) -> Verdict {
        match self.write::<F, P>(packet, layout) {
            Ok(()) => Answer(self.reason),
            Err(verdict) => verdict,
        }
    }

    /// The two headers of the message, then the start of the packet as it came. It leaves by the link that it came by,
    /// with the same tags.
    #[inline(always)]
    fn write<F: Family, P: Packet + ?Sized>(
        &self,
        packet: &mut P,
        layout: Layout,
    ) -> Result<(), Verdict> {
        let start = layout.network;
        let macs = Macs::of(packet.header::<Eth>(0).ok_or(Pass(Malformed))?);
        let tags = Tags::of(packet, start).ok_or(Pass(Malformed))?;
        let ip = *packet.header::<F::Header>(start).ok_or(Pass(Malformed))?;
        let addresses = F::addresses(&ip);
        if macs.to_many() || !F::is_from_one_host(addresses) {
            return Err(Drop(self.reason));
        }
        let addresses = F::swapped(addresses);
        let quote = (F::total_len(&ip) & !(Word::LEN - 1)).min(Icmp::MAX_QUOTE);
        packet.truncate(start + quote).ok_or(Drop(NoHeadroom))?;
        let quoted = sum(packet, start);
        let headers = size_of::<F::Header>() + Icmp::LEN;
        packet
            .move_front(distance(headers, 0))
            .ok_or(Drop(NoHeadroom))?;

        let length = Icmp::LEN + quote;
        let outer = F::outer(&ip, length, F::ICMP, addresses);
        *packet.header_mut(start).ok_or(Drop(Malformed))? = outer;
        let pseudo_header = F::icmp_pseudo_header(addresses, length);
        let icmp = packet.header_mut(start + size_of::<F::Header>());
        *icmp.ok_or(Drop(Malformed))? = self.header(pseudo_header, quoted);
        let eth = packet.header_mut::<Eth>(0).ok_or(Drop(Malformed))?;
        macs.swapped().write(eth);
        tags.write(packet, F::ETHERTYPE).ok_or(Drop(Malformed))
    }

    #[inline(always)]
    fn header(&self, pseudo_header: Update, quoted: u64) -> Icmp {
        let ((kind, code), rest) = (self.kind, self.rest);
        let checksum = pseudo_header
            .word(0, u32::from_ne_bytes([kind, code, 0, 0]))
            .word(0, u32::from_ne_bytes(rest))
            .long(0, quoted)
            .finish();
        Icmp {
            kind,
            code,
            checksum,
            rest,
        }
    }
}

/// The sum of the packet from `start` on, whose end is that of the quote.
#[inline(always)]
fn sum<P: Packet + ?Sized>(packet: &P, start: usize) -> u64 {
    let mut sum = 0;
    for offset in (0..Icmp::MAX_QUOTE).step_by(Word::LEN) {
        let Some(word) = packet.header::<Word>(start + offset) else {
            break;
        };
        sum += u64::from(u32::from_ne_bytes(word.0));
    }
    sum
}
