//! What `lb status` says of connections that move from the workers' TCP to the kernel's.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Counter;

/// Where the connections of a service live, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HandoverStatus {
    /// Where new ones begin: `af_xdp` or `kernel`.
    pub(crate) begins_on: String,
    /// Whether that follows from what became of those before.
    pub(crate) adaptive: bool,
    /// Why none can move; big ones stay in the workers' TCP then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) unfit: Option<String>,
    /// How many have moved, by reason: `response`, `upload`, `streamed`, `tunnel`, `stop`.
    pub(crate) moved: Vec<Counter>,
    /// How many that are over were to move and stayed: more were moving at the time than `moves_per_second` or `moved_connections`
    /// lets, they were about to end, or the kernel refused. The workers' `LbMoves…` counters say which.
    pub(crate) stayed: u64,
    /// How many are over.
    pub(crate) ended: u64,
    /// How many of those carried bulk, wherever they lived.
    pub(crate) bulk: u64,
}

impl fmt::Display for HandoverStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            begins_on,
            adaptive,
            unfit,
            moved,
            stayed,
            ended,
            bulk,
        } = self;
        if let Some(reason) = unfit {
            return writeln!(f, "  big connections STAY on af_xdp: {reason}");
        }
        let adaptive = if *adaptive { " (adaptive)" } else { "" };
        let all: u64 = moved.iter().map(|counter| counter.value).sum();
        write!(
            f,
            "  connections begin on {begins_on}{adaptive}, {all} moved"
        )?;
        let some = moved.iter().filter(|counter| counter.value > 0);
        for (place, Counter { name, value }) in some.enumerate() {
            let before = if place == 0 { " (" } else { ", " };
            write!(f, "{before}{name} {value}")?;
        }
        f.write_str(if all > 0 { ")" } else { "" })?;
        if *stayed > 0 {
            write!(f, ", {stayed} stayed")?;
        }
        writeln!(f, "; of {ended} that ended {bulk} were bulk")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moves_in_words() {
        let counter = |(name, value): (&str, u64)| Counter {
            name: name.to_owned(),
            value,
        };
        let status = HandoverStatus {
            begins_on: "af_xdp".to_owned(),
            adaptive: true,
            unfit: None,
            moved: [("response", 3), ("upload", 0), ("tunnel", 1)]
                .map(counter)
                .to_vec(),
            stayed: 2,
            ended: 70,
            bulk: 6,
        };
        let expected = "  connections begin on af_xdp (adaptive), 4 moved (response 3, tunnel 1), 2 stayed; of 70 that ended 6 \
                        were bulk\n";
        assert_eq!(status.to_string(), expected);
        let quiet = HandoverStatus {
            begins_on: "kernel".to_owned(),
            adaptive: false,
            moved: vec![counter(("response", 0))],
            stayed: 0,
            ..status.clone()
        };
        let expected = "  connections begin on kernel, 0 moved; of 70 that ended 6 were bulk\n";
        assert_eq!(quiet.to_string(), expected);
        let unfit = HandoverStatus {
            unfit: Some("netfilter drops them".to_owned()),
            ..status
        };
        let expected = "  big connections STAY on af_xdp: netfilter drops them\n";
        assert_eq!(unfit.to_string(), expected);
    }
}
