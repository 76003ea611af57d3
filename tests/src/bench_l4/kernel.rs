//! The product's program in the kernel, as `cargo xtask build-ebpf` built it, with maps of its own.
//!
//! Invariant: the object is not changed; only the sizes that userspace sets as well are set. Not here: who runs it
//! (`wrapper`), and on what (`rows`).

use std::{env, os::fd::AsFd as _, path::PathBuf};

use anyhow::{Context as _, Result};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap, Map, MapData, PerCpuArray, ProgramArray},
    programs::{ProgramFd, Xdp},
};
use lb_ebpf::{
    abi::{PREFILTER_WORDS, Settings},
    fixtures::World,
    flow::{FlowSet, prefilter_bit},
    mapped::MappedFlows,
    verdict::Reason,
};

use crate::stages;

/// A loaded program and its maps.
pub(super) struct Kernel {
    ebpf: Ebpf,
    /// The kernel empties it when its last user is gone.
    _programs: ProgramArray<MapData>,
    flows: MappedFlows,
}

/// How often each verdict was given, by [`Reason`].
pub(super) type Counts = [u64; Reason::COUNT as usize];

impl Kernel {
    /// Loads the program and tells it of `world`. Needs root.
    pub(super) fn load(world: &World) -> Result<Self> {
        let object = object()?;
        let sets = world.settings.flow_set_mask + 1;
        let mut ebpf = EbpfLoader::new()
            .map_max_entries("FLOWS", sets)
            .map_max_entries("FLOWS6", world.settings.flow6_set_mask + 1)
            .load_file(&object)
            .with_context(|| format!("loading {}", object.display()))?;
        let programs = stages::enter(&mut ebpf).context("loading the programs")?;
        let Some(Map::Array(flows)) = ebpf.map("FLOWS") else {
            anyhow::bail!("the object has no array FLOWS");
        };
        let flows = MappedFlows::new(flows.fd().as_fd(), sets).context("mapping FLOWS")?;
        let mut kernel = Self {
            ebpf,
            _programs: programs,
            flows,
        };
        kernel
            .write(world)
            .context("writing the program's settings")?;
        Ok(kernel)
    }

    fn write(&mut self, world: &World) -> Result<()> {
        let mut rings = self.array("RINGS")?;
        for (slot, backend) in &world.rings {
            rings.set(*slot, *backend, 0)?;
        }
        let mut backends = self.array("BACKENDS")?;
        for (index, backend) in (0..).zip(&world.backends) {
            backends.set(index, *backend, 0)?;
        }
        let mut addresses = self.array::<[u8; 4]>("SNAT_ADDRESSES")?;
        for (index, address) in (0..).zip(&world.snat_addresses) {
            addresses.set(index, *address, 0)?;
        }
        let mut words = [0; PREFILTER_WORDS as usize];
        for address in &world.prefilter {
            let (index, bit) = prefilter_bit(*address);
            words[index as usize] |= bit;
        }
        let mut prefilter = self.array("PREFILTER")?;
        for (index, word) in (0..).zip(words) {
            prefilter.set(index, word, 0)?;
        }
        let services = self.ebpf.map_mut("SERVICES").context("SERVICES")?;
        let mut services = HashMap::try_from(services)?;
        for (key, service) in &world.services {
            services.insert(*key, *service, 0)?;
        }
        self.array::<Settings>("SETTINGS")?
            .set(0, world.settings, 0)?;
        Ok(())
    }

    fn array<T: aya::Pod>(&mut self, name: &str) -> Result<Array<&mut MapData, T>> {
        let map = self.ebpf.map_mut(name);
        Ok(Array::try_from(map.with_context(|| name.to_owned())?)?)
    }

    fn xdp(&self) -> Result<&Xdp> {
        Ok(self.ebpf.program(PROGRAM).context(PROGRAM)?.try_into()?)
    }

    /// The program under test.
    pub(super) fn program(&self) -> Result<&ProgramFd> {
        Ok(self.xdp()?.fd()?)
    }

    /// Instructions that the verifier walked; the kernel says so from 5.16.
    pub(super) fn verified_instructions(&self) -> Result<Option<u32>> {
        Ok(self.xdp()?.info()?.verified_instruction_count())
    }

    /// Verdicts so far.
    pub(super) fn counts(&self) -> Result<Counts> {
        let map = self.ebpf.map("COUNTERS").context("COUNTERS")?;
        let map = PerCpuArray::<_, u64>::try_from(map)?;
        let mut counts = [0; Reason::COUNT as usize];
        for (index, count) in (0..).zip(&mut counts) {
            *count = map.get(&index, 0)?.iter().sum();
        }
        Ok(counts)
    }

    /// The flow table.
    pub(super) fn flows(&self) -> &[FlowSet] {
        &self.flows
    }
}

/// The product's object: `LB_XDP_OBJECT`, which `cargo xtask` sets.
fn object() -> Result<PathBuf> {
    env::var_os("LB_XDP_OBJECT")
        .map(PathBuf::from)
        .context("LB_XDP_OBJECT is not set: run this by `cargo xtask bench l4`, or set it to the built object")
}

/// The benchmark's own programs, which are built beside it.
pub(super) fn bench_object() -> Result<PathBuf> {
    let path = object()?.with_file_name("lb-bench-xdp");
    anyhow::ensure!(
        path.is_file(),
        "{} doesn't exist: run `cargo xtask build-ebpf`",
        path.display()
    );
    Ok(path)
}

const PROGRAM: &str = "lb_xdp";
