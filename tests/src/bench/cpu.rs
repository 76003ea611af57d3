//! CPU time of the whole machine between two moments.
//!
//! The whole machine, because on veth the kernel does a balancer's receive work in the sender's context: no
//! process's own time is the truth. Other work on the machine counts as well; [`busy_share`] says how much there was.
//! The kernel counts in ticks of 10 ms, so a run of 3 s on two CPUs has about 600 of them.

use std::{fs, thread, time::Duration};

use anyhow::{Context as _, Result};

/// `/proc/stat` counts in units of `USER_HZ`, which is 100 on every architecture that we build for.
const TICK: Duration = Duration::from_millis(10);

/// A measurement under way.
#[derive(Debug)]
pub(super) struct Window {
    start: Ticks,
}

impl Window {
    pub(super) fn open() -> Result<Self> {
        Ok(Self {
            start: Ticks::now()?,
        })
    }

    /// Time that all CPUs together were busy since [`Window::open`].
    pub(super) fn close(self) -> Result<Duration> {
        Ok(TICK * (Ticks::now()?.busy - self.start.busy))
    }
}

/// Share of all CPUs that is busy, from 0 to 1, watched for `length`.
pub fn busy_share(length: Duration) -> Result<f64> {
    let start = Ticks::now()?;
    thread::sleep(length);
    let end = Ticks::now()?;
    let all = (end.all - start.all).max(1);
    Ok(f64::from(end.busy - start.busy) / f64::from(all))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ticks {
    /// user, nice, system, irq and softirq.
    busy: u32,
    /// Those, and idle, iowait and steal.
    all: u32,
}

impl Ticks {
    fn now() -> Result<Self> {
        let text = fs::read_to_string("/proc/stat").context("reading /proc/stat")?;
        Self::parse(&text).context("/proc/stat doesn't begin with the sum of all CPUs")
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.lines().next()?.split_ascii_whitespace();
        words.next().filter(|word| *word == "cpu")?;
        let counts: Vec<u32> = words.map_while(|word| word.parse().ok()).collect();
        let [user, nice, system, idle, iowait, irq, softirq, steal, ..] = counts[..] else {
            return None;
        };
        let busy = user + nice + system + irq + softirq;
        Some(Self {
            busy,
            all: busy + idle + iowait + steal,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_and_stolen_time_is_not_busy() {
        let check = |text: &str, expected| {
            let ticks = Ticks::parse(text).map(|ticks| (ticks.busy, ticks.all));
            assert_eq!(ticks, expected, "{text:?}");
        };
        check(
            "cpu  1 20 300 4000 50000 600000 7000000 80000000 9 9\ncpu0 1 1 1",
            Some((7_600_321, 87_654_321)),
        );
        check("cpu0 1 20 300 4000 50000 600000 7000000 80000000", None);
        check("cpu 1 2 3", None);
        check("", None);
    }
}
