//! Packet too big: the answer to a packet that does not fit into the tunnel to its server.
//!
//! The server can't send it, because the packet never gets there; a router on the way would send it to us, who are the
//! sender of the outer packet. So we say it ourselves, in the name of the virtual address, and path MTU discovery works
//! (RFC 1191, RFC 8201). There is one answer for each packet that is too big: a client that listens sends no second one,
//! and a packet of full size costs its sender more than the answer costs us.
//!
//! Deliberately not here: fragmentation, neither of packets that allow it. Every client of today understands the answer.

use super::parse::parse_transport;
use super::{Shared, Tables};
use crate::abi::ABI_VERSION;
use crate::family::Family;
use crate::flow::Table;
use crate::rewrite::{Layout, Macs};
use crate::verdict::Reason::{Malformed, NoHeadroom, NotReady, TooBig};
use crate::verdict::Verdict::{self, Answer, Drop, Pass};
use crate::wire::{Eth, Icmp, Packet, Quote};

/// Decides about a packet of [`Stage::TooBig`](crate::verdict::Stage::TooBig), which was found too big before.
#[inline(always)]
pub fn answer_too_big<F, P, T>(packet: &mut P, tables: &T) -> Verdict
where
    F: Family,
    P: Packet + ?Sized,
    T: Tables<F>,
{
    match inner_mtu::<F, P, T>(packet, tables).and_then(|mtu| write::<F, P>(packet, mtu)) {
        Ok(()) => Answer(TooBig),
        Err(verdict) => verdict,
    }
}

/// The greatest packet that fits.
#[inline(always)]
fn inner_mtu<F, P, T>(packet: &P, tables: &T) -> Result<usize, Verdict>
where
    F: Family,
    P: Packet + ?Sized,
    T: Tables<F>,
{
    let settings = Shared::settings(tables)
        .filter(|settings| settings.abi_version == ABI_VERSION)
        .ok_or(Pass(NotReady))?;
    let layout = Layout::plain::<F>();
    let ip = packet
        .header::<F::Header>(layout.network)
        .ok_or(Pass(Malformed))?;
    let segment = parse_transport::<F, P>(packet, ip, layout)?;
    // It was there when this packet was found too big; if it is gone by now, its sender tries again.
    let flow = Table::new(tables, settings).find(&segment.key);
    flow.and_then(|found| found.rewrite())
        .map(|rewrite| rewrite.inner_mtu())
        .ok_or(Drop(TooBig))
}

/// Turns the packet into the answer: the two headers of the message, then the start of the packet as it came.
#[inline(always)]
fn write<F: Family, P: Packet + ?Sized>(packet: &mut P, mtu: usize) -> Result<(), Verdict> {
    let network = size_of::<F::Header>();
    let macs = Macs::of(packet.header::<Eth>(0).ok_or(Pass(Malformed))?);
    let ip = *packet
        .header::<F::Header>(Eth::LEN)
        .ok_or(Pass(Malformed))?;
    let quote = packet.header::<Quote>(Eth::LEN).ok_or(Pass(Malformed))?;
    let quoted = sum(quote);
    let addresses = F::swapped(F::addresses(&ip));
    let length = Icmp::LEN + Quote::LEN;

    packet
        .truncate(Eth::LEN + Quote::LEN)
        .and_then(|()| packet.grow_front(network + Icmp::LEN))
        .ok_or(Drop(NoHeadroom))?;
    let (kind, code) = F::TOO_BIG_KIND;
    let [.., high, low] = mtu.to_be_bytes();
    let rest = [0, 0, high, low];
    let checksum = F::icmp_pseudo_header(addresses, length)
        .word(0, u32::from_ne_bytes([kind, code, high, low]))
        .long(0, quoted)
        .finish();
    let icmp = packet.header_mut::<Icmp>(Eth::LEN + network);
    *icmp.ok_or(Drop(Malformed))? = Icmp {
        kind,
        code,
        checksum,
        rest,
    };
    let outer = packet.header_mut::<F::Header>(Eth::LEN);
    *outer.ok_or(Drop(Malformed))? = F::outer(&ip, length, F::ICMP, addresses);
    let eth = packet.header_mut::<Eth>(0).ok_or(Drop(Malformed))?;
    macs.swapped().write(eth);
    eth.ethertype = F::ETHERTYPE;
    Ok(())
}

/// The one's-complement sum of the quoted bytes, as a long.
#[inline(always)]
fn sum(quote: &Quote) -> u64 {
    quote.0.iter().fold(0_u64, |sum, bytes| {
        let word = u64::from_ne_bytes(*bytes);
        let (sum, carry) = sum.overflowing_add(word);
        sum.wrapping_add(u64::from(carry))
    })
}
