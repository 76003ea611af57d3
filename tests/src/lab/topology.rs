//! Makes the lab's namespaces, links, addresses and settings; each setting says why it is needed.
//!
//! Invariant: nothing outside the lab's namespaces is changed: links are created inside them.
//! Called by `Lab::up` only, on a machine without leftovers.

use std::fs;

use anyhow::{Context as _, Result};

use super::{Namespace, Size, ip, run};
use crate::address::{
    CLIENT, CLIENT_EXTRA, EDGE_BACK, EDGE_FRONT, PREFIX, SNAT, VIP_HTTP, VIP_SMTP, server,
};

pub(super) fn build(size: Size) -> Result<()> {
    let (client, edge, switch) = (Namespace::client(), Namespace::edge(), Namespace::switch());
    for namespace in [&client, &edge, &switch] {
        create(namespace)?;
    }
    build_client_side(&client, &edge, size.queues)?;
    build_switch(&edge, &switch, size.queues)?;
    for number in 1..=size.servers {
        build_server(number, &switch, size.queues)?;
    }

    // The edge host routes between its two sides, as the default gateway of the pool: a server that sees
    // the client's address answers through it, and a direct run needs a way past the load balancer.
    sysctl(&edge, "net/ipv4/ip_forward", "1")?;
    // wrk with a connection per request, and proxies that dial the pool for each, leave tens of thousands of ports
    // in TIME_WAIT; the narrow default range would turn such a benchmark into a wait for ports.
    for namespace in [&client, &edge] {
        sysctl(namespace, "net/ipv4/ip_local_port_range", "1024 65535")?;
        sysctl(namespace, "net/ipv4/tcp_tw_reuse", "1")?;
    }
    Ok(())
}

fn create(namespace: &Namespace) -> Result<()> {
    ip(&format_args!("netns add {}", namespace.name()))?;
    // The lab speaks IPv4 only: no duplicate address detection, no router solicitations in a packet count.
    sysctl(namespace, "net/ipv6/conf/all/disable_ipv6", "1")?;
    sysctl(namespace, "net/ipv6/conf/default/disable_ipv6", "1")?;
    // A new namespace has its loopback down; health endpoints and resolvers expect it.
    ip(&format_args!("-n {} link set lo up", namespace.name())).map(drop)
}

fn build_client_side(client: &Namespace, edge: &Namespace, queues: u8) -> Result<()> {
    let inside = Interface {
        namespace: client,
        name: "lb-eth0",
    };
    let front = Interface {
        namespace: edge,
        name: "lb-front",
    };
    link(inside, front, queues)?;
    outside_of_edge(inside)?;
    add_address(inside, CLIENT, PREFIX)?;
    let [a, b, c, _] = CLIENT.octets();
    for last in CLIENT_EXTRA {
        add_address(inside, [a, b, c, last].into(), PREFIX)?;
    }
    add_address(front, EDGE_FRONT, PREFIX)?;
    // Virtual addresses are the edge's own, so that its kernel answers ARP for them and a worker can
    // listen on them with kernel sockets. One host each: they must not become source addresses.
    add_address(front, VIP_HTTP, 32)?;
    add_address(front, VIP_SMTP, 32)?;
    ip(&format_args!(
        "-n {} route add default via {EDGE_FRONT}",
        client.name()
    ))
    .map(drop)
}

fn build_switch(edge: &Namespace, switch: &Namespace, queues: u8) -> Result<()> {
    // No spanning tree: a port must forward at once, and there is no loop.
    ip(&format_args!(
        "-n {} link add {BRIDGE} type bridge stp_state 0",
        switch.name()
    ))?;
    ip(&format_args!("-n {} link set {BRIDGE} up", switch.name()))?;
    let back = Interface {
        namespace: edge,
        name: "lb-back",
    };
    let uplink = Interface {
        namespace: switch,
        name: "lb-up",
    };
    link(back, uplink, queues)?;
    outside_of_edge(uplink)?;
    join_bridge(uplink)?;
    add_address(back, EDGE_BACK, PREFIX)?;
    // Ours for ARP; one host, so that the edge's kernel doesn't dial from it and take its ports.
    add_address(back, SNAT, 32)
}

fn build_server(number: u8, switch: &Namespace, queues: u8) -> Result<()> {
    let pool = Namespace::pool(number);
    create(&pool)?;
    let port = format!("lb-port{number}");
    let port = Interface {
        namespace: switch,
        name: &port,
    };
    let inside = Interface {
        namespace: &pool,
        name: "lb-eth0",
    };
    link(inside, port, queues)?;
    join_bridge(port)?;
    outside_of_edge(inside)?;
    add_address(inside, server(number), PREFIX)?;
    ip(&format_args!(
        "-n {} route add default via {EDGE_BACK}",
        pool.name()
    ))
    .map(drop)
}

#[derive(Clone, Copy)]
struct Interface<'a> {
    namespace: &'a Namespace,
    name: &'a str,
}

fn link(a: Interface<'_>, b: Interface<'_>, queues: u8) -> Result<()> {
    // Both ends alike: native XDP on veth refuses a peer that has more transmit queues than we have receive queues.
    let counts = format!("numrxqueues {queues} numtxqueues {queues}");
    ip(&format_args!(
        "link add {} netns {} {counts} type veth peer name {} netns {} {counts}",
        a.name,
        a.namespace.name(),
        b.name,
        b.namespace.name(),
    ))?;
    for end in [a, b] {
        ip(&format_args!(
            "-n {} link set {} up",
            end.namespace.name(),
            end.name
        ))?;
    }
    Ok(())
}

/// Settings of an interface whose frames an XDP program on the edge receives, or that receives frames from one.
fn outside_of_edge(interface: Interface<'_>) -> Result<()> {
    let Interface { namespace, name } = interface;
    // tx off: a veth sender leaves the TCP checksum half done for "the hardware"; there is none before the XDP
    // program, which would rewrite an unfinished checksum. Turns TSO off as well, so no frame exceeds the MTU.
    // gro on: gives the receiving end a NAPI context, without which veth throws away frames that XDP_TX or
    // a redirect sends to it.
    run(
        "nsenter",
        &[
            &format!("--net=/run/netns/{}", namespace.name()),
            "--",
            "ethtool",
            "-K",
            name,
            "tx",
            "off",
            "gro",
            "on",
        ],
    )
    .map(drop)
}

fn join_bridge(port: Interface<'_>) -> Result<()> {
    ip(&format_args!(
        "-n {} link set {} master {BRIDGE}",
        port.namespace.name(),
        port.name
    ))
    .map(drop)
}

fn add_address(interface: Interface<'_>, address: std::net::Ipv4Addr, prefix: u8) -> Result<()> {
    let Interface { namespace, name } = interface;
    ip(&format_args!(
        "-n {} address add {address}/{prefix} dev {name}",
        namespace.name()
    ))
    .map(drop)
}

fn sysctl(namespace: &Namespace, key: &str, value: &str) -> Result<()> {
    let path = format!("/proc/sys/{key}");
    // The kernel shows a thread the settings of its own namespace.
    namespace
        .run(|| fs::write(&path, value))?
        .with_context(|| format!("setting {key} to {value} in {}", namespace.name()))
}

const BRIDGE: &str = "lb-bridge";
