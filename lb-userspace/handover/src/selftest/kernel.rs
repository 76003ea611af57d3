//! What the kernel tells of packets that it has dropped, and by which rules: files of `/proc`, of the network namespace of this thread.

use std::fs;

/// Packets that were dropped so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Drops {
    /// By reverse path filtering (`IPReversePathFilter`).
    pub(super) by_reverse_path: u64,
    /// Taken for invalid by connection tracking, which drops nothing itself. None where that doesn't count, or isn't there.
    pub(super) invalid: Option<u64>,
}

impl Drops {
    /// Reads the counters. What can't be read has counted nothing.
    pub(super) fn read() -> Self {
        let netstat = read("/proc/thread-self/net/netstat");
        let tracking = read("/proc/thread-self/net/stat/nf_conntrack");
        Self {
            by_reverse_path: netstat
                .and_then(|text| counter(&text, "TcpExt:", "IPReversePathFilter"))
                .unwrap_or(0),
            invalid: tracking.and_then(|text| column(&text, "invalid")),
        }
    }
}

/// `net.ipv4.conf.NAME.rp_filter`.
pub(super) fn rp_filter(name: &str) -> String {
    let value = read(&format!("/proc/sys/net/ipv4/conf/{name}/rp_filter"));
    value.map_or_else(|| "unknown".to_owned(), |value| value.trim().to_owned())
}

/// Whether connection tracking takes for invalid what it has not seen begin.
pub(super) fn conntrack_is_strict() -> bool {
    read("/proc/sys/net/netfilter/nf_conntrack_tcp_loose").is_some_and(|value| value.trim() == "0")
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// A counter of a group, which has a line of names and one of values.
fn counter(text: &str, group: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(group));
    let (names, values) = (lines.next()?, lines.next()?);
    let mut pairs = names.split_whitespace().zip(values.split_whitespace());
    let (_, value) = pairs.find(|(known, _)| *known == name)?;
    value.parse().ok()
}

/// Sum of a column of hexadecimal numbers under its name, with a line for each CPU.
fn column(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines();
    let at = lines.next()?.split_whitespace().position(|it| it == name)?;
    lines
        .map(|line| u64::from_str_radix(line.split_whitespace().nth(at)?, 16).ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_found_by_name() {
        let netstat = "TcpExt: SyncookiesSent IPReversePathFilter\nTcpExt: 3 17\nIpExt: InNoRoutes\nIpExt: 5\n";
        let read = |group, name| counter(netstat, group, name);
        assert_eq!(read("TcpExt:", "IPReversePathFilter"), Some(17));
        assert_eq!(read("IpExt:", "InNoRoutes"), Some(5));
        assert_eq!(read("IpExt:", "IPReversePathFilter"), None);
        assert_eq!(read("MPTcpExt:", "InNoRoutes"), None);
    }

    #[test]
    fn columns_are_summed_over_cpus() {
        let stat =
            "entries  found invalid\n0000001a  00000000 000000ff\n0000001a  00000000 00000001\n";
        assert_eq!(column(stat, "invalid"), Some(256));
        assert_eq!(column(stat, "insert"), None);
        assert_eq!(column("entries\nx\n", "entries"), None);
    }
}
