//! Debian packages, unpacked below `target` and not installed: apt only fetches them.
//!
//! Nothing of this host changes, and no root is needed. A package that conflicts with one that is installed
//! here is as good as any other.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::{command, workspace};

/// Marks a directory whose packages have all been unpacked.
const COMPLETE: &str = "complete";

/// The file tree of `package` and of what it needs that is not installed here.
///
/// # Errors
/// No apt, a package that its sources do not have, or no space.
pub(super) fn unpacked(package: &str) -> Result<PathBuf> {
    let directory = workspace::target().join("vm").join(package);
    let tree = directory.join("tree");
    if directory.join(COMPLETE).exists() {
        return Ok(tree);
    }
    // What a killed run left is incomplete in ways that are not worth finding out.
    if directory.exists() {
        fs::remove_dir_all(&directory)
            .with_context(|| format!("removing {}", directory.display()))?;
    }
    let archives = directory.join("archives");
    for new in [&archives.join("partial"), &tree] {
        fs::create_dir_all(new).with_context(|| format!("making {}", new.display()))?;
    }
    fetch(package, &archives)?;
    unpack(&archives, &tree)?;
    fs::remove_dir_all(&archives)?;
    fs::write(directory.join(COMPLETE), "")?;
    Ok(tree)
}

fn fetch(package: &str, archives: &Path) -> Result<()> {
    let mut apt = Command::new("apt-get");
    apt.args(["--download-only", "--reinstall", "--yes", "-qq"])
        .arg("--no-install-recommends")
        .arg("-o")
        .arg(format!("Dir::Cache::archives={}", archives.display()))
        // Only our own directory is written: neither the lock of dpkg nor apt's own user is needed.
        .args(["-o", "Debug::NoLocking=true", "-o", "APT::Sandbox::User="])
        .args(["install", package]);
    command::run(&mut apt).with_context(|| {
        format!("fetching {package}; `apt-get update` as root brings fresh package lists")
    })
}

fn unpack(archives: &Path, tree: &Path) -> Result<()> {
    let mut packages = 0;
    for entry in fs::read_dir(archives)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            command::run(
                Command::new("dpkg-deb")
                    .arg("--extract")
                    .arg(&path)
                    .arg(tree),
            )?;
            packages += 1;
        }
    }
    if packages == 0 {
        bail!("apt fetched nothing into {}", archives.display());
    }
    Ok(())
}
