//! CPU time of the server's stack: its own CPU's, and the softirq time of the client's.
//!
//! Server and load are each pinned to a CPU. On veth the sender's context does the receiver's work: softirq time on the
//! load's CPU is what the server's stack receives, and softirq time on the server's CPU is the client's. So the server's
//! share is user and system time of its own CPU and softirq time of the other. The kernel counts ticks of 10 ms, which
//! fall where they fall: about ±5 % in a run of 3 s.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};

use crate::bench::{self, float};

/// `USER_HZ` is 100 on every architecture that we build for.
const TICK: Duration = Duration::from_millis(10);

/// Which CPU does what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cpus {
    pub(super) server: usize,
    pub(super) client: usize,
}

/// A measurement under way.
pub(super) struct Window {
    cpus: Cpus,
    server: Ticks,
    client: Ticks,
    machine: bench::Window,
}

/// What became of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Used {
    /// By the server's stack.
    pub(super) server: Duration,
    /// Share of the machine's busy time that programs outside of the benchmark had, 0 to 1.
    pub(super) others: f64,
}

impl Window {
    pub(super) fn open(cpus: Cpus) -> Result<Self> {
        Ok(Self {
            cpus,
            server: Ticks::of(cpus.server)?,
            client: Ticks::of(cpus.client)?,
            machine: bench::Window::open()?,
        })
    }

    pub(super) fn close(self) -> Result<Used> {
        let busy = self.machine.close()?;
        let server = Ticks::of(self.cpus.server)?.since(self.server);
        let client = Ticks::of(self.cpus.client)?.since(self.client);
        let milliseconds = |time: Duration| float(u64::try_from(time.as_millis()).unwrap_or(0));
        Ok(Used {
            server: TICK * (server.own + client.softirq),
            others: milliseconds(busy.others) / milliseconds(busy.all).max(1.0),
        })
    }
}

/// Ticks of one CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ticks {
    /// user, nice and system.
    own: u32,
    softirq: u32,
}

impl Ticks {
    fn of(cpu: usize) -> Result<Self> {
        let text = fs::read_to_string("/proc/stat").context("reading /proc/stat")?;
        Self::parse(&text, cpu).with_context(|| format!("/proc/stat has no cpu{cpu}"))
    }

    fn parse(stat: &str, cpu: usize) -> Option<Self> {
        let name = format!("cpu{cpu}");
        let mut words = stat.lines().map(str::split_ascii_whitespace);
        let words = words.find_map(|mut words| (words.next()? == name).then_some(words))?;
        let counts: Vec<u32> = words.map_while(|word| word.parse().ok()).collect();
        let [user, nice, system, _idle, _iowait, _irq, softirq, ..] = counts[..] else {
            return None;
        };
        Some(Self {
            own: user + nice + system,
            softirq,
        })
    }

    fn since(self, then: Self) -> Self {
        Self {
            own: self.own.saturating_sub(then.own),
            softirq: self.softirq.saturating_sub(then.softirq),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cpu_has_its_own_line() {
        let stat =
            "cpu  9 9 9 9 9 9 9 9\ncpu1 1 2 4 8 16 32 64 128 0 0\ncpu10 7 0 0 0 0 0 5 0\nintr 1";
        let check = |cpu, expected: Option<(u32, u32)>| {
            let found = Ticks::parse(stat, cpu).map(|ticks| (ticks.own, ticks.softirq));
            assert_eq!(found, expected, "{cpu}");
        };
        check(1, Some((7, 64)));
        check(10, Some((7, 5)));
        check(0, None);
    }
}
