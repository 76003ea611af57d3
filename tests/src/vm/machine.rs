//! A virtual machine from inside: file systems, kernel modules, and its end.
//!
//! Invariant: only ever used by the first process of a machine that was made for it, whose file system is the
//! kernel's initial one. Not here: which modules there are (xtask puts them into `/modules` in the order in which
//! they can be loaded).

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use nix::{
    kmod::{ModuleInitFlags, finit_module},
    mount::{MsFlags, mount},
    sys::reboot::{RebootMode, reboot},
};

/// File system type and where it belongs.
const MOUNTS: [(&str, &str); 6] = [
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("devtmpfs", "/dev"),
    ("bpf", "/sys/fs/bpf"),
    ("tmpfs", "/run"),
    ("tmpfs", "/tmp"),
];

/// Mounts what programs expect and loads the modules.
pub fn bring_up() -> Result<()> {
    for (kind, place) in MOUNTS {
        fs::create_dir_all(place).with_context(|| format!("making {place}"))?;
        mount(
            Some(kind),
            place,
            Some(kind),
            MsFlags::empty(),
            None::<&Path>,
        )
        .with_context(|| format!("mounting {place}"))?;
    }
    let entries = fs::read_dir("/modules").context("reading /modules")?;
    let mut modules = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<PathBuf>>>()?;
    modules.sort();
    for module in modules {
        let file = File::open(&module).with_context(|| format!("opening {}", module.display()))?;
        finit_module(&file, c"", ModuleInitFlags::empty())
            .with_context(|| format!("loading {}", module.display()))?;
    }
    Ok(())
}

/// Ends the machine: it is started so that a reset ends the emulator.
pub fn reset() -> Result<()> {
    match reboot(RebootMode::RB_AUTOBOOT).context("resetting the machine")? {}
}
