//! Which flows are asked for, as the command line and the admin socket have it.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Flow;

/// Which flows are asked for.
#[derive(Clone, Debug, Serialize, Deserialize, clap::Args)]
pub(crate) struct Query {
    /// Flows of this service only.
    #[arg(long, value_name = "NAME")]
    pub(crate) service: Option<String>,
    /// Flows to this server only.
    #[arg(long, value_name = "ADDR[:PORT]")]
    pub(crate) server: Option<Endpoint>,
    /// Flows of this client only.
    #[arg(long, value_name = "ADDR[:PORT]")]
    pub(crate) client: Option<Endpoint>,
    /// Flows in this state only.
    #[arg(long, value_parser = ["half-open", "established", "closing", "closed"])]
    pub(crate) state: Option<String>,
    /// Flows listed at most. The daemon has other things to do meanwhile.
    #[arg(long, default_value_t = 1000, value_name = "N")]
    pub(crate) limit: usize,
}

/// An address, and a port if it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(crate) struct Endpoint {
    address: IpAddr,
    port: Option<u16>,
}

impl Endpoint {
    /// Whether an address with a port is this one.
    pub(crate) fn is(self, other: SocketAddr) -> bool {
        self.address == other.ip() && self.port.is_none_or(|port| port == other.port())
    }
}

/// A text is no address.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} is neither an address nor one with a port, such as 192.0.2.1:25 or [2001:db8::1]:25"
)]
pub(crate) struct NoEndpoint(String);

impl FromStr for Endpoint {
    type Err = NoEndpoint;

    fn from_str(text: &str) -> Result<Self, NoEndpoint> {
        let bare = text.parse().map(|address| Self {
            address,
            port: None,
        });
        let with_port = || {
            let endpoint = text.parse::<SocketAddr>();
            endpoint.map(|endpoint| Self {
                address: endpoint.ip(),
                port: Some(endpoint.port()),
            })
        };
        bare.or_else(|_| with_port())
            .map_err(|_| NoEndpoint(text.to_owned()))
    }
}

impl TryFrom<String> for Endpoint {
    type Error = NoEndpoint;

    fn try_from(text: String) -> Result<Self, NoEndpoint> {
        text.parse()
    }
}

impl From<Endpoint> for String {
    fn from(Endpoint { address, port }: Endpoint) -> Self {
        match port {
            Some(port) => SocketAddr::new(address, port).to_string(),
            None => address.to_string(),
        }
    }
}

impl Query {
    pub(super) fn matches(&self, flow: &Flow) -> bool {
        self.service
            .as_ref()
            .is_none_or(|name| *name == flow.service)
            && self
                .server
                .is_none_or(|server| flow.server.is_some_and(|at| server.is(at)))
            && self.client.is_none_or(|client| client.is(flow.client))
            && self.state.as_ref().is_none_or(|state| *state == flow.state)
    }
}
