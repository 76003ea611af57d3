//! What the figures depend on and no reader can know: the machine and the versions.

use std::{fs, process::Command};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::binaries;

/// The machine of a benchmark.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Machine {
    /// Release of the kernel.
    pub kernel: String,
    /// Model of the first CPU.
    pub cpu: String,
    /// CPUs that this process may use.
    pub cpus: usize,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// First line of what each program says is its version.
    pub versions: Vec<String>,
}

impl Machine {
    pub(crate) fn here() -> Result<Self> {
        let cpu = fs::read_to_string("/proc/cpuinfo").context("reading /proc/cpuinfo")?;
        let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name"));
        let cpu = cpu.map_or("unknown", |rest| rest.trim_start_matches([' ', '\t', ':']));
        let memory = fs::read_to_string("/proc/meminfo").context("reading /proc/meminfo")?;
        let memory = memory
            .lines()
            .find_map(|line| line.strip_prefix("MemTotal:"));
        let kib: u64 = memory
            .and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok())
            .context("/proc/meminfo has no MemTotal")?;
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
        let lb = binaries::lb()?.display().to_string();
        Ok(Self {
            kernel: kernel.trim().to_owned(),
            cpu: cpu.to_owned(),
            cpus: std::thread::available_parallelism()?.get(),
            memory_mib: kib >> 10,
            versions: vec![
                version(&lb, "--version")?,
                version("nginx", "-v")?,
                version("haproxy", "-v")?,
                version("wrk", "-v")?,
            ],
        })
    }
}

fn version(program: &str, flag: &str) -> Result<String> {
    let output = Command::new(program)
        .arg(flag)
        .output()
        .with_context(|| format!("asking {program} for its version"))?;
    // wrk and nginx answer on standard error, and wrk with a failure.
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().next().unwrap_or(program);
    // The rest of the line are addresses of web sites and names of authors.
    let end = line.find(" - http").or_else(|| line.find(" [epoll]"));
    let line = &line[..end.unwrap_or(line.len())];
    Ok(line.trim_start_matches("nginx version: ").to_owned())
}
