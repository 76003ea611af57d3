//! The loaded program against the pure function: same packets, same verdicts, same bytes.
//!
//! Runs the object that `cargo xtask build-ebpf` built (its path is in `LB_XDP_OBJECT`) by
//! `BPF_PROG_TEST_RUN`, which needs root but no interface. Verdicts are compared by action and by the
//! counter that rose, for two reasons may lead to the same action. Without a bound socket the kernel
//! finds no worker, and the packet meets what is decided for that.

#![expect(
    clippy::unwrap_used,
    reason = "what fails here fails the test, and the line says what it was"
)]

#[path = "prog_run/buffers.rs"]
mod buffers;
#[path = "prog_run/jumps.rs"]
mod jumps;
#[path = "prog_run/sharing.rs"]
mod sharing;

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, Map, MapData, PerCpuArray, PerCpuValues, ProgramArray, RingBuf};
use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader, Pod};
use lb_ebpf::abi::{
    AccessKey, Backend, CORE_FIRST, CORE_SPREAD, Interface, MAX_SERVICES, PREFILTER_WORDS,
    RING_SIZE, RING_SLOTS, STACK_FLOW_MOVED, Service, ServiceCounters, ServiceKey, ServiceKey6,
    Settings, StackFlowKey, StackFlowKey6, Vlan, VlanKey,
};
use lb_ebpf::decide::{WATCH_EVERY, decide_fully};
use lb_ebpf::family::{Family, V4, V6};
use lb_ebpf::fixtures::{Fixture, HostTables, INGRESS, Step, Traffic, World, all, checks};
use lb_ebpf::flow::{FlowEntry, FlowSet, FlowSnapshot, prefilter_bit, prefilter_bit6};
use lb_ebpf::layout::FragmentKey;
use lb_ebpf::mapped::{Element, Mapped, MappedFlows, RingSlots};
use lb_ebpf::verdict::{Reason, Stage, Verdict};
use lb_tests::stages;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use std::os::fd::AsFd as _;

const PROGRAM: &str = "lb_xdp";
/// `enum xdp_action`, the kernel's interface since 4.8.
const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;
const XDP_REDIRECT: u32 = 4;

/// The program in the kernel, with maps of its own.
struct Kernel {
    ebpf: Ebpf,
    /// The kernel empties it when its last user is gone.
    _programs: ProgramArray<MapData>,
    flows: MappedFlows,
    flows6: MappedFlows<V6>,
    /// Of two services: a call for each slot would take longer than all else.
    rings: Mapped<RingSlots>,
    counters: [u64; Reason::COUNT as usize],
}

impl Kernel {
    fn load(world: &World) -> Self {
        let object = std::env::var_os("LB_XDP_OBJECT").expect(
            "LB_XDP_OBJECT is not set: run `cargo xtask test`, or set it to the built object",
        );
        let sets = world.settings.flow_set_mask + 1;
        let sets6 = world.settings.flow6_set_mask + 1;
        let mut ebpf = EbpfLoader::new()
            .map_max_entries("FLOWS", sets)
            .map_max_entries("FLOWS6", sets6)
            .load_file(&object)
            .unwrap_or_else(|error| panic!("cannot load {}: {error:?}", object.display()));
        let programs = stages::enter(&mut ebpf).expect("loading needs root");
        let mut kernel = Self {
            flows: mapped(&ebpf, "FLOWS", sets),
            flows6: mapped(&ebpf, "FLOWS6", sets6),
            rings: mapped(&ebpf, "RINGS", (2 * RING_SIZE).div_ceil(RING_SLOTS)),
            ebpf,
            _programs: programs,
            counters: [0; Reason::COUNT as usize],
        };
        kernel.write(world);
        kernel
    }

    fn write(&mut self, world: &World) {
        self.array::<Settings>("SETTINGS")
            .set(0, world.settings, 0)
            .unwrap();
        for (slot, backend) in &world.rings {
            self.rings.as_flattened()[*slot as usize].store(*backend);
        }
        let mut backends = self.array("BACKENDS");
        for (index, backend) in (0..).zip(&world.backends) {
            backends.set(index, *backend, 0).unwrap();
        }
        let mut addresses = self.array::<[u8; 4]>("SNAT_ADDRESSES");
        for (index, address) in (0..).zip(&world.snat_addresses) {
            addresses.set(index, *address, 0).unwrap();
        }
        let mut addresses = self.array::<[u8; 16]>("SNAT_ADDRESSES6");
        for (index, address) in (0..).zip(&world.snat_addresses6) {
            addresses.set(index, *address, 0).unwrap();
        }
        let mut words = vec![0; PREFILTER_WORDS as usize];
        for address in &world.prefilter {
            let (index, bit) = prefilter_bit(*address);
            words[index as usize] |= bit;
        }
        for address in &world.prefilter6 {
            let (index, bit) = prefilter_bit6(*address);
            words[index as usize] |= bit;
        }
        let mut prefilter = self.array("PREFILTER");
        for (index, word) in (0..).zip(words) {
            prefilter.set(index, word, 0).unwrap();
        }
        let mut services = HashMap::try_from(self.ebpf.map_mut("SERVICES").unwrap()).unwrap();
        for (key, service) in &world.services {
            services.insert(*key, *service, 0).unwrap();
        }
        let mut services = HashMap::try_from(self.ebpf.map_mut("SERVICES6").unwrap()).unwrap();
        for (key, service) in &world.services6 {
            services.insert(*key, *service, 0).unwrap();
        }
        let mut interfaces = HashMap::try_from(self.ebpf.map_mut("INTERFACES").unwrap()).unwrap();
        for (ifindex, interface) in &world.interfaces {
            interfaces.insert(*ifindex, *interface, 0).unwrap();
        }
        let mut access = self.access();
        for prefix in &world.access {
            let key = Key::new(prefix.length, prefix.key);
            access.insert(&key, prefix.decision, 0).unwrap();
        }
        let mut vlans = self.array("VLANS");
        for (index, vlan) in (0..).zip(&world.vlans) {
            vlans.set(index, *vlan, 0).unwrap();
        }
        let mut ids = HashMap::try_from(self.ebpf.map_mut("VLAN_IDS").unwrap()).unwrap();
        for (index, vlan) in (0_u32..).zip(&world.vlans) {
            ids.insert(vlan.key(), index, 0).unwrap();
        }
        self.move_to_stack("STACK_FLOWS", &world.stack_flows);
        self.move_to_stack("STACK_FLOWS6", &world.stack_flows6);
    }

    fn move_to_stack<K: Pod>(&mut self, name: &str, keys: &[K]) {
        let mut flows = self.hash::<K>(name);
        for key in keys {
            flows.insert(key, STACK_FLOW_MOVED, 0).unwrap();
        }
    }

    /// Undoes what `world` and the packets in it have written, so that the next one needs no other program: loading takes
    /// longest of all, above all on an emulated machine. Counters go on.
    fn forget(&mut self, world: &World) {
        self.per_cpu("ANSWERS", 0_u64);
        self.per_cpu("HASTE", 0_u64);
        let mut sets = self.array::<[u64; 32]>("FLOWS");
        for index in 0..=world.settings.flow_set_mask {
            sets.set(index, [0; 32], 0).unwrap();
        }
        let mut sets = self.array::<[u64; 64]>("FLOWS6");
        for index in 0..=world.settings.flow6_set_mask {
            sets.set(index, [0; 64], 0).unwrap();
        }
        for (slot, _) in &world.rings {
            self.rings.as_flattened()[*slot as usize].store(0);
        }
        let mut backends = self.array("BACKENDS");
        for (index, _) in (0..).zip(&world.backends) {
            backends.set(index, Backend::default(), 0).unwrap();
        }
        let mut addresses = self.array::<[u8; 4]>("SNAT_ADDRESSES");
        for (index, _) in (0..).zip(&world.snat_addresses) {
            addresses.set(index, [0; 4], 0).unwrap();
        }
        let mut addresses = self.array::<[u8; 16]>("SNAT_ADDRESSES6");
        for (index, _) in (0..).zip(&world.snat_addresses6) {
            addresses.set(index, [0; 16], 0).unwrap();
        }
        let map = self.ebpf.map_mut("SERVICES").unwrap();
        let mut services = HashMap::<_, ServiceKey, Service>::try_from(map).unwrap();
        for (key, _) in &world.services {
            services.remove(key).unwrap();
        }
        let map = self.ebpf.map_mut("SERVICES6").unwrap();
        let mut services = HashMap::<_, ServiceKey6, Service>::try_from(map).unwrap();
        for (key, _) in &world.services6 {
            services.remove(key).unwrap();
        }
        let map = self.ebpf.map_mut("INTERFACES").unwrap();
        let mut interfaces = HashMap::<_, u32, Interface>::try_from(map).unwrap();
        for (ifindex, _) in &world.interfaces {
            interfaces.remove(ifindex).unwrap();
        }
        let mut access = self.access();
        for prefix in &world.access {
            access.remove(&Key::new(prefix.length, prefix.key)).unwrap();
        }
        let mut vlans = self.array("VLANS");
        for (index, _) in (0..).zip(&world.vlans) {
            vlans.set(index, Vlan::default(), 0).unwrap();
        }
        let map = self.ebpf.map_mut("VLAN_IDS").unwrap();
        let mut ids = HashMap::<_, VlanKey, u32>::try_from(map).unwrap();
        for vlan in &world.vlans {
            ids.remove(&vlan.key()).unwrap();
        }
        self.take_off::<FragmentKey<V4>>("FRAGMENTS", |_| true);
        self.take_off::<FragmentKey<V6>>("FRAGMENTS6", |_| true);
        self.take_off::<StackFlowKey>("STACK_FLOWS", |_| true);
        self.take_off::<StackFlowKey6>("STACK_FLOWS6", |_| true);
    }

    /// Takes out what has such a value, whoever has put it in.
    fn take_off<K: Pod>(&mut self, name: &str, which: impl Fn(u32) -> bool) {
        let mut map = self.hash::<K>(name);
        let elements: Vec<_> = map.iter().map(Result::unwrap).collect();
        for (key, _) in elements.iter().filter(|(_, value)| which(*value)) {
            map.remove(key).unwrap();
        }
    }

    fn hash<K: Pod>(&mut self, name: &str) -> HashMap<&mut MapData, K, u32> {
        HashMap::try_from(self.ebpf.map_mut(name).unwrap()).unwrap()
    }

    /// Writes `value` for all CPUs into the only element of a map.
    fn per_cpu<T: Pod>(&mut self, name: &str, value: T) {
        let map = self.ebpf.map_mut(name).unwrap();
        let mut map = PerCpuArray::<_, T>::try_from(map).unwrap();
        let values = vec![value; aya::util::nr_cpus().unwrap()];
        map.set(0, PerCpuValues::try_from(values).unwrap(), 0)
            .unwrap();
    }

    fn access(&mut self) -> LpmTrie<&mut MapData, AccessKey, u32> {
        LpmTrie::try_from(self.ebpf.map_mut("ACCESS").unwrap()).unwrap()
    }

    fn array<T: Pod>(&mut self, name: &str) -> Array<&mut MapData, T> {
        Array::try_from(self.ebpf.map_mut(name).unwrap()).unwrap()
    }

    fn apply(&mut self, step: &Step) {
        match *step {
            Step::Packet { .. } => {}
            Step::Tick(tick) => self.set(|settings| settings.tick = tick),
            Step::Orphaned(orphaned) => self.set(|settings| settings.orphaned = orphaned),
            Step::Free => {
                let moved = |value| value == STACK_FLOW_MOVED;
                self.take_off::<StackFlowKey>("STACK_FLOWS", moved);
                self.take_off::<StackFlowKey6>("STACK_FLOWS6", moved);
            }
            Step::Spread => self.set(|settings| {
                settings.flow_core = CORE_SPREAD;
                settings.flow6_core = CORE_SPREAD;
            }),
            Step::Ring { slot, backend } => self.rings.as_flattened()[slot as usize].store(backend),
        }
    }

    fn set(&mut self, change: impl Fn(&mut Settings)) {
        let mut map = self.array::<Settings>("SETTINGS");
        let mut settings = map.get(&0, 0).unwrap();
        change(&mut settings);
        map.set(0, settings, 0).unwrap();
    }

    fn program(&self) -> &Xdp {
        self.ebpf.program(PROGRAM).unwrap().try_into().unwrap()
    }

    /// Action, reason and resulting bytes of one packet.
    fn run(&mut self, bytes: &[u8]) -> (u32, Reason, Vec<u8>) {
        let (action, out) = test_run(self.program(), bytes);
        (action, self.risen_counter(), out)
    }

    /// The one counter that the last packet moved.
    fn risen_counter(&mut self) -> Reason {
        let map = PerCpuArray::<_, u64>::try_from(self.ebpf.map("COUNTERS").unwrap()).unwrap();
        let mut risen = vec![];
        for (reason, last) in Reason::ALL.iter().zip(&mut self.counters) {
            let now = map.get(&(*reason as u32), 0).unwrap().iter().sum();
            if now != *last {
                assert_eq!(now, *last + 1, "{}", reason.name());
                risen.push(*reason);
                *last = now;
            }
        }
        assert_eq!(risen.len(), 1, "every packet has one reason, not {risen:?}");
        risen[0]
    }

    fn service_counters(&self, service: u8) -> ServiceCounters {
        let map = self.ebpf.map("SERVICE_COUNTERS").unwrap();
        let map = PerCpuArray::<_, ServiceCounters>::try_from(map).unwrap();
        let mut total = ServiceCounters::default();
        for counters in map.get(&u32::from(service), 0).unwrap().iter() {
            total.packets += counters.packets;
            total.bytes += counters.bytes;
            total.flows += counters.flows;
            total.forwarded += counters.forwarded;
        }
        total
    }
}

/// Action and resulting bytes of one packet.
fn test_run(program: &Xdp, bytes: &[u8]) -> (u32, Vec<u8>) {
    let mut out = vec![0; bytes.len() + 64];
    let result = program
        .test_run(TestRunOptions {
            data_in: Some(bytes),
            data_out: Some(&mut out),
            ..TestRunOptions::default()
        })
        .unwrap();
    out.truncate(result.data_size_out as usize);
    (result.return_value, out)
}

fn mapped<T: Element>(ebpf: &Ebpf, name: &str, len: u32) -> Mapped<T> {
    let Some(Map::Array(map)) = ebpf.map(name) else {
        panic!("{name} is no array");
    };
    Mapped::new(map.fd().as_fd(), len).unwrap()
}

fn snapshots<F: Family>(flows: &[FlowSet<F>]) -> Vec<Option<FlowSnapshot<F>>> {
    let entries = flows.iter().flat_map(FlowSet::entries);
    entries.map(FlowEntry::snapshot).collect()
}

fn action(verdict: Verdict) -> u32 {
    match verdict.without_worker() {
        Verdict::Pass(_) | Verdict::Continue(_) => XDP_PASS,
        Verdict::Drop(_) | Verdict::Worker { .. } => XDP_DROP,
        Verdict::Transmit | Verdict::Answer(_) => XDP_TX,
        Verdict::Redirect { .. } => XDP_REDIRECT,
    }
}

/// The CPU has a part in the choice of source ports.
fn pin(cpu: usize) {
    let mut cpus = CpuSet::new();
    cpus.set(cpu).unwrap();
    sched_setaffinity(Pid::from_raw(0), &cpus).unwrap();
}

#[test]
fn fixtures_give_the_same_in_the_kernel() {
    pin(INGRESS.cpu as usize);
    let fixtures = all();
    // Tables that hold the largest of them all.
    let mut largest = fixtures[0].world.clone();
    for Fixture { world, .. } in &fixtures {
        let settings = &mut largest.settings;
        settings.flow_set_mask = settings.flow_set_mask.max(world.settings.flow_set_mask);
        settings.flow6_set_mask = settings.flow6_set_mask.max(world.settings.flow6_set_mask);
    }
    let mut kernel = Kernel::load(&largest);
    kernel.forget(&largest);
    for fixture in fixtures {
        kernel.write(&fixture.world);
        for (index, step) in fixture.steps.iter().enumerate() {
            let Step::Packet {
                bytes,
                verdict,
                expected,
            } = step
            else {
                kernel.apply(step);
                continue;
            };
            let (got, reason, out) = kernel.run(bytes);
            let place = format!("{}, step {index}", fixture.name);
            assert_eq!(reason, verdict.without_worker().reason(), "{place}");
            assert_eq!(got, action(*verdict), "{place}");
            assert_eq!(out, *expected, "{place}");
        }
        kernel.forget(&fixture.world);
    }
}

#[test]
fn random_traffic_gives_the_same_in_the_kernel() {
    pin(INGRESS.cpu as usize);
    for seed in 1..=3 {
        let mut traffic = Traffic::new(seed);
        let mut world = traffic.world();
        if seed == 3 {
            // It fills the core, and then flows lie everywhere.
            world.settings.flow_core = CORE_FIRST;
            world.settings.flow6_core = CORE_FIRST;
        }
        let mut kernel = Kernel::load(&world);
        let mut host = HostTables::new(&world);
        for number in 0..4000 {
            if seed == 3 && number == 400 {
                kernel.apply(&Step::Spread);
                host.apply(&Step::Spread);
            }
            let packet = traffic.packet();
            let mut bytes = packet.clone();
            let verdict = decide_fully(&mut bytes, &host, INGRESS);
            let (got, reason, out) = kernel.run(&packet);
            let place = format!("seed {seed}, packet {number}: {packet:02x?}");
            assert_eq!(
                (got, reason),
                (action(verdict), verdict.without_worker().reason()),
                "{place}"
            );
            assert_eq!(out, bytes, "{place}");
            checks::packet(&packet, &out, verdict);
            if reason == Reason::Forwarded {
                traffic.deliver(&bytes);
            }
        }
        for id in 0..MAX_SERVICES {
            let id = u8::try_from(id).unwrap();
            let (kernel, host) = (kernel.service_counters(id), host.service_counters(id));
            assert_eq!(kernel, host, "service {id}");
        }
        assert_eq!(snapshots(&kernel.flows), snapshots(host.flows()));
        assert_eq!(snapshots(&kernel.flows6), snapshots(host.flows6()));
    }
}

/// The program looks at the clock for one packet in [`WATCH_EVERY`], and finds userspace gone if it has not moved
/// `alive_until` ahead. What is passed then is passed until userspace writes its settings again.
#[test]
fn the_program_finds_out_that_userspace_is_gone() {
    pin(INGRESS.cpu as usize);
    let fixtures = all();
    let named = |fixture: &&Fixture| fixture.name == "orphaned: left to the stack";
    let fixture = fixtures.iter().find(named).unwrap();
    let mut packets = fixture.steps.iter().filter_map(|step| match step {
        Step::Packet { bytes, .. } => Some(bytes),
        _ => None,
    });
    let packet = packets.next().unwrap();
    let mut kernel = Kernel::load(&fixture.world);
    kernel.set(|settings| settings.alive_until = u64::MAX);
    let reasons = |kernel: &mut Kernel, count: u64| -> Vec<Reason> {
        let runs = 0..count;
        let mut reasons: Vec<_> = runs.map(|_| kernel.run(packet).1).collect();
        reasons.dedup();
        reasons
    };
    assert_eq!(reasons(&mut kernel, 2 * WATCH_EVERY), [Reason::Forwarded]);
    kernel.set(|settings| settings.alive_until = 1);
    assert_eq!(reasons(&mut kernel, WATCH_EVERY), [Reason::Forwarded]);
    assert_eq!(reasons(&mut kernel, 2), [Reason::Orphaned]);
    kernel.set(|settings| (settings.orphaned, settings.alive_until) = (0, u64::MAX));
    assert_eq!(reasons(&mut kernel, 2 * WATCH_EVERY), [Reason::Forwarded]);
    kernel.set(|settings| settings.alive_until = 0);
    assert_eq!(reasons(&mut kernel, 2 * WATCH_EVERY), [Reason::Forwarded]);
}

/// The verifier gives up after a million instructions, and takes long before: a tenth leaves room for other kernels.
#[test]
fn each_program_is_small_for_the_verifier() {
    let kernel = Kernel::load(&all()[0].world);
    for name in Stage::ALL.iter().map(|stage| stage.program()) {
        let program: &Xdp = kernel.ebpf.program(name).unwrap().try_into().unwrap();
        let info = program.info().unwrap();
        let verified = info.verified_instruction_count().unwrap();
        println!("{name}: {verified} instructions verified");
        assert!(verified <= 100_000, "{name}: {verified}");
    }
}

/// Rare events are logged the 1st, 2nd, 4th … time, in records that aya-log reads.
#[test]
fn a_packet_without_a_worker_is_logged_now_and_then() {
    pin(INGRESS.cpu as usize);
    let fixtures = all();
    let named = |fixture: &&Fixture| fixture.name == "worker without queues";
    let fixture = fixtures.iter().find(named).unwrap();
    let Some(Step::Packet { bytes, .. }) = fixture.steps.first() else {
        panic!("it starts with a packet");
    };
    let mut kernel = Kernel::load(&fixture.world);
    let logged: Vec<_> = (1..=8)
        .filter(|_| {
            kernel.run(bytes);
            let mut records = RingBuf::try_from(kernel.ebpf.map_mut("AYA_LOGS").unwrap()).unwrap();
            let record = records.next();
            record.is_some_and(|record| {
                let text = String::from_utf8_lossy(&record);
                text.contains("no worker for this queue")
            })
        })
        .collect();
    assert_eq!(logged, [1, 2, 4, 8]);
}
