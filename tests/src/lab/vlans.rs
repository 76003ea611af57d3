//! The same lab in VLANs: every address moves from its interface to VLAN devices on it. What only some tests need.
//!
//! ```text
//! lb-eth0 ─ lb-tag ═════ lb-tag ─ lb-front   lb-back ─ lb-outer ─ lb-tag ═════ lb-tag ─ lb-outer ─ lb-eth0
//!             VLAN 10 between client and edge          VLAN 20 in service VLAN 40 between edge and pool
//! ```

use std::net::Ipv4Addr;

use anyhow::Result;

use super::{Namespace, Size, ip, run};
use crate::address::{
    CLIENT, CLIENT_EXTRA, EDGE_BACK, EDGE_FRONT, PREFIX, PREFIX6, SNAT, VIP_HTTP, VIP_SMTP, ipv6,
    server,
};

/// Whether the kernel has VLAN devices; once it has, it has this directory.
pub(super) fn are_there() -> bool {
    // What it needs for them it loads when the first one is made, if it has it as a module.
    let _ = run("modprobe", &["-q", "8021q"]);
    std::path::Path::new("/proc/net/vlan").exists()
}

/// Moves all addresses; those of IPv6 too, if the lab speaks it.
pub(super) fn enter(size: Size, with_ipv6: bool) -> Result<()> {
    let (client, edge) = (Namespace::client(), Namespace::edge());
    let [a, b, c, _] = CLIENT.octets();
    let more_clients = CLIENT_EXTRA.map(|last| (Ipv4Addr::new(a, b, c, last), Width::Net));
    let more_clients: Vec<_> = more_clients.collect();
    let front = [
        (EDGE_FRONT, Width::Net),
        (VIP_HTTP, Width::Host),
        (VIP_SMTP, Width::Host),
    ];
    let back = [(EDGE_BACK, Width::Net), (SNAT, Width::Host)];
    let one = |namespace, base| tag(namespace, base, "lb-tag", "802.1Q", 10);
    one(&client, "lb-eth0")?;
    one(&edge, "lb-front")?;
    // Every link takes one tag beside its MTU; for the second it must be told that there is more.
    longer(&edge, "lb-back")?;
    longer(&Namespace::switch(), "lb-up")?;
    for number in 1..=size.servers {
        longer(&Namespace::switch(), &format!("lb-port{number}"))?;
        longer(&Namespace::pool(number), "lb-eth0")?;
    }
    longer(&Namespace::switch(), "lb-bridge")?;
    two(&edge, "lb-back", "lb-rear")?;
    move_addresses(&edge, "lb-front", "lb-tag", &front, with_ipv6)?;
    move_addresses(&edge, "lb-back", "lb-rear", &back, with_ipv6)?;
    let first_client = [(CLIENT, Width::Net)];
    move_addresses(&client, "lb-eth0", "lb-tag", &first_client, with_ipv6)?;
    // Only of IPv4, as without VLANs: IPv6 would speak from whichever of several came last.
    move_addresses(&client, "lb-eth0", "lb-tag", &more_clients, false)?;
    route(&client, EDGE_FRONT, with_ipv6)?;
    for number in 1..=size.servers {
        let pool = Namespace::pool(number);
        two(&pool, "lb-eth0", "lb-tag")?;
        let own = [(server(number), Width::Net)];
        move_addresses(&pool, "lb-eth0", "lb-tag", &own, with_ipv6)?;
        route(&pool, EDGE_BACK, with_ipv6)?;
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Width {
    Net,
    Host,
}

fn longer(namespace: &Namespace, interface: &str) -> Result<()> {
    let within = namespace.name();
    ip(&format_args!("-n {within} link set {interface} mtu 1504")).map(drop)
}

/// A device for VLAN 20 in service VLAN 40, for packets as long as on the other side.
fn two(namespace: &Namespace, base: &str, name: &str) -> Result<()> {
    tag(namespace, base, "lb-outer", "802.1ad", 40)?;
    tag(namespace, "lb-outer", name, "802.1Q", 20)?;
    let within = namespace.name();
    ip(&format_args!("-n {within} link set {name} mtu 1500")).map(drop)
}

fn tag(namespace: &Namespace, base: &str, name: &str, protocol: &str, id: u16) -> Result<()> {
    let within = namespace.name();
    // A veth sender keeps a tag beside the frame, where an XDP program at the other end does not see it.
    run(
        "nsenter",
        &[
            &format!("--net=/run/netns/{within}"),
            "--",
            "ethtool",
            "-K",
            base,
            "txvlan",
            "off",
            "tx-vlan-stag-hw-insert",
            "off",
        ],
    )?;
    ip(&format_args!(
        "-n {within} link add link {base} name {name} type vlan proto {protocol} id {id}"
    ))?;
    ip(&format_args!("-n {within} link set {name} up")).map(drop)
}

fn move_addresses(
    namespace: &Namespace,
    from: &str,
    to: &str,
    addresses: &[(Ipv4Addr, Width)],
    with_ipv6: bool,
) -> Result<()> {
    let within = namespace.name();
    ip(&format_args!("-n {within} address flush dev {from}"))?;
    for (address, width) in addresses {
        let (prefix, prefix6) = match width {
            Width::Net => (PREFIX, PREFIX6),
            Width::Host => (32, 128),
        };
        ip(&format_args!(
            "-n {within} address add {address}/{prefix} dev {to}"
        ))?;
        if with_ipv6 {
            let address = ipv6(*address);
            ip(&format_args!(
                "-n {within} address add {address}/{prefix6} dev {to} nodad"
            ))?;
        }
    }
    Ok(())
}

/// Flushing addresses took the way out away.
fn route(namespace: &Namespace, gateway: Ipv4Addr, with_ipv6: bool) -> Result<()> {
    let within = namespace.name();
    ip(&format_args!(
        "-n {within} route replace default via {gateway}"
    ))?;
    if with_ipv6 {
        let gateway = ipv6(gateway);
        ip(&format_args!(
            "-n {within} -6 route replace default via {gateway}"
        ))?;
    }
    Ok(())
}
