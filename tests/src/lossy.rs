//! A wire that loses TCP data segments: the XDP program of `lb-ebpf/src/lossy.rs`, loaded and told how many.
//!
//! Invariant: with the same seed the same segments are lost, counted per CPU. Dropped, the wire is whole again.

use std::{env, path::PathBuf};

use anyhow::{Context as _, Result};
use aya::{
    Ebpf,
    maps::{MapData, PerCpuArray, PerCpuValues, ProgramArray},
    programs::{ProgramFd, Xdp, xdp::XdpMode},
    util::nr_cpus,
};
use lb_ebpf::loss::{LOSS_WORDS, Loss};

use crate::lab::Namespace;

/// The program on one interface.
pub struct Lossy {
    ebpf: Ebpf,
    loss: PerCpuArray<MapData, [u64; LOSS_WORDS]>,
    /// The kernel empties it when nobody holds it.
    target: ProgramArray<MapData>,
}

/// What went over the wire since [`Lossy::lose`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Data segments that came.
    pub seen: u64,
    /// Of these, those that were lost.
    pub lost: u64,
}

impl Lossy {
    /// Loads the program; it loses nothing and passes everything to the stack.
    pub fn load() -> Result<Self> {
        let object = object()?;
        let mut ebpf =
            Ebpf::load_file(&object).with_context(|| format!("loading {}", object.display()))?;
        let loss = PerCpuArray::try_from(ebpf.take_map("LOSS").context("LOSS")?)?;
        let target = ProgramArray::try_from(ebpf.take_map("TARGET").context("TARGET")?)?;
        program(&mut ebpf)?.load()?;
        Ok(Self { ebpf, loss, target })
    }

    /// Hands what isn't lost to another XDP program, which must live as long as this.
    pub fn stand_before(&mut self, next: &ProgramFd) -> Result<()> {
        Ok(self.target.set(0, next, 0)?)
    }

    /// Attaches it in native mode to an interface of the namespace.
    pub fn attach(&mut self, namespace: &Namespace, interface: &str) -> Result<()> {
        let program = program(&mut self.ebpf)?;
        namespace
            .run(|| program.attach(interface, XdpMode::Driver).map(drop))?
            .with_context(|| format!("attaching to {interface}"))
    }

    /// From now on, loses so many thousandths of the data segments.
    pub fn lose(&mut self, permille: u32, seed: u64) -> Result<()> {
        let cpus = nr_cpus().map_err(|(_, error)| error).context("CPUs")?;
        let all = (0..cpus as u64).map(|cpu| {
            // Far apart: a seed is also the place in the sequence.
            Loss::new(permille, seed.wrapping_add(cpu << 32)).words()
        });
        let values = PerCpuValues::try_from(all.collect::<Vec<_>>())?;
        Ok(self.loss.set(0, values, 0)?)
    }

    /// What went over the wire.
    pub fn traffic(&self) -> Result<Traffic> {
        let values = self.loss.get(&0, 0)?;
        let sum = |field: usize| values.iter().map(|words| words[field]).sum();
        Ok(Traffic {
            seen: sum(2),
            lost: sum(3),
        })
    }
}

fn program(ebpf: &mut Ebpf) -> Result<&mut Xdp> {
    Ok(ebpf.program_mut("lossy").context("lossy")?.try_into()?)
}

/// Built beside the product's object.
fn object() -> Result<PathBuf> {
    let product = env::var_os("LB_XDP_OBJECT").context(
        "LB_XDP_OBJECT is not set: run this by `cargo xtask`, or set it to the built object",
    )?;
    Ok(PathBuf::from(product).with_file_name("lb-lossy-xdp"))
}
