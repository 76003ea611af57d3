//! The maps. Their table (who writes what, when, how long it lives) is in `lb-ebpf/ARCHITECTURE.md`.
//!
//! BTF definitions, so that stock `bpftool` loads and dumps them. Sizes marked "resized" are what a
//! test needs; userspace sets the real ones before it loads.

use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::btf_maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, ProgramArray, XskMap};
use aya_ebpf::macros::btf_map;
use lb_ebpf::abi::{
    AccessKey, BACKEND_IDS, Backend, Interface, MAX_FRAGMENTED, MAX_INTERFACES, MAX_PREFIXES,
    MAX_SERVICES, MAX_SNAT_ADDRESSES, MAX_STACK_FLOWS, MAX_VLANS, MAX_XSKS, PREFILTER_WORDS,
    RING_SIZE, RING_SLOTS, SERVICE_IDS, Service, ServiceCounters, ServiceKey, ServiceKey6,
    Settings, StackFlowKey, StackFlowKey6, Vlan, VlanKey,
};
use lb_ebpf::decide::{Answers, Haste};
use lb_ebpf::family::{V4, V6};
use lb_ebpf::flow::FlowSet;
use lb_ebpf::layout::{FragmentKey, Handover};
use lb_ebpf::rewrite::Rewrite;
use lb_ebpf::verdict::{Reason, Stage};

#[btf_map]
pub(super) static SETTINGS: Array<Settings, 1> = Array::new();

#[btf_map]
pub(super) static SERVICES: HashMap<ServiceKey, Service, { MAX_SERVICES as usize }> =
    HashMap::new();

#[btf_map]
pub(super) static SERVICES6: HashMap<ServiceKey6, Service, { MAX_SERVICES as usize }> =
    HashMap::new();

/// Resized: two rings for each service. Mappable, because userspace writes 65,537 slots at a time.
#[btf_map]
pub(super) static RINGS: Array<
    [u16; RING_SLOTS as usize],
    { (2 * RING_SIZE).div_ceil(RING_SLOTS) as usize },
    { BPF_F_MMAPABLE as usize },
> = Array::new();

#[btf_map]
pub(super) static BACKENDS: Array<Backend, { BACKEND_IDS as usize }> = Array::new();

#[btf_map]
pub(super) static SNAT_ADDRESSES: Array<[u8; 4], { MAX_SNAT_ADDRESSES as usize }> = Array::new();

#[btf_map]
pub(super) static SNAT_ADDRESSES6: Array<[u8; 16], { MAX_SNAT_ADDRESSES as usize }> = Array::new();

#[btf_map]
pub(super) static INTERFACES: HashMap<u32, Interface, { MAX_INTERFACES as usize }> = HashMap::new();

/// The kernel makes room as elements come.
#[btf_map]
pub(super) static ACCESS: LpmTrie<AccessKey, u32, { MAX_PREFIXES as usize }> = LpmTrie::new();

#[btf_map]
pub(super) static VLANS: Array<Vlan, { MAX_VLANS as usize }> = Array::new();

#[btf_map]
pub(super) static VLAN_IDS: HashMap<VlanKey, u32, { MAX_VLANS as usize }> = HashMap::new();

/// The kernel's own table will do for what is rare; it forgets the least recently used by itself.
#[btf_map]
pub(super) static FRAGMENTS: LruHashMap<FragmentKey<V4>, u32, { MAX_FRAGMENTED as usize }> =
    LruHashMap::new();

/// As `FRAGMENTS`.
#[btf_map]
pub(super) static FRAGMENTS6: LruHashMap<FragmentKey<V6>, u32, { MAX_FRAGMENTED as usize }> =
    LruHashMap::new();

/// What is forgotten here goes to a worker, who gives it back to the stack.
#[btf_map]
pub(super) static STACK_FLOWS: LruHashMap<StackFlowKey, u32, { MAX_STACK_FLOWS as usize }> =
    LruHashMap::new();

/// As `STACK_FLOWS`.
#[btf_map]
pub(super) static STACK_FLOWS6: LruHashMap<StackFlowKey6, u32, { MAX_STACK_FLOWS as usize }> =
    LruHashMap::new();

#[btf_map]
pub(super) static PREFILTER: Array<u32, { PREFILTER_WORDS as usize }> = Array::new();

#[btf_map]
pub(super) static XSKS: XskMap<{ MAX_XSKS as usize }> = XskMap::new();

/// Resized. Mappable not only for userspace: elements of a plain array start 56 bytes into a cache
/// line, so that each entry would straddle two; a mappable one starts on a page.
#[btf_map]
pub(super) static FLOWS: Array<FlowSet, 1024, { BPF_F_MMAPABLE as usize }> = Array::new();

/// As `FLOWS`.
#[btf_map]
pub(super) static FLOWS6: Array<FlowSet<V6>, 1024, { BPF_F_MMAPABLE as usize }> = Array::new();

/// The other programs of this object, each in the slot of its [`Stage`].
#[btf_map]
pub(super) static PROGRAMS: ProgramArray<{ Stage::ALL.len() }> = ProgramArray::new();

#[btf_map]
pub(super) static HANDOVER: PerCpuArray<Handover, 1> = PerCpuArray::new();

#[btf_map]
pub(super) static REWRITE: PerCpuArray<Rewrite<V4>, 1> = PerCpuArray::new();

#[btf_map]
pub(super) static REWRITE6: PerCpuArray<Rewrite<V6>, 1> = PerCpuArray::new();

#[btf_map]
pub(super) static ANSWERS: PerCpuArray<Answers, 1> = PerCpuArray::new();

#[btf_map]
pub(super) static HASTE: PerCpuArray<Haste, 1> = PerCpuArray::new();

#[btf_map]
pub(super) static COUNTERS: PerCpuArray<u64, { Reason::COUNT as usize }> = PerCpuArray::new();

#[btf_map]
pub(super) static SERVICE_COUNTERS: PerCpuArray<ServiceCounters, { SERVICE_IDS as usize }> =
    PerCpuArray::new();
