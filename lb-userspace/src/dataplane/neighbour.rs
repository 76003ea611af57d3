//! Next hops: from a server's address to the interface and the two hardware addresses that a
//! forwarded frame needs.
//!
//! The kernel stays the owner of routes and neighbours; this module only asks it (rtnetlink) and
//! asks again, so that a changed route or a replaced network card is followed. It never writes a
//! permanent neighbour entry: `NTF_USE` makes the kernel resolve one as if a packet had been sent,
//! and leaves nothing behind when the daemon is killed.
//! Called by the control loop only.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::{StreamExt, TryStreamExt};
use rtnetlink::packet_route::{
    AddressFamily,
    link::{InfoKind, LinkAttribute, LinkInfo},
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourState},
    route::{RouteAddress, RouteAttribute},
};
use rtnetlink::{Handle, RouteMessageBuilder};

/// Where a frame for a server leaves this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NextHop {
    /// Interface towards the server: a kernel index, or what control has made of it
    /// ([`LINK_VLAN`](lb_ebpf::abi::LINK_VLAN)).
    pub(crate) link: u32,
    /// That interface's hardware address.
    pub(crate) source_mac: [u8; 6],
    /// Hardware address of the server or of the router towards it.
    pub(crate) destination_mac: [u8; 6],
    /// Address of the one whose hardware address it is.
    pub(crate) neighbour: IpAddr,
    /// The host's own address towards the server, for packets that it is the sender of.
    pub(crate) source: IpAddr,
    /// Greatest IP packet that the interface takes, in bytes.
    pub(crate) mtu: u16,
}

/// What the data path must know of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    /// A veth, whose frames may have come from this machine without a full checksum.
    pub(crate) kind_is_veth: bool,
    /// Bytes of an IP packet at most.
    pub(crate) mtu: u32,
}

/// Why a server has no next hop (yet).
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoNextHop {
    /// The kernel has no route.
    #[error("no route to {0}: add one, or correct the server's address")]
    NoRoute(IpAddr),
    /// The address is one of this host's own: there is no wire to forward to.
    #[error("{0} is an address of this host; an l4 service needs servers on other hosts")]
    Local(IpAddr),
    /// Direct server return does not cross routers.
    #[error(
        "{0} is behind the router {1}; forward = \"dsr\" needs servers on a link of this host, so take \"ipip\" or \"gue\""
    )]
    NotOnLink(IpAddr, IpAddr),
    /// The neighbour has not answered yet, or failed.
    #[error("neighbour {next_hop} on interface {ifindex} does not answer (state {state:?})")]
    Unresolved {
        /// The address that was asked for.
        next_hop: IpAddr,
        /// Interface on which it was asked.
        ifindex: u32,
        /// The kernel's neighbour state.
        state: NeighbourState,
    },
    /// The interface has no Ethernet address.
    #[error("interface {0} has no Ethernet address; an l4 service forwards Ethernet frames only")]
    NotEthernet(u32),
    /// rtnetlink failed.
    #[error("rtnetlink: {0}")]
    Netlink(#[from] rtnetlink::Error),
}

/// The kernel's way to an address.
struct Route {
    ifindex: u32,
    /// The address itself, or the router's.
    next_hop: IpAddr,
    source: IpAddr,
}

fn address(found: &RouteAddress) -> Option<IpAddr> {
    match found {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}

/// Asks the kernel through one rtnetlink socket.
pub(crate) struct Resolver {
    pub(super) handle: Handle,
}

impl Resolver {
    /// Opens the socket; its driver runs as a task of the current tokio runtime and ends with the
    /// resolver.
    pub(crate) fn new() -> std::io::Result<Self> {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// Finds the next hop towards `server`, and makes the kernel (re)confirm the neighbour when it
    /// is not known to be reachable just now.
    pub(crate) async fn resolve(&self, server: IpAddr) -> Result<NextHop, NoNextHop> {
        let Route {
            ifindex,
            next_hop,
            source,
        } = self.route(server).await?;
        let source_mac = self.link_address(ifindex).await?;
        let mtu = self.link(ifindex).await?.mtu;
        let (state, mac) = self.neighbour(ifindex, next_hop).await?;
        if !matches!(
            state,
            NeighbourState::Reachable | NeighbourState::Permanent | NeighbourState::Noarp
        ) {
            self.solicit(ifindex, next_hop).await?;
        }
        match (state, mac) {
            // A failed entry may still carry the address that stopped answering.
            (NeighbourState::Failed | NeighbourState::Incomplete, _) | (_, None) => {
                Err(NoNextHop::Unresolved {
                    next_hop,
                    ifindex,
                    state,
                })
            }
            (_, Some(destination_mac)) => Ok(NextHop {
                link: ifindex,
                source_mac,
                destination_mac,
                neighbour: next_hop,
                source,
                // No IP packet is longer.
                mtu: u16::try_from(mtu).unwrap_or(u16::MAX),
            }),
        }
    }

    async fn route(&self, server: IpAddr) -> Result<Route, NoNextHop> {
        use rtnetlink::packet_route::route::RouteType;
        let query = match server {
            IpAddr::V4(server) => RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(server, 32)
                .build(),
            IpAddr::V6(server) => RouteMessageBuilder::<Ipv6Addr>::new()
                .destination_prefix(server, 128)
                .build(),
        };
        // ENETUNREACH arrives as an error of the first item.
        let Ok(Some(route)) = self.handle.route().get(query).execute().try_next().await else {
            return Err(NoNextHop::NoRoute(server));
        };
        if route.header.kind == RouteType::Local {
            return Err(NoNextHop::Local(server));
        }
        let (mut ifindex, mut source) = (None, None);
        let mut next_hop = server;
        for attribute in &route.attributes {
            match attribute {
                RouteAttribute::Oif(index) => ifindex = Some(*index),
                RouteAttribute::Gateway(gateway) => next_hop = address(gateway).unwrap_or(next_hop),
                RouteAttribute::PrefSource(preferred) => source = address(preferred),
                _ => {}
            }
        }
        match (ifindex, source) {
            (Some(ifindex), Some(source)) => Ok(Route {
                ifindex,
                next_hop,
                source,
            }),
            // The kernel names the source that it would take itself; a host without any can send nothing.
            _ => Err(NoNextHop::NoRoute(server)),
        }
    }

    /// Looks an interface up.
    pub(crate) async fn link(&self, ifindex: u32) -> Result<Link, rtnetlink::Error> {
        let link = self
            .handle
            .link()
            .get()
            .match_index(ifindex)
            .execute()
            .try_next()
            .await?;
        let mut found = Link {
            kind_is_veth: false,
            mtu: 1500,
        };
        for attribute in link.into_iter().flat_map(|link| link.attributes) {
            match attribute {
                LinkAttribute::Mtu(mtu) => found.mtu = mtu,
                LinkAttribute::LinkInfo(infos) => {
                    found.kind_is_veth = infos.contains(&LinkInfo::Kind(InfoKind::Veth));
                }
                _ => {}
            }
        }
        Ok(found)
    }

    async fn link_address(&self, ifindex: u32) -> Result<[u8; 6], NoNextHop> {
        let link = self
            .handle
            .link()
            .get()
            .match_index(ifindex)
            .execute()
            .try_next()
            .await?;
        link.into_iter()
            .flat_map(|link| link.attributes)
            .find_map(|attribute| match attribute {
                LinkAttribute::Address(bytes) => <[u8; 6]>::try_from(bytes).ok(),
                _ => None,
            })
            .ok_or(NoNextHop::NotEthernet(ifindex))
    }

    async fn neighbour(
        &self,
        ifindex: u32,
        next_hop: IpAddr,
    ) -> Result<(NeighbourState, Option<[u8; 6]>), NoNextHop> {
        let (family, wanted) = match next_hop {
            IpAddr::V4(next_hop) => (AddressFamily::Inet, NeighbourAddress::Inet(next_hop)),
            IpAddr::V6(next_hop) => (AddressFamily::Inet6, NeighbourAddress::Inet6(next_hop)),
        };
        let wanted = NeighbourAttribute::Destination(wanted);
        let request = self.handle.neighbours().get().set_address_family(family);
        let mut entries = std::pin::pin!(request.execute());
        let mut found = (NeighbourState::None, None);
        // The dump is read to its end: an abandoned one would leave answers in the socket.
        while let Some(entry) = entries.next().await {
            let entry = entry?;
            if entry.header.ifindex != ifindex || !entry.attributes.contains(&wanted) {
                continue;
            }
            let mac = entry
                .attributes
                .iter()
                .find_map(|attribute| match attribute {
                    NeighbourAttribute::LinkLayerAddress(bytes) => bytes.as_slice().try_into().ok(),
                    _ => None,
                });
            found = (entry.header.state, mac);
        }
        Ok(found)
    }

    async fn solicit(&self, ifindex: u32, next_hop: IpAddr) -> Result<(), NoNextHop> {
        let request = self
            .handle
            .neighbours()
            .add(ifindex, next_hop)
            .state(NeighbourState::None)
            .flags(NeighbourFlags::Use)
            .replace();
        Ok(request.execute().await?)
    }
}
