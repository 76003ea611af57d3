//! What is measured, and who: the loads of issue "the TCP engine", and the stacks that bear them.
//!
//! Not here: how a stack is set up (`rig`), which figures are wanted (`claims`).

use std::fmt;

use clap::{ValueEnum, builder::PossibleValue};
use serde::{Deserialize, Serialize};

/// One kind of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Row {
    /// 1 KB bodies, connections kept.
    KeepAlive,
    /// 1 KB bodies, a connection for each.
    Close,
    /// The same, from a client that spends less on a connection than wrk does, which has no time left before ours has none.
    CloseRush,
    /// 64 KB bodies.
    Body64K,
    /// 1 MB bodies, one of a thousand data segments lost.
    Body1MLoss1,
    /// 1 MB bodies, ten of a thousand lost.
    Body1MLoss10,
    /// 1 KB bodies, connections kept, ten of a thousand lost.
    KeepAliveLoss10,
}

impl Row {
    /// In the order of the report.
    pub const ALL: [Self; 7] = [
        Self::KeepAlive,
        Self::Close,
        Self::CloseRush,
        Self::Body64K,
        Self::Body1MLoss1,
        Self::Body1MLoss10,
        Self::KeepAliveLoss10,
    ];

    /// For people.
    pub const fn title(self) -> &'static str {
        match self {
            Self::KeepAlive => "1 KB, keep-alive",
            Self::Close => "1 KB, connection per request",
            Self::CloseRush => "1 KB, connection per request, light client",
            Self::Body64K => "64 KB, keep-alive",
            Self::Body1MLoss1 => "1 MB, keep-alive, 0.1 % loss",
            Self::Body1MLoss10 => "1 MB, keep-alive, 1 % loss",
            Self::KeepAliveLoss10 => "1 KB, keep-alive, 1 % loss",
        }
    }

    /// For command lines.
    const fn name(self) -> &'static str {
        match self {
            Self::KeepAlive => "keep-alive",
            Self::Close => "close",
            Self::CloseRush => "close-rush",
            Self::Body64K => "64k",
            Self::Body1MLoss1 => "1m-loss1",
            Self::Body1MLoss10 => "1m-loss10",
            Self::KeepAliveLoss10 => "keep-alive-loss10",
        }
    }

    /// Bytes of a body.
    pub const fn body(self) -> u32 {
        match self {
            Self::KeepAlive | Self::Close | Self::CloseRush | Self::KeepAliveLoss10 => 1 << 10,
            Self::Body64K => 1 << 16,
            Self::Body1MLoss1 | Self::Body1MLoss10 => 1 << 20,
        }
    }

    /// Connections at a time: those of the first measurements, whose ratios the targets come from.
    pub const fn connections(self) -> u32 {
        match self {
            Self::KeepAlive | Self::KeepAliveLoss10 => 128,
            Self::Close | Self::CloseRush => 64,
            Self::Body64K => 16,
            Self::Body1MLoss1 | Self::Body1MLoss10 => 4,
        }
    }

    /// Whether the client is ours ([`Rush`](crate::tcp_rush::Rush)) and not wrk.
    pub(super) const fn is_rush(self) -> bool {
        matches!(self, Self::CloseRush)
    }

    /// A header field that every request of wrk's has besides `Host`.
    pub const fn field(self) -> Option<&'static str> {
        match self {
            Self::Close => Some("Connection: close"),
            _ => None,
        }
    }

    /// Of a thousand data segments that the server sends, so many are lost.
    pub const fn permille(self) -> u32 {
        match self {
            Self::KeepAlive | Self::Close | Self::CloseRush | Self::Body64K => 0,
            Self::Body1MLoss1 => 1,
            Self::Body1MLoss10 | Self::KeepAliveLoss10 => 10,
        }
    }

    /// Who bears it, in the order of a round. Ours runs under the settings of each peer, so that no pair differs in more
    /// than the stack.
    pub const fn contenders(self) -> &'static [Contender] {
        use Contender::{
            Kernel, KernelHost, KernelHostNoTso, KernelNoGso, KernelNoTso, Ours, OursNoGso,
            OursNoTso,
        };
        match self {
            Self::KeepAlive | Self::Close | Self::CloseRush => &[Ours, Kernel, KernelHost],
            Self::Body64K => &[Ours, Kernel, OursNoTso, KernelNoTso, OursNoGso, KernelNoGso],
            Self::Body1MLoss1 | Self::Body1MLoss10 => &[
                OursNoTso,
                KernelNoTso,
                KernelHostNoTso,
                OursNoGso,
                KernelNoGso,
            ],
            // A body is a segment.
            Self::KeepAliveLoss10 => &[OursNoTso, KernelNoTso, KernelHostNoTso],
        }
    }
}

/// What can be asked for alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A load.
    Row(Row),
    /// Memory of idle connections.
    Idle,
    /// Transfers beside a SYN flood.
    Flood,
}

impl ValueEnum for Part {
    fn value_variants<'a>() -> &'a [Self] {
        const ALL: [Part; Row::ALL.len() + 2] = {
            let mut all = [Part::Flood; Row::ALL.len() + 2];
            let mut at = 0;
            while at < Row::ALL.len() {
                all[at] = Part::Row(Row::ALL[at]);
                at += 1;
            }
            all[at] = Part::Idle;
            all
        };
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            Self::Row(row) => PossibleValue::new(row.name()).help(row.title()),
            Self::Idle => PossibleValue::new("idle").help("memory of idle connections"),
            Self::Flood => PossibleValue::new("flood").help("transfers beside a SYN flood"),
        })
    }
}

/// The server's stack, and what its interface does for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Contender {
    /// Our TCP over `AF_XDP`.
    Ours,
    /// The same, on an interface without TSO.
    OursNoTso,
    /// The same, on an interface without TSO and GSO.
    OursNoGso,
    /// Linux with CUBIC, as ours has it.
    Kernel,
    /// The same, on an interface without TSO.
    KernelNoTso,
    /// The same, on an interface without TSO and GSO.
    KernelNoGso,
    /// Linux with the congestion control that this host has for default.
    KernelHost,
    /// The same, on an interface without TSO.
    KernelHostNoTso,
}

/// Who cuts what a stack hands over in large pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Segmentation {
    /// TSO and GSO on: nobody on veth, so that large pieces cross it whole.
    Tso,
    /// TSO off, GSO on: the kernel, in front of the interface, as without `ethtool -K gso` as well.
    Gso,
    /// TSO and GSO off, for TCP too: the stack itself, so that every segment crosses all of it alone. What ours hands over
    /// at a packet socket is still cut in front of the interface.
    Off,
}

impl Contender {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Ours,
        Self::OursNoTso,
        Self::OursNoGso,
        Self::Kernel,
        Self::KernelNoTso,
        Self::KernelNoGso,
        Self::KernelHost,
        Self::KernelHostNoTso,
    ];

    /// For people.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Ours => "ours, AF_XDP",
            Self::OursNoTso => "ours, AF_XDP, TSO off",
            Self::OursNoGso => "ours, AF_XDP, TSO and GSO off",
            Self::Kernel => "kernel, cubic",
            Self::KernelNoTso => "kernel, cubic, TSO off",
            Self::KernelNoGso => "kernel, cubic, TSO and GSO off",
            Self::KernelHost => "kernel, host's default",
            Self::KernelHostNoTso => "kernel, host's default, TSO off",
        }
    }

    /// How the server's interface is set.
    pub(super) const fn segmentation(self) -> Segmentation {
        match self {
            Self::Ours | Self::Kernel | Self::KernelHost => Segmentation::Tso,
            Self::OursNoTso | Self::KernelNoTso | Self::KernelHostNoTso => Segmentation::Gso,
            Self::OursNoGso | Self::KernelNoGso => Segmentation::Off,
        }
    }

    /// Whether it is our TCP.
    pub(super) const fn is_ours(self) -> bool {
        matches!(self, Self::Ours | Self::OursNoTso | Self::OursNoGso)
    }

    /// Whether Linux is to have its host's congestion control.
    pub(super) const fn is_as_host(self) -> bool {
        matches!(self, Self::KernelHost | Self::KernelHostNoTso)
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.title())
    }
}
