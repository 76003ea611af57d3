//! Reads `servers`, and checks what must be true of servers and service together.

use std::net::SocketAddr;
use std::num::NonZeroU32;

use crate::error::Problem;
use crate::model::{Forward, Name, Server};
use crate::reader::{Node, Read, Report, Scope, Spot};
use crate::{MAX_SERVER_CONNECTIONS, MAX_WEIGHT, value};

/// A server with the places of what must be unique.
#[derive(Clone)]
pub(crate) struct Draft {
    /// As given: an address as a name can't clash with it.
    pub(crate) name: Option<Read<Name>>,
    pub(crate) address: Read<SocketAddr>,
    weight: Option<Read<u16>>,
    max_connections: Option<Read<Option<NonZeroU32>>>,
    backup: Option<Read<bool>>,
}

impl Draft {
    fn finish(self) -> Option<Server> {
        let address = self.address.value;
        let name = self.name.map(|name| name.value);
        Some(Server {
            name: name.unwrap_or_else(|| Name::of_address(address)),
            address,
            weight: self.weight?.value,
            max_connections: self.max_connections?.value,
            is_backup: self.backup?.value,
        })
    }

    /// Whether a route with this server may run out of room.
    pub(super) fn has_limit(&self) -> bool {
        let limit = self.max_connections.as_ref();
        // If it could not be read, that has been reported, and there was to be one.
        limit.is_none_or(|limit| limit.value.is_some())
    }

    /// Places of what only a proxy can do.
    fn proxied_only(&self) -> impl Iterator<Item = &Spot> {
        let limit = self.max_connections.iter();
        let limit = limit.filter_map(|limit| limit.value.map(|_| &limit.spot));
        let backup = self.backup.iter().filter(|backup| backup.value);
        limit.chain(backup.map(|backup| &backup.spot))
    }

    pub(super) fn is_backup(&self) -> bool {
        self.backup.as_ref().is_some_and(|backup| backup.value)
    }
}

/// The servers of a route or a service, as far as they could be read; `None` if there is no list of them.
pub(super) fn list(scope: Scope<'_, '_>) -> Option<Vec<Draft>> {
    let servers = scope.required(
        "servers",
        "for example servers = [\"10.203.2.11:443\"]",
        |node| {
            node.list(
                "a list of at least one server, such as [\"10.203.2.11:443\"]",
                server,
            )
        },
    )?;
    Some(servers.into_iter().map(|server| server.value).collect())
}

/// The servers that could be read whole. What is missing has been reported, and so nobody will use the rest.
pub(super) fn finish(drafts: &[Draft]) -> Vec<Server> {
    let drafts = drafts.iter().cloned();
    drafts.filter_map(Draft::finish).collect()
}

fn server(node: &Node<'_>) -> Option<Draft> {
    if node.is_string() {
        let address = Read {
            value: value::endpoint(node)?,
            spot: node.spot.clone(),
        };
        let spot = &node.spot;
        return Some(Draft {
            name: None,
            address,
            weight: Some(spot.with(1)),
            max_connections: Some(spot.with(None)),
            backup: Some(spot.with(false)),
        });
    }
    let expected = "an address such as \"10.203.2.11:443\", or a table such as \
                    { address = \"10.203.2.11:443\", weight = 2, name = \"ex1\" }";
    let keys = &["address", "weight", "name", "max_connections", "backup"];
    let table = node.table(expected, keys)?;
    let example = "for example address = \"10.203.2.11:443\"";
    let address = table.required("address", example, value::endpoint);
    let weight = table.optional("weight", 1, |node| {
        let weight = node.number(0..=MAX_WEIGHT)?;
        u16::try_from(weight).ok()
    });
    let weight = table.at("weight", weight);
    let limit = table.optional("max_connections", None, |node| {
        node.count(MAX_SERVER_CONNECTIONS).map(Some)
    });
    let backup = table.optional("backup", false, Node::boolean);
    let name = table.get("name").and_then(|node| value::name(&node));
    let address = table.at("address", address)?;
    let name = table.at("name", name);
    Some(Draft {
        name,
        address,
        weight,
        max_connections: table.at("max_connections", limit),
        backup: table.at("backup", backup),
    })
}

/// What must be true of the servers of a service with `mode = "l4"`: they get the client's packets.
pub(super) fn check_forwarded(
    report: &Report<'_>,
    listen: SocketAddr,
    forward: Forward,
    servers: &[Draft],
) {
    for server in servers {
        let (address, spot) = (server.address.value, &server.address.spot);
        if address.is_ipv6() != listen.is_ipv6() {
            let clash = format!(
                "{address} and the service's {listen} are of different families, and addresses are not translated \
                 from one to the other; give an address of the same, or take mode = \"http\""
            );
            report.error(spot, Problem::Contradiction(clash));
        }
        for spot in server.proxied_only() {
            let clash = "is for services that we proxy or relay, and in mode = \"l4\" packets pass us by; remove it";
            report.error(spot, Problem::Contradiction(clash.to_owned()));
        }
        let keeps_port = matches!(forward, Forward::Dsr | Forward::Ipip | Forward::Gue);
        if keeps_port && address.port() != listen.port() {
            let clash = format!(
                "forward = \"{}\" leaves the port as it is, so the server must listen on {} and not on {}; \
                 change one of the two, or take forward = \"nat\"",
                forward.name(),
                listen.port(),
                address.port()
            );
            report.error(spot, Problem::Contradiction(clash));
        }
    }
}

/// What must be true of the servers of a service with `mode = "http"`: a proxy has connections of its own to each.
pub(super) fn check_proxied(report: &Report<'_>, servers: &[Draft]) {
    for weight in servers.iter().filter_map(|server| server.weight.as_ref()) {
        if weight.value == 0 {
            let clash =
                "0 drains a server of mode = \"l4\"; in mode = \"http\" remove the server instead";
            report.error(&weight.spot, Problem::Contradiction(clash.to_owned()));
        }
    }
}

/// A route needs a server that is no backup.
pub(super) fn check_backups(scope: Scope<'_, '_>, servers: &[Draft]) {
    let Some(Some(first)) = servers.first().map(|server| server.backup.as_ref()) else {
        return;
    };
    if servers.iter().all(Draft::is_backup) {
        let clash =
            "all servers of the route are backups, and so none is; take backup from one of them";
        scope
            .report()
            .error(&first.spot, Problem::Contradiction(clash.to_owned()));
    }
}
