//! What the kernel's TCP has counted in a namespace: `Tcp` of `/proc/net/snmp` and `TcpExt` of `/proc/net/netstat`.

use std::{collections::BTreeMap, fmt, fs};

use anyhow::{Context as _, Result};

use crate::lab::Namespace;

/// Counters by their names in `nstat`, without the prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts(BTreeMap<String, u64>);

impl Counts {
    /// As they are now.
    pub fn of(namespace: &Namespace) -> Result<Self> {
        let read = || -> Result<Self> {
            let mut counts = Self::default();
            for (file, table) in [("snmp", "Tcp:"), ("netstat", "TcpExt:")] {
                // The thread's own: `/proc/net` is that of the process's first thread.
                let path = format!("/proc/thread-self/net/{file}");
                let text = fs::read_to_string(&path).with_context(|| path.clone())?;
                counts.add(&text, table).with_context(|| path.clone())?;
            }
            Ok(counts)
        };
        namespace.run(read)?
    }

    /// What they rose by since `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let risen = self.0.iter().map(|(name, now)| {
            let risen = now.saturating_sub(before.get(name));
            (name.clone(), risen)
        });
        Self(risen.filter(|(_, risen)| *risen > 0).collect())
    }

    /// One of them; what the kernel doesn't count never happened.
    pub fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// Takes in a table: a line of names and a line of numbers, each with the table's name in front.
    fn add(&mut self, text: &str, table: &str) -> Option<()> {
        let mut lines = text.lines().filter_map(|line| line.strip_prefix(table));
        let (names, numbers) = (lines.next()?, lines.next()?);
        let pairs = names.split_whitespace().zip(numbers.split_whitespace());
        // Among them is one that may be -1, and no counter: `MaxConn`.
        let counters = pairs.filter_map(|(name, number)| Some((name.into(), number.parse().ok()?)));
        self.0.extend(counters);
        Some(())
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = TOLD.iter().filter(|name| self.get(name) > 0);
        let told: Vec<_> = told
            .map(|name| format!("{name} {}", self.get(name)))
            .collect();
        f.write_str(&told.join(", "))
    }
}

/// Those that say how well a connection fares.
const TOLD: [&str; 14] = [
    "EstabResets",
    "OutRsts",
    "RetransSegs",
    "TCPTimeouts",
    "TCPLostRetransmit",
    "TCPSpuriousRTOs",
    "TCPDSACKRecv",
    "TCPDSACKOfoRecv",
    "TCPChallengeACK",
    "TCPSACKReneging",
    "PAWSEstab",
    "TCPAbortOnData",
    "TCPAbortOnTimeout",
    "TCPOFOQueue",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_read_by_its_name() {
        let text = "Ip: A B\nIp: 1 2\nTcp: MaxConn OutRsts InSegs\nTcp: -1 7 9\n";
        let mut counts = Counts::default();
        assert_eq!(counts.add(text, "Tcp:"), Some(()));
        assert_eq!([counts.get("OutRsts"), counts.get("InSegs")], [7, 9]);
        assert_eq!([counts.get("A"), counts.get("MaxConn")], [0, 0]);
        assert_eq!(counts.add(text, "TcpExt:"), None);
    }

    #[test]
    fn what_did_not_rise_is_left_out() {
        let counts = |numbers: &str| {
            let mut counts = Counts::default();
            counts.add(&format!("Tcp: A B\nTcp: {numbers}\n"), "Tcp:");
            counts
        };
        let risen = counts("5 9").since(&counts("5 2"));
        assert_eq!(risen, counts("0 7").since(&Counts::default()));
        assert_eq!((risen.get("A"), risen.get("B")), (0, 7));
    }
}
