//! The decision: what happens to one packet. The file to read first.
//!
//! ```text
//!  parse ─▶ one of our addresses? ─▶ flow table ──hit──▶ count, track ─▶ rewrite ─▶ Transmit | Redirect
//!    │               │                   │ miss (or a SYN over a closed flow)
//!    ▼               ▼                   ▼
//!  Pass            Pass        service? ─┬─ none ──────▶ Pass
//!                                        ├─ WORKER ────▶ Worker
//!                                        ├─ STACK ─────▶ Pass
//!                                        └─ L4, opens ─▶ ring ─▶ server ─▶ tuple ─▶ insert ─▶ rewrite …
//! ```
//!
//! The flow table comes before the service lookup, for two reasons. Answers from servers are addressed
//! to a NAT address or a client, which no service lookup knows. And the service map is a kernel hash,
//! 24 ns, more than everything else on the path of an established packet. The price is a probe in vain
//! for each packet of a worker's service: one cache line before microseconds of TCP and TLS.
//!
//! No clock: the tick is in [`Settings`]. No unsafe, allocation, I/O or panic. Called by the XDP
//! program with kernel maps, and by tests with vectors.

use crate::abi::{
    ABI_VERSION, BACKEND_FLAG_REACHABLE, Backend, Interface, PREFILTER_WORDS, RING_EMPTY,
    SERVICE_FLAG_KEEP_SOURCE, SERVICE_KIND_L4, SERVICE_KIND_STACK, SERVICE_KIND_WORKER,
    SETTINGS_MATCH_SOURCE, Service, ServiceCounters, ServiceKey, Settings,
};
use crate::flow::{self, FlowEntry, Found, Key, Sets, Table, Value, prefilter_bit};
use crate::nat::{self, SourceAddresses};
use crate::rewrite::{Macs, Rewrite};
use crate::tcp::{Direction, Flags, State};
use crate::verdict::Reason::{
    self, Arp, Fragment, Icmp, Ipv4Options, Ipv6, Malformed, NoFlow, NoServer, NoService, NoWorker,
    NotOurs, NotReady, OtherEthertype, OtherProtocol, ServerUnreachable, SnatExhausted,
    StackService, TableFull, TtlExpired, TupleInUse, Udp, Vlan, WorkerFragment,
};
use crate::verdict::Verdict::{self, Drop, Pass};
use crate::wire::{
    ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_QINQ, ETHERTYPE_VLAN, Eth, Ipv4,
    PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP, Packet, Tcp, Udp as Datagram,
};

/// How the packet came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ingress {
    /// Kernel index of the interface.
    pub ifindex: u32,
    /// Receive queue of that interface.
    pub queue: u32,
    /// The CPU we run on, which has source ports of its own.
    pub cpu: u32,
}

/// What userspace has told us: maps in the kernel, vectors in tests. `None` means "no such element".
pub trait Tables: Sets + SourceAddresses {
    /// Map `SETTINGS`.
    fn settings(&self) -> Option<&Settings>;
    /// Map `PREFILTER`.
    fn prefilter_word(&self, index: u32) -> Option<u32>;
    /// Map `SERVICES`.
    fn service(&self, key: &ServiceKey) -> Option<Service>;
    /// Map `RINGS`: index of a server.
    fn ring_slot(&self, index: u32) -> Option<u32>;
    /// Map `BACKENDS`.
    fn backend(&self, index: u32) -> Option<&Backend>;
    /// Map `INTERFACES`.
    fn interface(&self, ifindex: u32) -> Option<Interface>;
    /// Adds to map `SERVICE_COUNTERS`.
    fn count(&self, service: u8, counters: ServiceCounters);
}

/// Decides about `packet` and, if it is to be forwarded, rewrites it.
#[inline(always)]
pub fn decide<P, T>(packet: &mut P, tables: &T, ingress: Ingress) -> Verdict
where
    P: Packet + ?Sized,
    T: Tables,
{
    match forward(packet, tables, ingress) {
        Ok(rewrite) => send(packet, &rewrite, ingress),
        Err(verdict) => verdict,
    }
}

/// The rewrite for a packet of a flow, old or new; any other packet's verdict is the error.
#[inline(always)]
fn forward<P, T>(packet: &P, tables: &T, ingress: Ingress) -> Result<Rewrite, Verdict>
where
    P: Packet + ?Sized,
    T: Tables,
{
    let ip = parse_ipv4(packet)?;
    let settings = tables
        .settings()
        .filter(|settings| settings.abi_version == ABI_VERSION)
        .ok_or(Pass(NotReady))?;
    if !may_be_ours(tables, settings, ip) {
        return Err(Pass(NotOurs));
    }
    if ip.is_fragment() {
        return Err(fragment(packet, tables, ip));
    }
    let segment = parse_transport(packet, ip)?;
    let table = Table {
        sets: tables,
        settings,
    };
    if let Some(found) = table.find(segment.key) {
        if !(segment.flags.opens() && found.entry.state() == State::Closed) {
            return established(&table, &found, &segment);
        }
        // The client reuses its port: a new connection, which may go to another server.
        table.remove(&found.rewrite.key(segment.key.protocol).reversed());
        table.remove(&segment.key);
    }
    let service = tables
        .service(&segment.key.service())
        .ok_or(Pass(segment.no_service()))?;
    tables.count(counters_of(service), segment.counters());
    match service.kind {
        SERVICE_KIND_L4 if segment.opens() => open(packet, &table, &segment, service, ingress),
        // Without a flow there is no server to send it to. The stack, which has no such connection
        // either, answers with RST: the client learns at once what a drop would tell it by timeout.
        SERVICE_KIND_L4 => Err(Pass(NoFlow)),
        SERVICE_KIND_WORKER => Err(worker(tables, ingress)),
        SERVICE_KIND_STACK => Err(Pass(StackService)),
        _ => Err(Pass(segment.no_service())),
    }
}

/// What is looked at in a TCP segment or UDP datagram.
struct Segment {
    key: Key,
    /// Of a datagram, which has none: those that it counts as (see [`Flags::DATAGRAM`]).
    flags: Flags,
    ttl: u8,
    /// Of the whole frame, in bytes.
    length: u32,
}

impl Segment {
    /// Whether it starts a flow if there is none: each datagram might be the first.
    #[inline(always)]
    fn opens(&self) -> bool {
        self.key.protocol == PROTOCOL_UDP || self.flags.opens()
    }

    /// Why it is passed if it is for a port of nobody.
    #[inline(always)]
    fn no_service(&self) -> Reason {
        if self.key.protocol == PROTOCOL_UDP {
            Udp
        } else {
            NoService
        }
    }

    #[inline(always)]
    fn counters(&self) -> ServiceCounters {
        ServiceCounters {
            packets: 1,
            bytes: u64::from(self.length),
            flows: 0,
            forwarded: 0,
        }
    }
}

impl Key {
    /// The service that packets of this tuple are addressed to.
    #[inline(always)]
    fn service(self) -> ServiceKey {
        let (address, port) = self.destination();
        ServiceKey {
            address,
            port: port.to_be_bytes(),
            protocol: self.protocol,
            zero: 0,
        }
    }
}

impl Rewrite {
    /// The tuple of the packets as they leave.
    #[inline(always)]
    fn key(&self, protocol: u8) -> Key {
        Key {
            addresses: self.addresses,
            ports: self.ports,
            protocol,
        }
    }
}

/// The IPv4 header, if that is what the packet has, and one that we can vouch for.
#[inline(always)]
fn parse_ipv4<P: Packet + ?Sized>(packet: &P) -> Result<&Ipv4, Verdict> {
    let eth = packet.header::<Eth>(0).ok_or(Pass(Malformed))?;
    match eth.ethertype {
        ETHERTYPE_IPV4 => {}
        ETHERTYPE_IPV6 => return Err(Pass(Ipv6)),
        ETHERTYPE_ARP => return Err(Pass(Arp)),
        ETHERTYPE_VLAN | ETHERTYPE_QINQ => return Err(Pass(Vlan)),
        _ => return Err(Pass(OtherEthertype)),
    }
    let ip = packet.header::<Ipv4>(Eth::LEN).ok_or(Pass(Malformed))?;
    if ip.version() != 4 || ip.header_len() < Ipv4::LEN || ip.total_len() < ip.header_len() {
        return Err(Pass(Malformed));
    }
    match ip.protocol {
        _ if ip.header_len() > Ipv4::LEN => Err(Pass(Ipv4Options)),
        PROTOCOL_TCP | PROTOCOL_UDP => Ok(ip),
        PROTOCOL_ICMP => Err(Pass(Icmp)),
        _ => Err(Pass(OtherProtocol)),
    }
}

/// The TCP or UDP header, if its lengths and those of IP and the frame agree.
#[inline(always)]
fn parse_transport<P: Packet + ?Sized>(packet: &P, ip: &Ipv4) -> Result<Segment, Verdict> {
    let (ports, flags, least) = match ip.protocol {
        PROTOCOL_UDP => parse_udp(packet),
        _ => parse_tcp(packet),
    }
    .ok_or(Pass(Malformed))?;
    // A frame may be longer than its datagram (padding to 60 bytes), never shorter.
    if ip.total_len() < Ipv4::LEN + least || packet.len() < Eth::LEN + ip.total_len() {
        return Err(Pass(Malformed));
    }
    Ok(Segment {
        key: Key {
            addresses: u64::from_ne_bytes(ip.addresses),
            ports,
            protocol: ip.protocol,
        },
        flags,
        ttl: ip.ttl,
        // At most one page.
        length: u32::try_from(packet.len()).unwrap_or(u32::MAX),
    })
}

/// Ports, flags, and the number of bytes that must be there.
#[inline(always)]
fn parse_tcp<P: Packet + ?Sized>(packet: &P) -> Option<(u32, Flags, usize)> {
    let tcp = packet.header::<Tcp>(Eth::LEN + Ipv4::LEN)?;
    let length = tcp.header_len();
    (length >= Tcp::LEN).then_some((u32::from_ne_bytes(tcp.ports), Flags(tcp.flags), length))
}

/// As [`parse_tcp`].
#[inline(always)]
fn parse_udp<P: Packet + ?Sized>(packet: &P) -> Option<(u32, Flags, usize)> {
    let udp = packet.header::<Datagram>(Eth::LEN + Ipv4::LEN)?;
    let length = udp.length();
    let ports = u32::from_ne_bytes(udp.ports);
    (length >= Datagram::LEN).then_some((ports, Flags::DATAGRAM, length))
}

/// Whether a packet can belong to a service or flow at all. Most packets of a host that does other
/// things too end here, after four nanoseconds.
#[inline(always)]
fn may_be_ours<T: Tables>(tables: &T, settings: &Settings, ip: &Ipv4) -> bool {
    in_prefilter(tables, ip.destination())
        || (settings.flags & SETTINGS_MATCH_SOURCE != 0 && in_prefilter(tables, ip.source()))
}

#[inline(always)]
fn in_prefilter<T: Tables>(tables: &T, address: [u8; 4]) -> bool {
    let (word, bit) = prefilter_bit(address);
    tables
        .prefilter_word(word & (PREFILTER_WORDS - 1))
        .is_some_and(|bits| bits & bit != 0)
}

/// Fragments go to the stack, except to workers: their TCP does not reassemble, and the stack would
/// answer with RST in their name. Later fragments carry no port to tell whose they are, but without
/// the first one the stack can do nothing with them.
#[inline(always)]
fn fragment<P: Packet + ?Sized, T: Tables>(packet: &P, tables: &T, ip: &Ipv4) -> Verdict {
    if !ip.is_first_fragment() {
        return Pass(Fragment);
    }
    // The first eight bytes of both protocols have the ports in the same place, and a fragment has at
    // least eight bytes (RFC 791 §2.3).
    let Some(transport) = packet.header::<Datagram>(Eth::LEN + Ipv4::LEN) else {
        return Pass(Malformed);
    };
    let key = Key {
        addresses: u64::from_ne_bytes(ip.addresses),
        ports: u32::from_ne_bytes(transport.ports),
        protocol: ip.protocol,
    };
    match tables.service(&key.service()) {
        Some(service) if service.kind == SERVICE_KIND_WORKER => Drop(WorkerFragment),
        _ => Pass(Fragment),
    }
}

/// A packet of a flow that we know.
#[inline(always)]
fn established<T: Tables>(
    table: &Table<'_, T>,
    found: &Found<'_>,
    segment: &Segment,
) -> Result<Rewrite, Verdict> {
    let entry = found.entry;
    if segment.ttl <= 1 {
        return Err(Pass(TtlExpired));
    }
    entry.count(segment.length, table.settings.tick);
    let counters = ServiceCounters {
        forwarded: 1,
        ..segment.counters()
    };
    table.sets.count(entry.service(), counters);
    let news = entry.track(segment.flags);
    if news != Flags::default() {
        let peer = found.rewrite.key(segment.key.protocol).reversed();
        if let Some(peer) = table.find_cold(&peer) {
            FlowEntry::tell(peer, news);
        }
    }
    Ok(found.rewrite)
}

/// A packet for a worker goes to the socket of the queue it came by: the kernel accepts no other.
#[inline(always)]
fn worker<T: Tables>(tables: &T, ingress: Ingress) -> Verdict {
    match tables.interface(ingress.ifindex) {
        Some(interface) if ingress.queue < interface.queues => Verdict::Worker {
            slot: interface.xsk_base + ingress.queue,
        },
        _ => Drop(NoWorker),
    }
}

/// The first packet of a connection: chooses its server, its tuple there, and remembers both.
#[inline(always)]
fn open<P, T>(
    packet: &P,
    table: &Table<'_, T>,
    segment: &Segment,
    service: Service,
    ingress: Ingress,
) -> Result<Rewrite, Verdict>
where
    P: Packet + ?Sized,
    T: Tables,
{
    if segment.ttl <= 1 {
        return Err(Pass(TtlExpired));
    }
    let (id, backend) = choose(table, segment.key, service).map_err(Drop)?;
    let tuple = if service.flags & SERVICE_FLAG_KEEP_SOURCE == 0 {
        nat::map_source(table, segment.key, backend, ingress.cpu).ok_or(Drop(SnatExhausted))?
    } else {
        nat::keep_source(table, segment.key, backend).ok_or(Drop(TupleInUse))?
    };
    let eth = packet.header::<Eth>(0).ok_or(Pass(Malformed))?;
    let answer = segment.key.reversed();
    let to = Value {
        rewrite: Rewrite {
            addresses: tuple.addresses,
            ports: tuple.ports,
            macs: Macs::new(backend.destination_mac, backend.source_mac),
            ifindex: backend.ifindex,
        },
        direction: Direction::Forward,
        seen: Flags::SYN,
        service: counters_of(service),
        backend: id,
    };
    let back = Value {
        rewrite: Rewrite {
            addresses: answer.addresses,
            ports: answer.ports,
            macs: Macs::of(eth).swapped(),
            ifindex: ingress.ifindex,
        },
        direction: Direction::Reverse,
        seen: Flags::default(),
        ..to
    };
    table
        .insert(segment.key, &to, tuple.reversed(), &back)
        .map_err(|flow::Full| Drop(TableFull))?;
    let counters = ServiceCounters {
        flows: 1,
        forwarded: 1,
        ..ServiceCounters::default()
    };
    table.sets.count(to.service, counters);
    Ok(to.rewrite)
}

/// The server of a new connection. A drop, not a reset by the stack, if there is none: on a host with a
/// listener on the same port the stack would *accept* the connection.
#[inline(always)]
fn choose<'a, T: Tables>(
    table: &Table<'a, T>,
    client: Key,
    service: Service,
) -> Result<(u16, &'a Backend), Reason> {
    if service.ring == RING_EMPTY {
        return Err(NoServer);
    }
    let slot = service.ring.wrapping_add(table.slot(client));
    let index = table.sets.ring_slot(slot).ok_or(NoServer)?;
    let backend = table.sets.backend(index).ok_or(NoServer)?;
    if backend.flags & BACKEND_FLAG_REACHABLE == 0 {
        return Err(ServerUnreachable);
    }
    // The map has no more elements than fit (asserted in `flow`).
    u16::try_from(index)
        .map(|index| (index, backend))
        .map_err(|_| NoServer)
}

/// Index of the service's counters. Userspace numbers services from zero, below `MAX_SERVICES`.
#[expect(
    clippy::cast_possible_truncation,
    reason = "at most 256 services (asserted in `flow`)"
)]
#[inline(always)]
fn counters_of(service: Service) -> u8 {
    service.id as u8
}

/// Rewrites the packet and says where it leaves.
#[inline(always)]
fn send<P: Packet + ?Sized>(packet: &mut P, rewrite: &Rewrite, ingress: Ingress) -> Verdict {
    match rewrite.apply(packet) {
        None => Pass(Malformed),
        Some(()) if rewrite.ifindex == ingress.ifindex => Verdict::Transmit,
        Some(()) => Verdict::Redirect {
            ifindex: rewrite.ifindex,
        },
    }
}

#[cfg(test)]
mod tests;
