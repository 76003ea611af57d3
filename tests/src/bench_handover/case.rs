//! The loads, and the transports that bear them.
//!
//! Not here: which figures are wanted (`claims`).

use std::fmt;

use clap::{ValueEnum, builder::PossibleValue};
use serde::{Deserialize, Serialize};

use crate::address::VIP_HTTP;

/// One kind of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Case {
    /// KB of a body.
    pub kilobytes: u32,
    /// A connection for each request, in place of connections that are kept.
    pub one_shot: bool,
    /// TLS in front; the pool is asked in plain HTTP either way.
    pub tls: bool,
}

/// KB of bodies: from a segment to what no window holds, closer together where the transports' curves cross.
pub const SIZES: [u32; 9] = [1, 4, 8, 16, 32, 64, 256, 1024, 4096];

/// The same for command lines.
const NAMES: [&str; SIZES.len()] = ["1k", "4k", "8k", "16k", "32k", "64k", "256k", "1m", "4m"];

impl Case {
    /// In the order of the report.
    pub fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for tls in [false, true] {
            for one_shot in [true, false] {
                all.extend(SIZES.map(|kilobytes| Self {
                    kilobytes,
                    one_shot,
                    tls,
                }));
            }
        }
        all
    }

    /// For people.
    pub fn title(self) -> String {
        let connection = if self.one_shot {
            "connection per request"
        } else {
            "keep-alive"
        };
        let tls = if self.tls { ", TLS" } else { "" };
        format!("{}, {connection}{tls}", size(self.kilobytes))
    }

    /// Connections at a time. Few for large bodies: more only queue in front of the same CPUs.
    pub const fn connections(self) -> u32 {
        match self.kilobytes {
            0..=8 => 64,
            9..=256 => 16,
            _ => 4,
        }
    }

    /// A header field that every request has besides `Host`.
    pub(super) const fn field(self) -> Option<&'static str> {
        if self.one_shot {
            Some("Connection: close")
        } else {
            None
        }
    }
}

/// A number of KB.
fn size(kilobytes: u32) -> String {
    if kilobytes < 1024 {
        format!("{kilobytes} KB")
    } else {
        format!("{} MB", kilobytes / 1024)
    }
}

/// What can be asked for alone: cases that have one of the named values wherever any is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Bodies of so many KB.
    Size(u32),
    /// A connection for each request.
    OneShot,
    /// Connections are kept.
    KeepAlive,
    /// Without TLS.
    Plain,
    /// With TLS.
    Tls,
}

impl Part {
    /// The cases that these leave; all, if there are none.
    pub(super) fn select(parts: &[Self]) -> Vec<Case> {
        let sizes = |part: &&Self| matches!(part, Self::Size(_));
        let ways = |part: &&Self| matches!(part, Self::OneShot | Self::KeepAlive);
        let layers = |part: &&Self| matches!(part, Self::Plain | Self::Tls);
        let fits = |kind: fn(&&Self) -> bool, case: Case| {
            let mut named = parts.iter().filter(kind).peekable();
            named.peek().is_none() || named.any(|part| part.covers(case))
        };
        let mut cases = Case::all();
        cases.retain(|&case| fits(sizes, case) && fits(ways, case) && fits(layers, case));
        cases
    }

    fn covers(self, case: Case) -> bool {
        match self {
            Self::Size(kilobytes) => case.kilobytes == kilobytes,
            Self::OneShot => case.one_shot,
            Self::KeepAlive => !case.one_shot,
            Self::Plain => !case.tls,
            Self::Tls => case.tls,
        }
    }
}

impl ValueEnum for Part {
    fn value_variants<'a>() -> &'a [Self] {
        const OTHERS: [Part; 4] = [Part::OneShot, Part::KeepAlive, Part::Plain, Part::Tls];
        const ALL: [Part; OTHERS.len() + SIZES.len()] = {
            let mut all = [Part::OneShot; OTHERS.len() + SIZES.len()];
            let mut at = 0;
            while at < SIZES.len() {
                all[at] = Part::Size(SIZES[at]);
                at += 1;
            }
            while at < all.len() {
                all[at] = OTHERS[at - SIZES.len()];
                at += 1;
            }
            all
        };
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            Self::Size(kilobytes) => {
                let mut names = SIZES.into_iter().zip(NAMES);
                let (_, name) = names.find(|(size, _)| size == kilobytes)?;
                PossibleValue::new(name).help("bodies of this size")
            }
            Self::OneShot => PossibleValue::new("one-shot").help("a connection for each request"),
            Self::KeepAlive => PossibleValue::new("keep-alive").help("connections are kept"),
            Self::Plain => PossibleValue::new("plain").help("without TLS"),
            Self::Tls => PossibleValue::new("tls").help("TLS in front"),
        })
    }
}

/// A transport of `lb`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Contender {
    /// Our TCP, from the first segment to the last.
    AfXdp,
    /// The kernel's, likewise.
    Kernel,
    /// Whichever suits a connection.
    Auto,
}

impl Contender {
    /// In the order of the report.
    pub const ALL: [Self; 3] = [Self::AfXdp, Self::Kernel, Self::Auto];

    /// The order of a round, counted from 1. Six rounds have each order once, so that nobody always comes first, or always after
    /// the same one.
    pub(super) fn order(round: u32) -> [Self; 3] {
        let mut order = Self::ALL;
        order.rotate_left(usize::try_from(round - 1).unwrap_or(0) % 3);
        if round.is_multiple_of(2) {
            order.reverse();
        }
        order
    }

    /// As configurations name it.
    pub const fn title(self) -> &'static str {
        match self {
            Self::AfXdp => "af_xdp",
            Self::Kernel => "kernel",
            Self::Auto => "auto",
        }
    }

    /// Ports of its plain service and of that with TLS.
    pub(super) const fn ports(self) -> [u16; 2] {
        match self {
            Self::AfXdp => [8001, 8401],
            Self::Kernel => [8002, 8402],
            Self::Auto => [8003, 8403],
        }
    }

    /// Name of the service that bears a load.
    pub(super) fn service(self, case: Case) -> String {
        let layer = if case.tls { "tls" } else { "plain" };
        format!("{}-{layer}", self.title().replace('_', "-"))
    }

    /// What clients of a load ask for.
    pub(super) fn url(self, case: Case) -> String {
        let [plain, tls] = self.ports();
        let (scheme, port) = if case.tls {
            ("https", tls)
        } else {
            ("http", plain)
        };
        let body = case.kilobytes * 1024;
        format!("{scheme}://{VIP_HTTP}:{port}/bench/{body}")
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.title())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn six_rounds_have_every_order() {
        let mut orders: Vec<_> = (1..=6)
            .map(|round| Contender::order(round).map(Contender::title))
            .collect();
        orders.sort_unstable();
        orders.dedup();
        assert_eq!(orders.len(), 6, "{orders:?}");
        assert_eq!(Contender::order(1), Contender::order(7));
    }

    #[test]
    fn parts_of_one_kind_add_and_of_several_cut() {
        let check = |parts: &[Part], expected: usize| {
            let cases = Part::select(parts);
            assert_eq!(cases.len(), expected, "{parts:?}: {cases:?}");
        };
        check(&[], 4 * SIZES.len());
        check(&[Part::Size(16)], 4);
        check(&[Part::Size(16), Part::Size(64)], 8);
        check(&[Part::Size(16), Part::Tls], 2);
        check(&[Part::Size(16), Part::Tls, Part::OneShot], 1);
        check(&[Part::OneShot, Part::KeepAlive], 4 * SIZES.len());
    }

    #[test]
    fn parts_have_names() {
        let names: Vec<_> = Part::value_variants()
            .iter()
            .filter_map(Part::to_possible_value)
            .map(|value| value.get_name().to_owned())
            .collect();
        let expected = [
            "1k",
            "4k",
            "8k",
            "16k",
            "32k",
            "64k",
            "256k",
            "1m",
            "4m",
            "one-shot",
            "keep-alive",
            "plain",
            "tls",
        ];
        assert_eq!(names, expected);
    }
}
