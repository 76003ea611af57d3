//! Who is measured.
//!
//! Not here: how each is started (`rig`) and configured (`tests/assets`).

use std::{fmt, net::Ipv4Addr};

use serde::{Deserialize, Serialize};

use super::Case;
use crate::address::{VIP_HTTP, server};

/// Servers of the pool: as many as wrk has threads, so that the direct run loads both as well.
pub(super) const SERVERS: u8 = 2;

/// Somebody who answers the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Contender {
    /// The servers themselves; the edge host only routes.
    Direct,
    /// `lb` with `transport = "af_xdp"`.
    LbAfXdp,
    /// `lb` with `transport = "kernel"`.
    LbKernel,
    /// Debian's nginx.
    Nginx,
    /// Debian's HAProxy.
    Haproxy,
}

impl Contender {
    /// In the order of a round.
    pub const ALL: [Self; 5] = [
        Self::Direct,
        Self::LbAfXdp,
        Self::LbKernel,
        Self::Nginx,
        Self::Haproxy,
    ];

    /// All that are between client and server.
    pub const BALANCERS: [Self; 4] = [Self::LbAfXdp, Self::LbKernel, Self::Nginx, Self::Haproxy];

    /// For people.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::LbAfXdp => "lb af_xdp",
            Self::LbKernel => "lb kernel",
            Self::Nginx => "nginx",
            Self::Haproxy => "HAProxy",
        }
    }

    /// Where clients connect.
    pub fn addresses(self) -> Vec<Ipv4Addr> {
        match self {
            Self::Direct => (1..=SERVERS).map(server).collect(),
            Self::LbAfXdp | Self::LbKernel | Self::Nginx | Self::Haproxy => vec![VIP_HTTP],
        }
    }
}

impl Contender {
    /// What clients of a load ask for first.
    pub fn url(self, case: Case) -> String {
        let first = self.addresses().into_iter().next().unwrap_or(VIP_HTTP);
        let (scheme, body) = (case.scheme(), case.body());
        let port = match self {
            // The servers speak either on its usual port.
            Self::Direct => String::new(),
            Self::LbAfXdp | Self::LbKernel | Self::Nginx | Self::Haproxy => {
                format!(":{}", case.port())
            }
        };
        format!("{scheme}://{first}{port}/bench/{body}")
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.title())
    }
}
