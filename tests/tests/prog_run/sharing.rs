//! One flow table, two CPUs that run the program, and userspace that reads and sweeps meanwhile.
//!
//! What an entry must hold follows from its key, so that every entry that anyone sees at any time can be judged: the ring
//! names the server, the service the rest. Losses are counted, and there may be none.

use super::{Kernel, XDP_REDIRECT, XDP_TX, pin, test_run};
use aya::maps::{Array, MapData};
use aya::programs::Xdp;
use lb_ebpf::abi::{
    Backend, CORE_FIRST, CORE_NONE, CORE_SPREAD, LINK_VLAN, SERVICE_FLAG_AFFINITY, Service,
    Settings,
};
use lb_ebpf::family::{Family, V4, V6};
use lb_ebpf::fixtures::{Reading, Traffic, World, answer, checks};
use lb_ebpf::flow::{Fate, FlowSet, FlowSnapshot, Key, Sets, Table, Timeouts, Value, WAYS};
use lb_ebpf::mapped::MappedFlows;
use lb_ebpf::rewrite::{Mode, Rewrite};
use lb_ebpf::tcp::{Direction, Flags, State};
use lb_ebpf::wire::PROTOCOL_TCP;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::thread;

const PACKETS: u32 = 50_000;

/// With one CPU there is nobody to share with, and pinning to the second fails.
fn has_two_cpus() -> bool {
    thread::available_parallelism().unwrap().get() >= 2
}

/// A world with ports for each CPU, and tables of so many sets.
fn world(traffic: &mut Traffic, sets: u32) -> World {
    let mut world = traffic.world();
    world.settings.snat_partition_bits = 1;
    world.settings.flow_set_mask = sets - 1;
    world.settings.flow6_set_mask = sets - 1;
    world
}

/// What userspace knows, by which it judges what it sees.
struct Judge<'a> {
    world: &'a World,
    rings: HashMap<u32, u32>,
}

impl<'a> Judge<'a> {
    fn new(world: &'a World) -> Self {
        let rings = world.rings.iter().copied().collect();
        Self { world, rings }
    }

    /// Whether the entry is one that its key could have been given.
    fn is_possible<F: Family>(&self, flow: &FlowSnapshot<F>, services: &[(Key<F>, Service)]) -> bool
    where
        MappedFlows<F>: Sets<F>,
    {
        let (client, server) = match flow.direction {
            Direction::Forward => (flow.key, flow.rewritten),
            Direction::Reverse => (flow.rewritten.reversed(), flow.key.reversed()),
        };
        let service = services.iter().find(|(key, _)| {
            key.destination() == client.destination() && key.protocol == client.protocol
        });
        let Some((_, service)) = service else {
            return false;
        };
        let backend = self.backend_of(&client, service);
        let address = F::unmapped(backend.address);
        let port = u16::from_be_bytes(backend.port);
        let there = match flow.mode {
            Mode::Nat => server.destination() == (address, port),
            Mode::Dsr => server == client,
            Mode::Ipip | Mode::Gue => F::destination(server.addresses) == address,
        };
        let leaves = match flow.direction {
            Direction::Forward => flow.link == backend.link,
            // As clients have come in: plain, or in the one VLAN.
            Direction::Reverse => matches!(flow.link, 1 | LINK_VLAN),
        };
        there
            && flow.mode == Mode::of_bits(service.forward)
            && leaves
            && u16::from(flow.service) == service.id
            && self.world.backends[usize::from(flow.backend)] == backend
    }

    fn backend_of<F: Family>(&self, client: &Key<F>, service: &Service) -> Backend {
        let affine = service.flags & SERVICE_FLAG_AFFINITY != 0;
        let ports = if affine { 0 } else { client.ports };
        let key = Key { ports, ..*client };
        let slot = Table::<_, F>::new(&NoSets, &self.world.settings).slot(&key);
        self.world.backends[self.rings[&(service.ring + slot)] as usize]
    }
}

/// For asking a table where a key belongs.
struct NoSets;

impl<F: Family> Sets<F> for NoSets {
    fn flow_set(&self, _: u32) -> Option<&FlowSet<F>> {
        None
    }
}

fn services(world: &World) -> Vec<(Key<V4>, Service)> {
    let services = world.services.iter();
    let key = |address, port, protocol| Key::new(([0; 4], 0), (address, port), protocol);
    services
        .map(|(at, service)| {
            let port = u16::from_be_bytes(at.port);
            (key(at.address, port, at.protocol), *service)
        })
        .collect()
}

fn services6(world: &World) -> Vec<(Key<V6>, Service)> {
    let services = world.services6.iter();
    let key = |address, port, protocol| Key::new(([0; 16], 0), (address, port), protocol);
    services
        .map(|(at, service)| {
            let port = u16::from_be_bytes(at.port);
            (key(at.address, port, at.protocol), *service)
        })
        .collect()
}

/// What userspace has seen and done.
#[derive(Debug, Default)]
struct Watched {
    rounds: u32,
    seen: u64,
    torn: u64,
    swept: u64,
}

/// Reads every entry and sweeps every set until told to stop, as the clock goes on.
fn watch(
    kernel: &Kernel,
    clock: &mut Clock,
    judge: &Judge<'_>,
    ticks: &AtomicU32,
    done: &AtomicBool,
) -> Watched {
    let (services, services6) = (services(judge.world), services6(judge.world));
    let start = clock.settings.tick;
    let mut watched = Watched::default();
    while !done.load(Relaxed) {
        watched.rounds += 1;
        let settings = clock.set(start + ticks.load(Relaxed));
        for _ in 0..LOOKS {
            watched.look(&kernel.flows, judge, &services);
            watched.look(&kernel.flows6, judge, &services6);
        }
        watched.sweep(&kernel.flows, &settings);
        watched.sweep(&kernel.flows6, &settings);
    }
    watched
}

impl Watched {
    fn look<F: Family>(
        &mut self,
        flows: &MappedFlows<F>,
        judge: &Judge<'_>,
        services: &[(Key<F>, Service)],
    ) {
        for entry in flows.iter().flat_map(FlowSet::entries) {
            if let Some(flow) = entry.snapshot() {
                self.seen += 1;
                self.torn += u64::from(!judge.is_possible(&flow, services));
            }
        }
    }

    fn sweep<F: Family>(&mut self, flows: &MappedFlows<F>, settings: &Settings) {
        let table = Table::new(flows, settings);
        for set in flows.iter() {
            self.swept += u64::from(table.sweep(set, |_| Fate::Age(&TIMEOUTS)));
        }
    }
}

/// Short enough that flows get due while others displace them, long enough that the table is never empty.
const TIMEOUTS: Timeouts = Timeouts {
    half_open: 30,
    established: 400,
    closing: 30,
    closed: 30,
    datagrams: 60,
};

/// Looks for each sweep: an entry is being written for a few nanoseconds, and only who looks often sees one so.
const LOOKS: u32 = 32;

/// Packets of one CPU in which the clock goes on by a tick.
const TICK: u32 = 16;

/// The clock of the program, which userspace sets.
struct Clock {
    map: Array<MapData, Settings>,
    settings: Settings,
}

impl Clock {
    fn of(kernel: &mut Kernel) -> Self {
        let map = kernel.ebpf.take_map("SETTINGS").unwrap();
        let map: Array<_, Settings> = Array::try_from(map).unwrap();
        let settings = map.get(&0, 0).unwrap();
        Self { map, settings }
    }

    fn set(&mut self, tick: u32) -> Settings {
        let settings = Settings {
            tick,
            ..self.settings
        };
        self.map.set(0, settings, 0).unwrap();
        settings
    }
}

/// Lets both CPUs do their `work` while userspace watches. The clock goes on as they say, not as time does.
fn while_watched<T: Send>(
    kernel: &Kernel,
    clock: &mut Clock,
    judge: &Judge<'_>,
    work: impl Fn(usize, &Xdp, &AtomicU32) -> T + Sync,
) -> (Watched, Vec<T>) {
    let (ticks, done) = (AtomicU32::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(kernel, clock, judge, &ticks, &done));
        let (work, ticks) = (&work, &ticks);
        let cpus = [0, 1].map(|cpu| {
            scope.spawn(move || {
                pin(cpu);
                work(cpu, kernel.program(), ticks)
            })
        });
        let results = cpus.map(|cpu| cpu.join().unwrap());
        done.store(true, Relaxed);
        (watcher.join().unwrap(), results.into())
    })
}

/// Connections of all modes come and go in small tables, which are swept meanwhile: no entry may ever be seen under
/// another's key or half written, and in the end both directions of each flow are there, for one owner.
#[test]
fn two_cpus_share_the_table() {
    if !has_two_cpus() {
        return;
    }
    let world = world(&mut Traffic::new(7), 16);
    let mut kernel = Kernel::load(&world);
    let mut clock = Clock::of(&mut kernel);
    let judge = Judge::new(&world);
    let (watched, sent) = while_watched(&kernel, &mut clock, &judge, |cpu, program, ticks| {
        let clients = 3 + u8::try_from(cpu).unwrap();
        // One tuple arrives on one CPU, as receive-side scaling has it.
        let mut traffic = Traffic::of_clients(100 + cpu as u64, clients).undamaged();
        let mut sent = 0_u32;
        for number in 0..PACKETS {
            ticks.fetch_add(u32::from(number % TICK == 0), Relaxed);
            let (action, out) = test_run(program, &traffic.packet());
            if action == XDP_REDIRECT {
                traffic.deliver(&out);
                sent += 1;
            }
        }
        sent
    });
    let opened: u64 = (0..16).map(|id| kernel.service_counters(id).flows).sum();
    println!(
        "two CPUs: {opened} flows opened, {sent:?} packets to servers; userspace: {watched:?}"
    );
    assert_eq!(watched.torn, 0, "entries that their key cannot have");
    assert!(
        opened > 10_000,
        "{opened} flows in 128 entries: no pressure"
    );
    checks::flows(&kernel.flows);
    checks::flows(&kernel.flows6);
    assert!(watched.seen > 0 && watched.swept > 0, "{watched:?}");
    every_entry_can_be_taken(&kernel.flows, |number| {
        Key::new(
            ([10, 203, 9, 1], number),
            ([10, 203, 9, 2], 25),
            PROTOCOL_TCP,
        )
    });
    every_entry_can_be_taken(&kernel.flows6, |number| {
        Key::new(([9; 16], number), ([8; 16], 25), PROTOCOL_TCP)
    });
}

/// None is left half taken: given enough flows that nobody may displace, each entry has one.
fn every_entry_can_be_taken<F: Family>(flows: &MappedFlows<F>, key: impl Fn(u16) -> Key<F>) {
    for entry in flows.iter().flat_map(FlowSet::entries) {
        if let Some(flow) = entry.snapshot() {
            assert!(entry.release(flow.version));
        }
    }
    let settings = Settings {
        flow_set_mask: 15,
        flow6_set_mask: 15,
        hash_key: [0x9e37_79b9_7f4a_7c15; 12],
        ..Settings::default()
    };
    let table = Table::new(flows, &settings);
    let value = Value {
        rewrite: Rewrite {
            mode: Mode::Dsr,
            ..Rewrite::default()
        },
        direction: Direction::Forward,
        seen: Flags::ACK,
        service: 0,
        backend: 0,
    };
    let taken = (0..5000).filter(|number| table.insert_one_way(&key(*number), &value).is_ok());
    assert_eq!(taken.count(), flows.len() * WAYS as usize);
}

/// A flow of the next test: what its client sends, how that left, and what is answered if answers come by.
struct Opened {
    cpu: usize,
    packet: Vec<u8>,
    left: Vec<u8>,
    answer: Option<Vec<u8>>,
}

const ROUNDS: u32 = 20;

/// While one CPU forwards what clients send, the other one forwards the answers, and userspace reads and sweeps: in a table
/// with room, each flow is found by each of its packets, keeps its rewrite, and no count and no flag of it is lost.
#[test]
fn no_flow_is_lost_between_two_cpus() {
    if !has_two_cpus() {
        return;
    }
    no_flow_is_lost(CORE_NONE, CORE_NONE);
    // The flows fill the core, and more, before the table is spread.
    no_flow_is_lost(CORE_FIRST, CORE_SPREAD);
}

#[expect(clippy::print_stdout, reason = "figures of a test")]
fn no_flow_is_lost(core: u16, later: u16) {
    let mut world = world(&mut Traffic::new(8), 8192);
    (world.settings.flow_core, world.settings.flow6_core) = (core, core);
    let mut kernel = Kernel::load(&world);
    let mut clock = Clock::of(&mut kernel);
    let judge = Judge::new(&world);
    let (opening, opened) = while_watched(&kernel, &mut clock, &judge, open_flows);
    let opened: Vec<_> = opened.into_iter().flatten().collect();
    (clock.settings.flow_core, clock.settings.flow6_core) = (later, later);
    let (using, lost) = while_watched(&kernel, &mut clock, &judge, |cpu, program, _| {
        let packets = (0..ROUNDS).flat_map(|_| &opened);
        let lost = packets.filter(|flow| !flow.goes_on(cpu, program));
        lost.count()
    });
    let miscounted = miscounted(&kernel.flows) + miscounted(&kernel.flows6);
    let answered = opened.iter().filter(|flow| flow.answer.is_some()).count();
    println!(
        "two CPUs: {} flows, {answered} answered, {ROUNDS} packets each way: {lost:?} lost, {miscounted} entries miscounted; \
         userspace: {opening:?}, {using:?}",
        opened.len()
    );
    assert!(opened.len() > 700 && answered > 300);
    assert_eq!(lost, [0, 0], "packets that did not find their flow");
    assert_eq!(miscounted, 0, "entries that miss a packet or a flag");
    let torn = opening.torn + using.torn;
    assert_eq!(torn, 0, "entries that their key cannot have");
    assert_eq!((opening.swept, using.swept), (0, 0), "none was idle");
}

/// Opens flows of clients of this CPU's own, so few that none is displaced.
fn open_flows(cpu: usize, program: &Xdp, _: &AtomicU32) -> Vec<Opened> {
    let clients = 3 + u8::try_from(cpu).unwrap();
    let mut traffic = Traffic::of_clients(200 + cpu as u64, clients).undamaged();
    let mut known = HashSet::new();
    let mut opened = vec![];
    for _ in 0..1200 {
        let packet = traffic.from_client(Flags::SYN);
        // What is too big for its tunnel opens a flow too, but does not leave.
        let fits = packet.len() < 500;
        if !fits || !known.insert(way(&packet)) {
            continue;
        }
        let (action, left) = test_run(program, &packet);
        if action == XDP_REDIRECT {
            opened.push(Opened::new(cpu, packet, left));
        }
    }
    opened
}

impl Opened {
    fn new(cpu: usize, mut packet: Vec<u8>, left: Vec<u8>) -> Self {
        let (sent, arrived) = (way(&packet), way(&left));
        // What is redirected or carried as it was is answered on another way.
        let is_translated = sent.destination != arrived.destination && sent.ports != arrived.ports;
        let is_carried = left.len() > packet.len();
        let answer = (is_translated && !is_carried).then(|| answer(&left, Flags::SYN | Flags::ACK));
        let reading = Reading::of(&packet).unwrap();
        if reading.protocol == PROTOCOL_TCP {
            let flags = reading.transport + 13;
            packet[flags] = Flags::ACK.0;
        }
        Self {
            cpu,
            packet,
            left,
            answer,
        }
    }

    /// Lets another packet arrive: of the client on the CPU that opened the flow, of the server on the other one. Says
    /// whether it went where the first one did.
    fn goes_on(&self, cpu: usize, program: &Xdp) -> bool {
        if cpu == self.cpu {
            let (action, out) = test_run(program, &self.packet);
            action == XDP_REDIRECT && way(&out) == way(&self.left)
        } else if let Some(answer) = &self.answer {
            let (action, out) = test_run(program, answer);
            action == XDP_TX && way(&out).reversed() == way(&self.packet)
        } else {
            true
        }
    }
}

/// Where a packet comes from and goes to: in a tunnel, the outer one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Way {
    protocol: u8,
    source: Vec<u8>,
    destination: Vec<u8>,
    ports: Option<[[u8; 2]; 2]>,
}

fn way(frame: &[u8]) -> Way {
    let reading = Reading::of(frame).unwrap();
    let (source, destination) = reading.source_and_destination();
    let ports = reading.has_ports().then(|| {
        let [a, b, c, d] = *reading.segment().first_chunk().unwrap();
        [[a, b], [c, d]]
    });
    Way {
        protocol: reading.protocol,
        source: source.to_vec(),
        destination: destination.to_vec(),
        ports,
    }
}

impl Way {
    fn reversed(self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            ports: self
                .ports
                .map(|[source, destination]| [destination, source]),
            ..self
        }
    }
}

/// Entries that don't know of all packets since the first one, or of what the other direction has seen.
fn miscounted<F: Family>(flows: &MappedFlows<F>) -> usize {
    let flows = checks::flows(flows);
    let flows = flows.iter().flatten();
    let wrong = flows.filter(|flow| flow.packets != ROUNDS || flow.state != State::Established);
    wrong.count()
}
