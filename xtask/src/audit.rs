//! The audit of the XDP object: what makes an object unloadable, found before a kernel is asked.
//!
//! A panic that can be reached links without a complaint, and the kernel's loader then reports only
//! that some function is not supported; here the finding names the function. Objects that pass are
//! also loaded once by stock bpftool, so that operators can inspect and dump ours with their tools.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Command};

use anyhow::{Context as _, Result, bail};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, SectionKind};

use crate::command;

/// The kernel's BPF file system, where pins live.
const BPFFS: &str = "/sys/fs/bpf";

/// Name of the audit's pin directories, before the process id.
const PIN_PREFIX: &str = "lb-audit-";

/// What a BPF loader needs: type information, line information, map definitions, the licence.
const NEEDED_SECTIONS: [&str; 4] = [".BTF", ".BTF.ext", ".maps", "license"];

/// Bytes of one BPF instruction slot.
const SLOT: u64 = 8;

/// What the audit looks at.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    sections: Vec<String>,
    symbols: Vec<String>,
    bytes: u64,
    code_bytes: u64,
}

/// A reason not to use the object.
#[derive(Debug, PartialEq, Eq)]
enum Finding {
    NoSection(&'static str),
    LegacyMaps,
    Panic(String),
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSection(name) => write!(
                f,
                "section `{name}` is missing; expected all of {}",
                NEEDED_SECTIONS.join(", ")
            ),
            Self::LegacyMaps => f.write_str(
                "section `maps` holds legacy map definitions, which libbpf 1.0 and later refuse; \
                 declare the maps with #[btf_map]",
            ),
            Self::Panic(symbol) => write!(
                f,
                "`{symbol}` can be reached, and no BPF program can panic; replace the indexing, \
                 division or unwrap that calls it by a checked form"
            ),
        }
    }
}

impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} bytes, {} instruction slots",
            self.bytes,
            self.code_bytes / SLOT
        )
    }
}

/// Audits the object at `path`: its ELF tables, then (as root) a load by stock bpftool.
///
/// # Errors
/// All findings at once, or bpftool's refusal.
pub(crate) fn run(path: &Path) -> Result<Facts> {
    let facts = read(path)?;
    let findings: Vec<String> = findings(&facts).iter().map(Finding::to_string).collect();
    if !findings.is_empty() {
        bail!(
            "the audit of {} found:\n  {}",
            path.display(),
            findings.join("\n  ")
        );
    }
    if command::is_root() {
        load(path)?;
    } else {
        println!("not root: the object was not loaded into this kernel");
    }
    Ok(facts)
}

fn read(path: &Path) -> Result<Facts> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let file = object::File::parse(&*bytes)
        .with_context(|| format!("{} is not an ELF object", path.display()))?;
    let mut facts = Facts {
        bytes: bytes.len() as u64,
        ..Facts::default()
    };
    for section in file.sections() {
        facts.sections.push(section.name()?.to_owned());
        if section.kind() == SectionKind::Text {
            facts.code_bytes += section.size();
        }
    }
    for symbol in file.symbols() {
        facts.symbols.push(symbol.name()?.to_owned());
    }
    Ok(facts)
}

fn findings(facts: &Facts) -> Vec<Finding> {
    let has = |name: &str| facts.sections.iter().any(|section| section == name);
    let missing = NEEDED_SECTIONS
        .into_iter()
        .filter(|name| !has(name))
        .map(Finding::NoSection);
    let legacy = has("maps").then_some(Finding::LegacyMaps);
    // Both of rustc's manglings keep the module's name, `core::panicking`, in clear.
    let panics = facts
        .symbols
        .iter()
        .filter(|symbol| symbol.contains("panicking"));
    let panics = panics.map(|symbol| Finding::Panic(symbol.clone()));
    missing.chain(legacy).chain(panics).collect()
}

/// A pin directory that is removed with what is in it.
struct Pins(PathBuf);

impl Drop for Pins {
    fn drop(&mut self) {
        // The programs are freed with their last pin. A failure leaves what the next run sweeps.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn load(path: &Path) -> Result<()> {
    mount_bpffs()?;
    sweep();
    let bpftool = command::find("bpftool")
        .context("bpftool is missing, which loads the object: run `cargo xtask setup`")?;
    let pins = Pins(Path::new(BPFFS).join(format!("{PIN_PREFIX}{}", process::id())));
    let mut load = Command::new(bpftool);
    load.args(["prog", "loadall"])
        .arg(path)
        .arg(&pins.0)
        .args(["type", "xdp"]);
    command::run(&mut load)
}

fn mount_bpffs() -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("cannot read the mount table")?;
    let mounted = |line: &str| line.split(' ').skip(1).take(2).eq([BPFFS, "bpf"]);
    if mounts.lines().any(mounted) {
        return Ok(());
    }
    command::run(Command::new("mount").args(["-t", "bpf", "bpf", BPFFS]))
}

/// Removes the pins of audits that were killed: their names hold process ids that are gone.
fn sweep() {
    let Ok(entries) = fs::read_dir(BPFFS) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(PIN_PREFIX));
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            drop(Pins(entry.path()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: [&str; 6] = [".text", "xdp", ".BTF", ".BTF.ext", ".maps", "license"];

    #[track_caller]
    fn check(sections: &[&str], symbols: &[&str], expected: &[Finding]) {
        let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        let facts = Facts {
            sections: owned(sections),
            symbols: owned(symbols),
            ..Facts::default()
        };
        assert_eq!(findings(&facts), expected);
    }

    #[test]
    fn a_good_object_has_no_findings() {
        check(&GOOD, &["lb_xdp", "FLOWS", "memcpy"], &[]);
    }

    #[test]
    fn each_missing_section_is_found() {
        for missing in NEEDED_SECTIONS {
            let rest: Vec<&str> = GOOD.into_iter().filter(|name| *name != missing).collect();
            check(&rest, &[], &[Finding::NoSection(missing)]);
        }
    }

    #[test]
    fn legacy_maps_are_found() {
        check(
            &[&GOOD[..], &["maps"]].concat(),
            &[],
            &[Finding::LegacyMaps],
        );
    }

    #[test]
    fn panics_are_found_under_both_manglings() {
        for symbol in [
            "_ZN4core9panicking18panic_bounds_check17h0123456789abcdefE",
            "_RNvNtCs7abc_4core9panicking9panic_fmt",
        ] {
            check(
                &GOOD,
                &["lb_xdp", symbol],
                &[Finding::Panic(symbol.to_owned())],
            );
        }
    }

    #[test]
    fn an_executable_of_the_host_is_read_but_refused() {
        let facts = read(&std::env::current_exe().unwrap()).unwrap();
        // Notes are some hundred bytes; the code of a Rust program is not that small.
        assert!((50_000..facts.bytes).contains(&facts.code_bytes), "{facts}");
        assert!(findings(&facts).contains(&Finding::NoSection(".BTF.ext")));
    }
}
