//! A kernel of Debian's for cloud machines: its newest package of a series, image and needed modules.
//!
//! The cloud flavour is a third of the size of the general one and has all that a virtual machine has.
//! Not here: fetching (`package`); loading the modules (`lb_tests::vm::machine`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use object::{Object as _, ObjectSection as _};

use super::package;
use crate::command;

/// What the lab and the machine's network cards are made of.
const MODULES: [&str; 5] = ["veth", "bridge", "8021q", "virtio_pci", "virtio_net"];

/// A kernel and its modules in the order in which they can be loaded.
pub(super) struct Kernel {
    /// The file to boot.
    pub(super) image: PathBuf,
    /// None of them is needed by an earlier one.
    pub(super) modules: Vec<Module>,
}

/// A kernel module.
pub(super) struct Module {
    /// As the kernel has it, with underscores.
    pub(super) name: String,
    /// The object file.
    pub(super) bytes: Vec<u8>,
}

/// The newest kernel of a series such as `6.1`.
///
/// # Errors
/// The sources of this host's apt have none, or it could not be fetched or read.
pub(super) fn fetch(series: &str) -> Result<Kernel> {
    let list = command::probe(Command::new("apt-cache").args([
        "search",
        "--names-only",
        "^linux-image-.*-cloud-amd64$",
    ]));
    let list = list.context("`apt-cache search` fails: is this Debian?")?;
    let package = newest(series, &list).with_context(|| {
        format!(
            "apt knows no package linux-image-{series}.*-cloud-amd64: Debian 12 with its security \
             updates has it; `apt-get update` as root brings fresh package lists"
        )
    })?;
    let tree = package::unpacked(package)?;
    let release = package.trim_start_matches(PREFIX);
    let mut loader = Loader::open(&tree.join("lib/modules").join(release))?;
    for name in MODULES {
        loader.add(name)?;
    }
    Ok(Kernel {
        image: tree.join("boot").join(format!("vmlinuz-{release}")),
        modules: loader.modules,
    })
}

const PREFIX: &str = "linux-image-";

/// The package of a series with the highest version in what `apt-cache search` printed.
fn newest<'a>(series: &str, list: &'a str) -> Option<&'a str> {
    let packages = list.lines().filter_map(|line| line.split(' ').next());
    packages
        .filter(|package| {
            let version = package.strip_prefix(PREFIX);
            let rest = version.and_then(|version| version.strip_prefix(series));
            rest.is_some_and(|rest| rest.starts_with('.'))
        })
        .max_by_key(|package| numbers(package))
}

/// The numbers in a name, for an order in which 10 comes after 9.
fn numbers(name: &str) -> Vec<u32> {
    name.split(|c: char| !c.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect()
}

/// Finds modules and what they depend on.
struct Loader {
    files: Vec<PathBuf>,
    builtin: String,
    modules: Vec<Module>,
}

impl Loader {
    fn open(directory: &Path) -> Result<Self> {
        let list = directory.join("modules.builtin");
        let mut files = Vec::new();
        collect(&directory.join("kernel"), &mut files)?;
        Ok(Self {
            files,
            builtin: fs::read_to_string(&list)
                .with_context(|| format!("reading {}", list.display()))?,
            modules: Vec::new(),
        })
    }

    /// Adds a module after all that it depends on, unless it is there or built in.
    fn add(&mut self, name: &str) -> Result<()> {
        let is_built_in = || {
            let paths = self.builtin.lines().map(Path::new);
            paths.into_iter().any(|path| module_name(path) == name)
        };
        if self.modules.iter().any(|module| module.name == name) || is_built_in() {
            return Ok(());
        }
        let file = self.files.iter().find(|file| module_name(file) == name);
        let file = file.with_context(|| format!("the kernel has no module {name}"))?;
        let bytes = read(file)?;
        for needed in dependencies(&bytes).with_context(|| file.display().to_string())? {
            self.add(&needed)?;
        }
        self.modules.push(Module {
            name: name.to_owned(),
            bytes,
        });
        Ok(())
    }
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries =
        fs::read_dir(directory).with_context(|| format!("reading {}", directory.display()))?;
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), files)?;
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}

/// `kernel/net/802/virtio-net.ko.xz` is `virtio_net`.
fn module_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.split('.').next().unwrap_or_default();
    stem.replace('-', "_")
}

/// The module's object; Debian compresses those of newer kernels.
fn read(path: &Path) -> Result<Vec<u8>> {
    if path.extension().is_none_or(|extension| extension != "xz") {
        return fs::read(path).with_context(|| format!("reading {}", path.display()));
    }
    let output = Command::new("xz")
        .args(["--decompress", "--stdout"])
        .arg(path)
        .output()
        .context("starting xz")?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!("xz cannot read {}: {}", path.display(), errors.trim());
    }
    Ok(output.stdout)
}

/// Names of the modules that a module needs, by its own word.
fn dependencies(module: &[u8]) -> Result<Vec<String>> {
    let file = object::File::parse(module)?;
    let section = file.section_by_name(".modinfo");
    let information = section.context("section .modinfo is missing")?.data()?;
    Ok(depends(information))
}

/// `.modinfo` is a sequence of `key=value`, each ended by a zero; `depends` is a list with commas.
fn depends(information: &[u8]) -> Vec<String> {
    let information = String::from_utf8_lossy(information);
    information
        .split('\0')
        .filter_map(|entry| entry.strip_prefix("depends="))
        .flat_map(|list| list.split(','))
        .filter(|name| !name.is_empty())
        .map(|name| name.replace('-', "_"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_package_of_a_series_is_taken() {
        let list = "linux-image-6.1.0-9-cloud-amd64 - Linux 6.1\n\
                    linux-image-6.1.0-56-cloud-amd64 - Linux 6.1\n\
                    linux-image-6.12.9+deb12-cloud-amd64 - Linux 6.12\n\
                    linux-image-6.12.117+deb12-cloud-amd64 - Linux 6.12\n\
                    linux-image-cloud-amd64 - meta-package\n\
                    linux-image-6.12-cloud-amd64 - meta-package\n";
        let check = |series, expected| assert_eq!(newest(series, list), expected);
        check("6.1", Some("linux-image-6.1.0-56-cloud-amd64"));
        check("6.12", Some("linux-image-6.12.117+deb12-cloud-amd64"));
        check("6.2", None);
        check("5.10", None);
    }

    #[test]
    fn dependencies_are_read_from_modinfo() {
        let check = |information: &[u8], expected: &[&str]| {
            assert_eq!(depends(information), expected);
        };
        check(
            b"license=GPL\0depends=stp,llc-x\0name=bridge\0",
            &["stp", "llc_x"],
        );
        check(b"depends=\0name=llc\0", &[]);
        check(b"", &[]);
    }

    #[test]
    fn a_module_is_known_by_its_file() {
        let check = |path, expected| assert_eq!(module_name(Path::new(path)), expected);
        check("kernel/drivers/net/virtio_net.ko.xz", "virtio_net");
        check("kernel/net/a/nf-log.ko", "nf_log");
    }
}
