//! Typed access to the program's maps: one method for each thing that userspace may do to them.
//!
//! Called by `control` (write) and `admin` (read).

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd as _, AsRawFd};

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, ProgramArray, XskMap};
use aya::programs::ProgramFd;
use aya::{Ebpf, Pod};
use lb_ebpf::abi::{
    AccessKey, AccessPrefix, Backend, Interface, Service, ServiceCounters, ServiceKey, ServiceKey6,
    Settings, Vlan, VlanKey,
};
use lb_ebpf::family::{V4, V6};
use lb_ebpf::layout::FragmentKey;
use lb_ebpf::mapped::{Element, Mapped, MappedFlows, RingSlots};
use lb_ebpf::verdict::{Reason, Stage};

use super::{Dataplane, Sizing, StackFlows};

mod trial;

pub(crate) use trial::Trial;

/// A map is missing, of another type, or refused an operation.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MapAccessError {
    /// The object has no such map or program.
    #[error(
        "the XDP object has no {0:?}: it was not built from this source tree; run `cargo xtask build-ebpf`"
    )]
    Missing(&'static str),
    /// The kernel or aya refused.
    #[error("map {map}: {source}")]
    Map {
        /// Name of the map.
        map: &'static str,
        /// What was refused.
        source: MapError,
    },
    /// A map could not be mapped into our address space.
    #[error("mapping map {map}: {source}")]
    Mapping {
        /// Name of the map.
        map: &'static str,
        /// What mmap(2) said.
        source: std::io::Error,
    },
}

fn refused(map: &'static str) -> impl FnOnce(MapError) -> MapAccessError {
    move |source| MapAccessError::Map { map, source }
}

pub(super) fn take<M>(ebpf: &mut Ebpf, name: &'static str) -> Result<M, MapAccessError>
where
    M: TryFrom<Map, Error = MapError>,
{
    let map = ebpf.take_map(name).ok_or(MapAccessError::Missing(name))?;
    M::try_from(map).map_err(refused(name))
}

fn map_into_memory<T: Element>(
    ebpf: &Ebpf,
    name: &'static str,
    len: u32,
) -> Result<Mapped<T>, MapAccessError> {
    match ebpf.map(name) {
        Some(Map::Array(map)) => Mapped::new(map.fd().as_fd(), len)
            .map_err(|source| MapAccessError::Mapping { map: name, source }),
        _ => Err(MapAccessError::Missing(name)),
    }
}

/// Every map that userspace touches.
pub(super) struct Maps {
    settings: Array<MapData, Settings>,
    services: HashMap<MapData, ServiceKey, Service>,
    services6: HashMap<MapData, ServiceKey6, Service>,
    rings: Mapped<RingSlots>,
    backends: Array<MapData, Backend>,
    snat_addresses: Array<MapData, [u8; 4]>,
    snat_addresses6: Array<MapData, [u8; 16]>,
    interfaces: HashMap<MapData, u32, Interface>,
    access: LpmTrie<MapData, AccessKey, u32>,
    vlans: Array<MapData, Vlan>,
    vlan_ids: HashMap<MapData, VlanKey, u32>,
    /// Read by trials only.
    fragments: HashMap<MapData, FragmentKey<V4>, u32>,
    fragments6: HashMap<MapData, FragmentKey<V6>, u32>,
    stack_flows: StackFlows,
    prefilter: Array<MapData, u32>,
    xsks: XskMap<MapData>,
    counters: PerCpuArray<MapData, u64>,
    service_counters: PerCpuArray<MapData, ServiceCounters>,
    flows: MappedFlows,
    flows6: MappedFlows<V6>,
    /// Held, because the kernel empties it when its last user is gone.
    programs: ProgramArray<MapData>,
}

impl Maps {
    pub(super) fn take(ebpf: &mut Ebpf, sizing: Sizing) -> Result<Self, MapAccessError> {
        Ok(Self {
            flows: map_into_memory(ebpf, "FLOWS", sizing.flow_sets())?,
            flows6: map_into_memory(ebpf, "FLOWS6", sizing.flow6_sets())?,
            programs: take(ebpf, "PROGRAMS")?,
            settings: take(ebpf, "SETTINGS")?,
            services: take(ebpf, "SERVICES")?,
            services6: take(ebpf, "SERVICES6")?,
            rings: map_into_memory(ebpf, "RINGS", sizing.ring_elements())?,
            backends: take(ebpf, "BACKENDS")?,
            snat_addresses: take(ebpf, "SNAT_ADDRESSES")?,
            snat_addresses6: take(ebpf, "SNAT_ADDRESSES6")?,
            interfaces: take(ebpf, "INTERFACES")?,
            access: take(ebpf, "ACCESS")?,
            vlans: take(ebpf, "VLANS")?,
            vlan_ids: take(ebpf, "VLAN_IDS")?,
            fragments: take(ebpf, "FRAGMENTS")?,
            fragments6: take(ebpf, "FRAGMENTS6")?,
            stack_flows: StackFlows::take(ebpf)?,
            prefilter: take(ebpf, "PREFILTER")?,
            xsks: take(ebpf, "XSKS")?,
            counters: take(ebpf, "COUNTERS")?,
            service_counters: take(ebpf, "SERVICE_COUNTERS")?,
        })
    }
}

impl Maps {
    /// Makes a loaded program reachable from the others.
    pub(super) fn enter(
        &mut self,
        stage: Stage,
        program: &ProgramFd,
    ) -> Result<(), MapAccessError> {
        self.programs
            .set(stage as u32, program, 0)
            .map_err(refused("PROGRAMS"))
    }
}

/// How often the program gave one reason since it was loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReasonCount {
    /// The reason.
    pub(crate) reason: Reason,
    /// Packets, all CPUs.
    pub(crate) packets: u64,
}

fn set_all<V: Pod>(
    array: &mut Array<MapData, V>,
    name: &'static str,
    first: u32,
    values: &[V],
) -> Result<(), MapAccessError> {
    for (index, value) in (first..).zip(values) {
        array.set(index, value, 0).map_err(refused(name))?;
    }
    Ok(())
}

impl Dataplane {
    /// Writes the global settings. The program reads them for each packet.
    pub(crate) fn set_settings(&mut self, settings: &Settings) -> Result<(), MapAccessError> {
        self.maps
            .settings
            .set(0, settings, 0)
            .map_err(refused("SETTINGS"))
    }

    /// Writes the addresses that the program may use as SNAT sources, in the order of the config.
    pub(crate) fn set_snat_addresses(
        &mut self,
        addresses: &[IpAddr],
    ) -> Result<(), MapAccessError> {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for address in addresses {
            match address {
                IpAddr::V4(address) => v4.push(address.octets()),
                IpAddr::V6(address) => v6.push(address.octets()),
            }
        }
        let maps = &mut self.maps;
        set_all(&mut maps.snat_addresses, "SNAT_ADDRESSES", 0, &v4)?;
        set_all(&mut maps.snat_addresses6, "SNAT_ADDRESSES6", 0, &v6)
    }

    /// Writes the whole address prefilter.
    pub(crate) fn set_prefilter(&mut self, words: &[u32]) -> Result<(), MapAccessError> {
        set_all(&mut self.maps.prefilter, "PREFILTER", 0, words)
    }

    /// Creates or replaces one service; packets see the old or the new value, never a mixture.
    pub(crate) fn set_service(
        &mut self,
        listen: SocketAddr,
        protocol: u8,
        service: Service,
    ) -> Result<(), MapAccessError> {
        let port = listen.port().to_be_bytes();
        match listen.ip() {
            IpAddr::V4(address) => {
                let key = ServiceKey {
                    address: address.octets(),
                    port,
                    protocol,
                    zero: 0,
                };
                let services = &mut self.maps.services;
                services
                    .insert(key, service, 0)
                    .map_err(refused("SERVICES"))
            }
            IpAddr::V6(address) => {
                let key = ServiceKey6 {
                    address: address.octets(),
                    port,
                    protocol,
                    zero: 0,
                };
                let services = &mut self.maps.services6;
                services
                    .insert(key, service, 0)
                    .map_err(refused("SERVICES6"))
            }
        }
    }

    /// Writes a Maglev ring into slots that no service uses at this moment.
    pub(crate) fn write_ring(&mut self, first: u32, ring: &[u32]) {
        let slots = self.maps.rings.as_flattened();
        for (slot, &backend) in slots.iter().skip(first as usize).zip(ring) {
            slot.store(backend);
        }
    }

    /// Writes one server.
    pub(crate) fn set_backend(
        &mut self,
        index: u32,
        backend: &Backend,
    ) -> Result<(), MapAccessError> {
        self.maps
            .backends
            .set(index, backend, 0)
            .map_err(refused("BACKENDS"))
    }

    /// Adds a network to the lists of who may connect.
    pub(crate) fn add_access(&mut self, prefix: &AccessPrefix) -> Result<(), MapAccessError> {
        let key = Key::new(prefix.length, prefix.key);
        let access = &mut self.maps.access;
        access
            .insert(&key, prefix.decision, 0)
            .map_err(refused("ACCESS"))
    }

    /// Writes one VLAN.
    pub(crate) fn set_vlan(&mut self, index: u32, vlan: &Vlan) -> Result<(), MapAccessError> {
        let maps = &mut self.maps;
        maps.vlans.set(index, vlan, 0).map_err(refused("VLANS"))?;
        maps.vlan_ids
            .insert(vlan.key(), index, 0)
            .map_err(refused("VLAN_IDS"))
    }

    /// Takes a VLAN away, which was known by this key.
    pub(crate) fn clear_vlan(&mut self, index: u32, key: &VlanKey) -> Result<(), MapAccessError> {
        let maps = &mut self.maps;
        maps.vlan_ids.remove(key).map_err(refused("VLAN_IDS"))?;
        maps.vlans
            .set(index, Vlan::default(), 0)
            .map_err(refused("VLANS"))
    }

    /// Tells the program which `AF_XDP` sockets an interface has.
    pub(crate) fn set_interface(
        &mut self,
        ifindex: u32,
        interface: Interface,
    ) -> Result<(), MapAccessError> {
        self.maps
            .interfaces
            .insert(ifindex, interface, 0)
            .map_err(refused("INTERFACES"))
    }

    /// Puts an `AF_XDP` socket into its slot. The kernel empties the slot when the socket closes.
    pub(crate) fn set_xsk(
        &mut self,
        slot: u32,
        socket: &impl AsRawFd,
    ) -> Result<(), MapAccessError> {
        self.maps
            .xsks
            .set(slot, socket.as_raw_fd(), 0)
            .map_err(refused("XSKS"))
    }

    /// The flow table, as the program changes it.
    pub(crate) fn flows(&self) -> &MappedFlows {
        &self.maps.flows
    }

    /// The IPv6 flow table, as the program changes it.
    pub(crate) fn flows6(&self) -> &MappedFlows<V6> {
        &self.maps.flows6
    }

    /// A handle of the maps that say which connections live on the host's stack.
    pub(crate) fn stack_flows(&self) -> StackFlows {
        self.maps.stack_flows.clone()
    }

    /// Reads the global settings.
    pub(crate) fn settings(&self) -> Result<Settings, MapAccessError> {
        self.maps.settings.get(&0, 0).map_err(refused("SETTINGS"))
    }

    /// The maps as they are now, for decisions that change nothing.
    pub(crate) fn trial(&self) -> Result<Trial<'_>, MapAccessError> {
        Ok(Trial::new(&self.maps, self.settings()?))
    }

    /// Reads how often each reason was given.
    pub(crate) fn reasons(&self) -> Result<Vec<ReasonCount>, MapAccessError> {
        Reason::ALL
            .iter()
            .map(|&reason| {
                let per_cpu = self.maps.counters.get(&(reason as u32), 0);
                let per_cpu = per_cpu.map_err(refused("COUNTERS"))?;
                Ok(ReasonCount {
                    reason,
                    packets: per_cpu.iter().sum(),
                })
            })
            .collect()
    }

    /// Reads the counters of one service.
    pub(crate) fn service_counters(&self, id: u16) -> Result<ServiceCounters, MapAccessError> {
        let per_cpu = self.maps.service_counters.get(&u32::from(id), 0);
        let per_cpu = per_cpu.map_err(refused("SERVICE_COUNTERS"))?;
        Ok(per_cpu
            .iter()
            .fold(ServiceCounters::default(), |sum, one| ServiceCounters {
                packets: sum.packets + one.packets,
                bytes: sum.bytes + one.bytes,
                flows: sum.flows + one.flows,
                forwarded: sum.forwarded + one.forwarded,
            }))
    }
}
