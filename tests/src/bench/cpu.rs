//! CPU time of the whole machine between two moments, and how much of it was somebody else's.
//!
//! The whole machine, because on veth the kernel does a balancer's receive work in the sender's context: no
//! process's own time is the truth. What processes outside of the benchmark take is told apart, so that it can be
//! subtracted; what they do to caches can't be.
//! The kernel counts in ticks of 10 ms, so a run of 3 s on two CPUs has about 600 of them.

use std::{collections::HashMap, fs, process, time::Duration};

use anyhow::{Context as _, Result};

/// `/proc` counts in units of `USER_HZ`, which is 100 on every architecture that we build for.
const TICK: Duration = Duration::from_millis(10);

/// A measurement under way.
#[derive(Debug)]
pub(crate) struct Window {
    busy: u32,
    others: u32,
}

/// What the CPUs did in a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Busy {
    /// All CPUs together, whatever for.
    pub(crate) all: Duration,
    /// In processes that this one didn't start; kernel threads are not among them.
    pub(crate) others: Duration,
}

impl Window {
    pub(crate) fn open() -> Result<Self> {
        Ok(Self {
            busy: busy_now()?,
            others: others_now()?,
        })
    }

    /// What happened since [`Window::open`].
    pub(crate) fn close(self) -> Result<Busy> {
        Ok(Busy {
            all: TICK * busy_now()?.saturating_sub(self.busy),
            // A process that nobody waits for takes its past with it.
            others: TICK * others_now()?.saturating_sub(self.others),
        })
    }
}

fn busy_now() -> Result<u32> {
    let text = fs::read_to_string("/proc/stat").context("reading /proc/stat")?;
    busy(&text).context("/proc/stat doesn't begin with the sum of all CPUs")
}

/// user, nice, system, irq and softirq of the first line; not idle, iowait or steal.
fn busy(stat: &str) -> Option<u32> {
    let mut words = stat.lines().next()?.split_ascii_whitespace();
    words.next().filter(|word| *word == "cpu")?;
    let counts: Vec<u32> = words.map_while(|word| word.parse().ok()).collect();
    let [user, nice, system, _idle, _iowait, irq, softirq, ..] = counts[..] else {
        return None;
    };
    Some(user + nice + system + irq + softirq)
}

fn others_now() -> Result<u32> {
    let directories = fs::read_dir("/proc").context("reading /proc")?;
    let known = directories.filter_map(|directory| {
        let name = directory.ok()?.file_name();
        let pid: u32 = name.to_str()?.parse().ok()?;
        // One that has just ended is counted with the parent that waited for it.
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some((pid, Known::parse(&stat)?))
    });
    Ok(others(&known.collect(), process::id()))
}

/// A process: its parent, and ticks that it and its waited-for children have used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    parent: u32,
    ticks: u32,
}

impl Known {
    /// A line of `/proc/<pid>/stat`. The name in parentheses may hold anything, parentheses too.
    fn parse(stat: &str) -> Option<Self> {
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<u32>().ok();
        Some(Self {
            parent: number(1)?,
            ticks: (11..=14).map(number).sum::<Option<u32>>()?,
        })
    }
}

/// Ticks of all that neither is `own`, nor descends from it, nor is a kernel thread.
fn others(known: &HashMap<u32, Known>, own: u32) -> u32 {
    let ours = |mut pid: u32| {
        // No process descends from itself, but a table read in pieces could say so.
        for _ in 0..known.len() {
            if pid == own || pid == KTHREADD {
                return true;
            }
            match known.get(&pid) {
                Some(process) => pid = process.parent,
                None => return false,
            }
        }
        false
    };
    let foreign = known.iter().filter(|(pid, _)| !ours(**pid));
    foreign.map(|(_, process)| process.ticks).sum()
}

/// Parent of all kernel threads.
const KTHREADD: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_and_stolen_time_is_not_busy() {
        let check = |text: &str, expected| assert_eq!(busy(text), expected, "{text:?}");
        check(
            "cpu  1 20 300 4000 50000 600000 7000000 80000000 9 9\ncpu0 1 1 1",
            Some(7_600_321),
        );
        check("cpu0 1 20 300 4000 50000 600000 7000000 80000000", None);
        check("cpu 1 2 3", None);
        check("", None);
    }

    #[test]
    fn a_process_is_read_whatever_its_name() {
        let check = |stat: &str, expected: Option<(u32, u32)>| {
            let found = Known::parse(stat).map(|known| (known.parent, known.ticks));
            assert_eq!(found, expected, "{stat:?}");
        };
        let rest = "S 7 1 1 0 -1 4194560 1 2 3 4 1000 200 30 4 20 0 1 0 99";
        check(&format!("12 (lb) {rest}"), Some((7, 1234)));
        check(&format!("12 (a ) S 1) b) {rest}"), Some((7, 1234)));
        check("12 (lb) S 7 1 1", None);
        check("", None);
    }

    #[test]
    fn others_are_neither_children_nor_kernel_threads() {
        let process = |(pid, parent, ticks)| (pid, Known { parent, ticks });
        let known = [
            (1, 0, 1),
            (2, 0, 10),          // kthreadd
            (30, 2, 100),        // ksoftirqd
            (100, 1, 1_000),     // a shell
            (200, 100, 1 << 20), // us
            (201, 200, 1 << 21), // our child
            (202, 201, 1 << 22), // its child
            (300, 100, 10_000),  // a compiler
            (400, 399, 100_000), // its parent has just ended
        ];
        let known = known.map(process).into();
        assert_eq!(others(&known, 200), 111_001);
    }
}
