//! Desired state of the XDP maps, and the smallest set of writes that gets there.
//!
//! [`DesiredService`] is pure data made from the configuration and from what health checks and the kernel's
//! neighbour table say just now; [`Reconciler`] remembers what was written and gives the difference as a
//! list of [`Write`]s, so that a health change touches one service, not all.
//! Not here: deciding who is healthy (`health`), and how a map is written (`dataplane`).

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use lb_ebpf::abi::{
    BACKEND_FLAG_REACHABLE, Backend, PREFILTER_WORDS, RING_EMPTY, RING_SIZE,
    SERVICE_FLAG_BEGINS_ON_STACK, SERVICE_FLAG_MOVES, Service, mapped,
};
use lb_ebpf::flow::{prefilter_bit, prefilter_bit6};
use lb_ebpf::maglev::{self, Candidate};
use lb_ebpf::rewrite::Mode;

use super::numbers::{Numbered, Numbers};
use crate::dataplane::{Dataplane, MapAccessError, NextHop};

/// Ticks for which segments in mid-connection without a flow are taken for older than the last change of their ring:
/// a flow that was displaced was as idle as that ([`lb_ebpf::flow::DISPLACE_AFTER`]), and one that comes from another host
/// is mostly younger.
const GRACE: u32 = 300;

/// Ticks that a ring must have been live for to be kept as the one before. When a daemon starts it learns the ways to its
/// servers one by one, and no flow in flight was opened by a ring that lacked some of them.
const SETTLED: u32 = 10;

type Ring = [u32; RING_SIZE as usize];

/// A ring on the heap, without a copy on the stack.
fn empty_ring() -> Box<Ring> {
    let slots = vec![0; RING_SIZE as usize].into_boxed_slice();
    slots
        .try_into()
        .unwrap_or_else(|_| unreachable!("the vector has just this length"))
}

/// One server of an L4 service, as known now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DesiredServer {
    /// Where the server listens.
    pub(crate) address: SocketAddr,
    /// Share of new flows; 0 gets none.
    pub(crate) weight: u16,
    /// Whether health checks and the operator let it take new flows.
    pub(crate) up: bool,
    /// Where frames for it leave; `None` until its neighbour has answered.
    pub(crate) next_hop: Option<NextHop>,
}

/// One service, as it should be in the maps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DesiredService {
    /// Virtual address and port.
    pub(crate) listen: SocketAddr,
    /// IP protocol number.
    pub(crate) protocol: u8,
    /// `SERVICE_KIND_*`.
    pub(crate) kind: u8,
    /// `SERVICE_FLAG_*`, without those of the next two.
    pub(crate) flags: u8,
    /// Some of its connections may live on the host's stack.
    pub(crate) moves: bool,
    /// New ones begin there, if it [`moves`](Self::moves). May change at any time.
    pub(crate) begins_on_stack: bool,
    /// How packets get to the server.
    pub(crate) forward: Mode,
    /// Greatest MSS in a SYN; 0 for any.
    pub(crate) mss: u16,
    /// Servers; empty for a service that a worker answers.
    pub(crate) servers: Vec<DesiredServer>,
}

impl DesiredService {
    /// All of its `SERVICE_FLAG_*`.
    fn flags(&self) -> u8 {
        let moves = match (self.moves, self.begins_on_stack) {
            (false, _) => 0,
            (true, false) => SERVICE_FLAG_MOVES,
            (true, true) => SERVICE_FLAG_MOVES | SERVICE_FLAG_BEGINS_ON_STACK,
        };
        self.flags | moves
    }

    /// A server takes new flows when it is healthy *and* frames can reach it: a ring slot that
    /// points at an unresolved neighbour would drop every SYN that hashes to it.
    fn weights(&self) -> Vec<u16> {
        self.servers
            .iter()
            .map(|server| {
                if server.up && server.next_hop.is_some() {
                    server.weight
                } else {
                    0
                }
            })
            .collect()
    }
}

/// One write to the maps.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Write {
    /// An element of `BACKENDS`.
    Backend {
        /// Its index.
        index: u32,
        /// Its value.
        backend: Backend,
    },
    /// A Maglev ring, into slots that the program isn't reading.
    Ring {
        /// Its first slot in `RINGS`.
        first: u32,
        /// Its slots.
        ring: Box<Ring>,
    },
    /// A service; makes a ring live.
    Service {
        /// Its virtual address and port.
        listen: SocketAddr,
        /// Its IP protocol number.
        protocol: u8,
        /// Its value.
        service: Service,
    },
}

impl Write {
    /// Does it.
    pub(crate) fn apply(&self, dataplane: &mut Dataplane) -> Result<(), MapAccessError> {
        match self {
            Self::Backend { index, backend } => dataplane.set_backend(*index, backend),
            Self::Ring { first, ring } => {
                dataplane.write_ring(*first, &ring[..]);
                Ok(())
            }
            Self::Service {
                listen,
                protocol,
                service,
            } => dataplane.set_service(*listen, *protocol, *service),
        }
    }
}

/// What was last written for one service.
struct Actual {
    numbers: Numbered,
    /// First slot of the two rings that are its own.
    first_slot: u32,
    servers: Vec<DesiredServer>,
    weights: Vec<u16>,
    service: Option<Service>,
    /// When the live ring came to be that.
    changed: u32,
}

/// Remembers what was written, and says what is to be written next.
pub(crate) struct Reconciler {
    actual: Vec<Actual>,
    retired: BTreeMap<u32, (u16, SocketAddr)>,
}

impl Reconciler {
    /// Lays the services out in the maps. The layout stays while health and neighbours change.
    pub(crate) fn new(numbers: Numbers) -> Self {
        let slots = (0..).step_by(2 * RING_SIZE as usize);
        let actual = numbers.services.into_iter().zip(slots);
        let actual = actual.map(|(numbers, first_slot)| Actual {
            numbers,
            first_slot,
            servers: Vec::new(),
            weights: Vec::new(),
            service: None,
            changed: 0,
        });
        Self {
            actual: actual.collect(),
            retired: numbers.retired,
        }
    }

    /// The writes that keep the numbers of servers that only flows know any more.
    pub(crate) fn retired(&self) -> impl Iterator<Item = Write> {
        let servers = self.retired.iter();
        servers.map(|(&index, &(service, address))| Write::Backend {
            index,
            backend: unreachable(service, address),
        })
    }

    /// Which service has a number, in the order of the configuration.
    pub(crate) fn position(&self, id: u16) -> Option<usize> {
        let mut services = self.actual.iter();
        services.position(|actual| actual.numbers.id == id)
    }

    /// The number of a service.
    pub(crate) fn id(&self, position: usize) -> Option<u16> {
        Some(self.actual.get(position)?.numbers.id)
    }

    /// Which server of a service an element of `BACKENDS` is, both in the order of the configuration.
    pub(crate) fn server(&self, position: usize, backend: u16) -> Option<usize> {
        let mut servers = self.actual.get(position)?.numbers.servers.iter();
        servers.position(|index| *index == u32::from(backend))
    }

    /// The address of a server that only flows know any more.
    pub(crate) fn retired_server(&self, backend: u16) -> Option<SocketAddr> {
        let (_, address) = self.retired.get(&u32::from(backend))?;
        Some(*address)
    }

    /// The writes that bring the maps from what was last written for the service at `position` to what is
    /// desired at `tick`, in the order in which they must be done. The caller does them all, or gives up.
    pub(crate) fn diff(
        &mut self,
        position: usize,
        desired: &DesiredService,
        tick: u32,
    ) -> Vec<Write> {
        let Some(actual) = self.actual.get_mut(position) else {
            return Vec::new();
        };
        let (gained, lost) = actual.backends(desired);
        // A ring must never point at a server that isn't written yet, nor at one that is no longer
        // reachable: servers come before the ring that names them, and go after it.
        let mut writes = gained;
        writes.extend(actual.ring_and_service(desired, tick));
        writes.extend(lost);
        writes
    }

    /// The write that ends the grace of a service's last ring but one, if it is over at `tick`.
    pub(crate) fn forget_previous(
        &mut self,
        position: usize,
        desired: &DesiredService,
        tick: u32,
    ) -> Option<Write> {
        let actual = self.actual.get_mut(position)?;
        if tick.wrapping_sub(actual.changed) < GRACE {
            return None;
        }
        actual.without_previous(desired)
    }
}

impl Actual {
    /// Writes for servers whose next hop is new, and for those that have none any more.
    fn backends(&mut self, desired: &DesiredService) -> (Vec<Write>, Vec<Write>) {
        let (mut gained, mut lost) = (Vec::new(), Vec::new());
        let servers = desired.servers.iter().zip(&self.numbers.servers);
        for (position, (server, &index)) in servers.enumerate() {
            if self
                .servers
                .get(position)
                .is_some_and(|known| known.next_hop == server.next_hop)
            {
                continue;
            }
            let write = Write::Backend {
                index,
                backend: backend(self.numbers.id, server),
            };
            if server.next_hop.is_some() {
                gained.push(write);
            } else {
                lost.push(write);
            }
        }
        self.servers.clone_from(&desired.servers);
        (gained, lost)
    }

    /// A new ring and the service that points to it, if the weights have changed; the service alone, if only its flags have.
    fn ring_and_service(&mut self, desired: &DesiredService, tick: u32) -> Vec<Write> {
        let weights = desired.weights();
        if let Some(service) = self.service
            && weights == self.weights
        {
            return Vec::from_iter(self.new_flags(desired, service));
        }
        let mut writes = Vec::new();
        let mut ring = empty_ring();
        let mut candidates = candidates(desired, &weights, &self.numbers.servers);
        let live = if maglev::build(&mut ring, &mut candidates) {
            let first = self.free_half();
            // Nobody may be sent by a ring that is half this one and half the next.
            if self
                .service
                .is_some_and(|service| service.previous_ring == first)
            {
                writes.extend(self.without_previous(desired));
            }
            writes.push(Write::Ring { first, ring });
            first
        } else {
            RING_EMPTY
        };
        let service = Service {
            kind: desired.kind,
            flags: desired.flags(),
            id: self.numbers.id,
            ring: live,
            previous_ring: self.settled(tick).unwrap_or(RING_EMPTY),
            forward: desired.forward as u8,
            mss: desired.mss,
            ..Service::default()
        };
        self.weights = weights;
        self.changed = tick;
        writes.push(self.write(desired, service));
        writes
    }

    /// What was last written, with other flags if others are desired.
    fn new_flags(&mut self, desired: &DesiredService, service: Service) -> Option<Write> {
        let flags = desired.flags();
        (service.flags != flags).then(|| self.write(desired, Service { flags, ..service }))
    }

    /// The live ring, if flows in flight may have been opened by it. It is in the half that is not written now.
    fn settled(&self, tick: u32) -> Option<u32> {
        let age = tick.wrapping_sub(self.changed);
        self.service
            .filter(|_| SETTLED <= age)
            .map(|service| service.ring)
    }

    /// Makes segments without a flow follow the live ring, unless they do.
    fn without_previous(&mut self, desired: &DesiredService) -> Option<Write> {
        let service = self.service?;
        let expired = Service {
            previous_ring: RING_EMPTY,
            ..service
        };
        (service != expired).then(|| self.write(desired, expired))
    }

    fn write(&mut self, desired: &DesiredService, service: Service) -> Write {
        self.service = Some(service);
        Write::Service {
            listen: desired.listen,
            protocol: desired.protocol,
            service,
        }
    }

    /// The half of the service's ring slots that the program isn't reading.
    fn free_half(&self) -> u32 {
        let live = self.service.map(|service| service.ring);
        if live == Some(self.first_slot) {
            self.first_slot + RING_SIZE
        } else {
            self.first_slot
        }
    }
}

/// The servers that want slots, in an order that every host with the same configuration has.
fn candidates(desired: &DesiredService, weights: &[u16], indices: &[u32]) -> Vec<Candidate> {
    let servers = desired.servers.iter().zip(weights).zip(indices);
    let mut servers: Vec<_> = servers.collect();
    servers.sort_by_key(|((server, _), _)| server.address);
    servers
        .into_iter()
        .map(|((server, &weight), &index)| {
            Candidate::new(index, identity(server.address), u32::from(weight))
        })
        .collect()
}

/// What a server is to the ring: the same number on every host, and another for every server.
#[expect(clippy::many_single_char_names, reason = "segments in their order")]
fn identity(server: SocketAddr) -> u64 {
    let port = u64::from(server.port());
    match server.ip() {
        IpAddr::V4(address) => u64::from(u32::from(address)) << 16 | port,
        IpAddr::V6(address) => {
            let [a, b, c, d, e, f, g, h] = address.segments().map(u64::from);
            let (high, low) = (
                a << 48 | b << 32 | c << 16 | d,
                e << 48 | f << 32 | g << 16 | h,
            );
            // Fibonacci hashing of the prefix; two servers of a pool differ in the rest.
            high.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ low.rotate_left(16) ^ port
        }
    }
}

fn backend(service: u16, server: &DesiredServer) -> Backend {
    let backend = unreachable(service, server.address);
    match server.next_hop {
        Some(hop) => Backend {
            destination_mac: hop.destination_mac,
            source_mac: hop.source_mac,
            flags: BACKEND_FLAG_REACHABLE,
            link: hop.link,
            tunnel_source: octets(hop.source),
            mtu: hop.mtu,
            ..backend
        },
        None => backend,
    }
}

fn unreachable(service: u16, address: SocketAddr) -> Backend {
    Backend {
        address: octets(address.ip()),
        port: address.port().to_be_bytes(),
        service,
        ..Backend::default()
    }
}

fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => mapped(address.octets()),
        IpAddr::V6(address) => address.octets(),
    }
}

/// Bits of the prefilter for every address that the program must look at.
pub(crate) fn prefilter(addresses: impl IntoIterator<Item = IpAddr>) -> Vec<u32> {
    let mut words = vec![0; PREFILTER_WORDS as usize];
    for address in addresses {
        let (word, mask) = match address {
            IpAddr::V4(address) => prefilter_bit(address.octets()),
            IpAddr::V6(address) => prefilter_bit6(address.octets()),
        };
        words[word as usize] |= mask;
    }
    words
}

#[cfg(test)]
mod tests;
