//! Which number stands for which service and which server in the entries of flows.
//!
//! A flow keeps the numbers it was opened under, and may live longer than the daemon that gave them. So the next one
//! gives a service (known by its address, port and protocol) and a server (known by its service, address and port) the
//! number that it had, wherever the configuration now names it, and gives nobody a number that an earlier daemon gave to
//! somebody else or that a flow still has. Pure: what the maps say is read by [`Before::read`] and [`InUse::of`] alone.
//!
//! There are more numbers than services and servers ([`SERVICE_IDS`], [`BACKEND_IDS`]), so that a configuration can be
//! replaced as a whole. What runs out is refused: two servers under one number would be one to `lb flows`, to idle timeouts
//! and to `when_server_fails`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use lb_ebpf::abi::{BACKEND_IDS, Backend, SERVICE_IDS, unmapped};
use lb_ebpf::family::Family;
use lb_ebpf::flow::{FlowEntry, FlowSet};
use lb_ebpf::mapped::MappedFlows;

use super::DesiredService;
use crate::dataplane::{Dataplane, Inherited};

/// Virtual address and port, and IP protocol number.
type Key = (SocketAddr, u8);
/// The number of its service, and its address and port.
type ServerKey = (u16, SocketAddr);

/// What an earlier daemon had numbered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Before {
    services: BTreeMap<Key, u16>,
    servers: BTreeMap<ServerKey, u32>,
}

impl Before {
    /// From the maps that it left.
    pub(crate) fn read(inherited: &Inherited) -> Self {
        let services: BTreeMap<_, _> = inherited
            .services
            .iter()
            .map(|&(listen, protocol, service)| ((listen, protocol), service.id))
            .collect();
        let ipv6: BTreeSet<_> = services
            .iter()
            .filter(|((listen, _), _)| listen.is_ipv6())
            .map(|(_, id)| *id)
            .collect();
        let servers = inherited.backends.iter().map(|(index, backend)| {
            let address = address(backend, ipv6.contains(&backend.service));
            ((backend.service, address), *index)
        });
        Self {
            servers: servers.collect(),
            services,
        }
    }
}

fn address(backend: &Backend, ipv6: bool) -> SocketAddr {
    let ip = if ipv6 {
        IpAddr::V6(Ipv6Addr::from(backend.address))
    } else {
        IpAddr::from(unmapped(backend.address))
    };
    SocketAddr::new(ip, u16::from_be_bytes(backend.port))
}

/// Numbers that flows have.
#[derive(Clone, Debug, Default)]
pub(crate) struct InUse {
    services: BTreeSet<u16>,
    servers: BTreeSet<u32>,
}

impl InUse {
    /// Those of all flows in the tables. Flows that an earlier daemon's program opens meanwhile have numbers of
    /// [`Before`].
    pub(crate) fn of(dataplane: &Dataplane) -> Self {
        let mut in_use = Self::default();
        in_use.add(dataplane.flows());
        in_use.add(dataplane.flows6());
        in_use
    }

    fn add<F: Family>(&mut self, flows: &MappedFlows<F>) {
        let entries = flows.iter().flat_map(FlowSet::entries);
        for flow in entries.filter_map(FlowEntry::snapshot) {
            self.services.insert(flow.service.into());
            self.servers.insert(flow.backend.into());
        }
    }
}

/// Numbers of one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Numbered {
    /// [`Service::id`](lb_ebpf::abi::Service::id).
    pub(crate) id: u16,
    /// Of each of its servers, the index in `BACKENDS`.
    pub(crate) servers: Vec<u32>,
}

/// Everybody's numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Numbers {
    /// In the order of the configuration.
    pub(crate) services: Vec<Numbered>,
    /// Servers that have left the configuration, but not all of their flows: index, service, address.
    pub(crate) retired: BTreeMap<u32, (u16, SocketAddr)>,
}

/// No number is left.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("its flows still have the numbers of too many {0} that the configuration no longer names")]
pub(crate) struct Exhausted(&'static str);

impl Numbers {
    /// Gives every service and server its number.
    pub(crate) fn assign(
        before: &Before,
        in_use: &InUse,
        services: &[&DesiredService],
    ) -> Result<Self, Exhausted> {
        let taken: BTreeSet<_> = before.services.values().copied().collect();
        let limit = u16::try_from(SERVICE_IDS).unwrap_or(u16::MAX);
        let mut free_ids =
            (0..limit).filter(|id| !taken.contains(id) && !in_use.services.contains(id));
        let taken: BTreeSet<_> = before.servers.values().copied().collect();
        let mut free_indices = (0..BACKEND_IDS)
            .filter(|index| !taken.contains(index) && !in_use.servers.contains(index));
        let mut numbers = Self::default();
        for service in services {
            let known = before.services.get(&(service.listen, service.protocol));
            let id = known.copied().or_else(|| free_ids.next());
            let id = id.ok_or(Exhausted("services"))?;
            let mut servers = Vec::new();
            for server in &service.servers {
                let known = before.servers.get(&(id, server.address));
                let index = known.copied().or_else(|| free_indices.next());
                servers.push(index.ok_or(Exhausted("servers"))?);
            }
            numbers.services.push(Numbered { id, servers });
        }
        numbers.retire(before, in_use);
        Ok(numbers)
    }

    /// Notes who has left flows behind in a service that is still there. Those of other services end at once.
    fn retire(&mut self, before: &Before, in_use: &InUse) {
        for (&(service, address), &index) in &before.servers {
            let Some(numbered) = self.services.iter().find(|known| known.id == service) else {
                continue;
            };
            if !numbered.servers.contains(&index) && in_use.servers.contains(&index) {
                self.retired.insert(index, (service, address));
            }
        }
    }
}

#[cfg(test)]
mod tests;
