//! Loads the programs of the product's object and joins them, as the product does.
//!
//! Used by the tests and the benchmark that run the object without `lb`.

use anyhow::{Context as _, Result};
use aya::{
    Ebpf,
    maps::{MapData, ProgramArray},
    programs::Xdp,
};
use lb_ebpf::verdict::Stage;

/// Puts the program of each stage into its slot. The map must be held as long as the programs run: the kernel empties it
/// when its last user is gone.
pub fn enter(ebpf: &mut Ebpf) -> Result<ProgramArray<MapData>> {
    let mut programs = ProgramArray::try_from(ebpf.take_map("PROGRAMS").context("PROGRAMS")?)?;
    for stage in Stage::ALL {
        let name = stage.program();
        let program: &mut Xdp = ebpf.program_mut(name).context(name)?.try_into()?;
        program
            .load()
            .with_context(|| format!("the kernel refused {name}"))?;
        programs.set(*stage as u32, program.fd()?, 0)?;
    }
    Ok(programs)
}
