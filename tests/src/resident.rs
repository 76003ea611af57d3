//! Resident memory of a process, as its kernel counts it: what it has now, and by how much a peak rises above that.
//!
//! Not here: what the process does meanwhile.

use std::{fmt, fs};

use anyhow::{Context as _, Result};

/// A look at a process, from which on its peak counts.
#[derive(Clone, Copy, Debug)]
pub struct Before {
    process: u32,
    resident: u64,
    huge: u64,
}

/// What came on top of it, in KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Growth {
    /// At the peak.
    pub peak: u64,
    /// Of it in transparent huge pages, by the end: each is 2 MiB of which perhaps a few bytes are used.
    pub huge: u64,
}

impl fmt::Display for Growth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { peak, huge } = self;
        write!(f, "{peak} KiB more at the peak, {huge} more in huge pages")
    }
}

impl Before {
    /// Sets the peak to what the process has now.
    pub fn look(process: u32) -> Result<Self> {
        // proc(5): 5 does that.
        fs::write(format!("/proc/{process}/clear_refs"), "5").context("clearing the peak")?;
        Ok(Self {
            process,
            resident: figure(process, "status", "VmHWM:")?,
            huge: figure(process, "smaps_rollup", "AnonHugePages:")?,
        })
    }

    /// What has come on top since.
    pub fn growth(&self) -> Result<Growth> {
        let peak = figure(self.process, "status", "VmHWM:")?;
        let huge = figure(self.process, "smaps_rollup", "AnonHugePages:")?;
        Ok(Growth {
            peak: peak.saturating_sub(self.resident),
            huge: huge.saturating_sub(self.huge),
        })
    }
}

fn figure(process: u32, file: &str, name: &str) -> Result<u64> {
    let path = format!("/proc/{process}/{file}");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    kib(&text, name).with_context(|| format!("{path} has no {name}"))
}

/// The figure of a line such as `RssAnon:   1234 kB`.
pub(crate) fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim_end().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_by_their_whole_name() {
        let text = "VmRSS:\t  900 kB\nRssAnon:\t   1234 kB\nRssFile: x kB\nThreads: 3\n";
        let check = |name, expected| assert_eq!(kib(text, name), expected, "{name}");
        check("RssAnon:", Some(1234));
        check("VmRSS:", Some(900));
        check("RssFile:", None);
        check("Threads:", None);
        check("Slab:", None);
    }
}
