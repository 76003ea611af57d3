//! The product's program in the kernel, as `cargo xtask build-ebpf` built it, with maps of its own.
//!
//! Invariant: the object is not changed; only the sizes that userspace sets as well are set. Not here: who runs it
//! (`wrapper`), and on what (`rows`).

use std::{env, os::fd::AsFd as _, path::PathBuf};

use anyhow::{Context as _, Result};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap, Map, MapData, PerCpuArray, PerCpuValues, ProgramArray},
    programs::{ProgramFd, Xdp},
};
use lb_ebpf::{
    abi::{PREFILTER_WORDS, Settings},
    decide::Answers,
    fixtures::World,
    flow::{prefilter_bit, prefilter_bit6},
    mapped::{Mapped, RingSlots},
    verdict::Reason,
};

use crate::stages;

/// A loaded program and its maps.
pub(super) struct Kernel {
    ebpf: Ebpf,
    /// The kernel empties it when its last user is gone.
    _programs: ProgramArray<MapData>,
}

/// How often each verdict was given, by [`Reason`].
pub(super) type Counts = [u64; Reason::COUNT as usize];

impl Kernel {
    /// Loads the program and tells it of `world`. Needs root.
    pub(super) fn load(world: &World) -> Result<Self> {
        let object = object()?;
        let mut ebpf = EbpfLoader::new()
            .map_max_entries("FLOWS", world.settings.flow_set_mask + 1)
            .map_max_entries("FLOWS6", world.settings.flow6_set_mask + 1)
            .load_file(&object)
            .with_context(|| format!("loading {}", object.display()))?;
        let programs = stages::enter(&mut ebpf).context("loading the programs")?;
        let mut kernel = Self {
            ebpf,
            _programs: programs,
        };
        kernel
            .write(world)
            .context("writing the program's settings")?;
        Ok(kernel)
    }

    fn write(&mut self, world: &World) -> Result<()> {
        self.write_rings(world)?;
        let mut backends = self.array("BACKENDS")?;
        for (index, backend) in (0..).zip(&world.backends) {
            backends.set(index, *backend, 0)?;
        }
        let mut addresses = self.array::<[u8; 4]>("SNAT_ADDRESSES")?;
        for (index, address) in (0..).zip(&world.snat_addresses) {
            addresses.set(index, *address, 0)?;
        }
        let mut addresses = self.array::<[u8; 16]>("SNAT_ADDRESSES6")?;
        for (index, address) in (0..).zip(&world.snat_addresses6) {
            addresses.set(index, *address, 0)?;
        }
        let mut words = [0; PREFILTER_WORDS as usize];
        let bits = world.prefilter.iter().copied().map(prefilter_bit);
        let bits6 = world.prefilter6.iter().copied().map(prefilter_bit6);
        for (index, bit) in bits.chain(bits6) {
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
        let services = self.ebpf.map_mut("SERVICES6").context("SERVICES6")?;
        let mut services = HashMap::try_from(services)?;
        for (key, service) in &world.services6 {
            services.insert(*key, *service, 0)?;
        }
        self.spend_answers(world.settings.tick)?;
        self.array::<Settings>("SETTINGS")?
            .set(0, world.settings, 0)?;
        Ok(())
    }

    /// Mapped, because a call for each slot would take longer than all else.
    fn write_rings(&self, world: &World) -> Result<()> {
        let Map::Array(map) = self.ebpf.map("RINGS").context("RINGS")? else {
            anyhow::bail!("RINGS is no array");
        };
        let rings = Mapped::<RingSlots>::new(map.fd().as_fd(), map.info()?.max_entries())?;
        for (slot, backend) in &world.rings {
            let slot = rings.as_flattened().get(*slot as usize);
            slot.context("a slot of no ring")?.store(*backend);
        }
        Ok(())
    }

    /// Has no client be answered in this tick, which here never ends: a client that is refused now and then would get its
    /// frame back as an ICMP message, and the test run would go on with that.
    fn spend_answers(&mut self, tick: u32) -> Result<()> {
        let map = self.ebpf.map_mut("ANSWERS").context("ANSWERS")?;
        let mut answers = PerCpuArray::<_, [u32; 2]>::try_from(map)?;
        let cpus =
            aya::util::nr_cpus().map_err(|(file, error)| anyhow::anyhow!("{file}: {error}"))?;
        answers.set(
            0,
            PerCpuValues::try_from(vec![[tick, Answers::PER_TICK]; cpus])?,
            0,
        )?;
        Ok(())
    }

    fn array<T: aya::Pod>(&mut self, name: &str) -> Result<Array<&mut MapData, T>> {
        let map = self.ebpf.map_mut(name);
        Ok(Array::try_from(map.with_context(|| name.to_owned())?)?)
    }

    /// The program under test: where every packet enters.
    pub(super) fn program(&self) -> Result<&ProgramFd> {
        let program: &Xdp = self.ebpf.program(PROGRAM).context(PROGRAM)?.try_into()?;
        Ok(program.fd()?)
    }

    /// Instructions that the verifier walked in each program; the kernel says so from 5.16.
    pub(super) fn verified_instructions(&self) -> Result<Vec<(String, u32)>> {
        let mut all = Vec::new();
        for (name, program) in self.ebpf.programs() {
            let program: &Xdp = program.try_into()?;
            if let Some(instructions) = program.info()?.verified_instruction_count() {
                all.push((name.to_owned(), instructions));
            }
        }
        all.sort();
        Ok(all)
    }

    /// Memory that the map takes, in bytes.
    pub(super) fn bytes(&self, map: &str) -> Result<u64> {
        let Map::Array(data) = self.ebpf.map(map).context("no such map")? else {
            anyhow::bail!("{map} is no array");
        };
        let info = data.info()?;
        Ok(u64::from(info.value_size()) * u64::from(info.max_entries()))
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
