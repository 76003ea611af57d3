//! IPv6 in the lab, and virtual addresses on servers: what only some tests need, added to a lab that is up.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context as _, Result};

use super::{Namespace, Size, ip, run};
use crate::address::{
    CLIENT, EDGE_BACK, EDGE_FRONT, PREFIX6, SNAT, VIP_HTTP, VIP_SMTP, ipv6, server,
};

pub(super) fn add(size: Size) -> Result<()> {
    let (client, edge) = (Namespace::client(), Namespace::edge());
    enable(&client, &["lb-eth0"])?;
    enable(&edge, &["lb-front", "lb-back"])?;
    sysctl(&edge, "net/ipv6/conf/all/forwarding", "1")?;
    address(&client, "lb-eth0", CLIENT, PREFIX6)?;
    address(&edge, "lb-front", EDGE_FRONT, PREFIX6)?;
    address(&edge, "lb-back", EDGE_BACK, PREFIX6)?;
    for virtual_address in [VIP_HTTP, VIP_SMTP] {
        address(&edge, "lb-front", virtual_address, 128)?;
    }
    address(&edge, "lb-back", SNAT, 128)?;
    route(&client, EDGE_FRONT)?;
    for number in 1..=size.servers {
        let pool = Namespace::pool(number);
        enable(&pool, &["lb-eth0"])?;
        address(&pool, "lb-eth0", server(number), PREFIX6)?;
        route(&pool, EDGE_BACK)?;
    }
    Ok(())
}

pub(super) fn own(number: u8, address: IpAddr) -> Result<()> {
    let pool = &Namespace::pool(number);
    // What arrives in a tunnel shall be what was sent: merged segments have no checksum that an unwrapper could pass on,
    // and the kernel merges in IPIP whether it can unwrap it or not.
    let port = format!("lb-port{number}");
    offloads(&Namespace::switch(), &port, &["tx", "off", "gso", "off"])?;
    offloads(pool, "lb-eth0", &["gro", "off"])?;
    let prefix = if address.is_ipv4() { 32 } else { 128 };
    if address.is_ipv6() {
        enable(pool, &["lo"])?;
    }
    // Of its loopback, so that it answers nobody who asks the link for the address.
    sysctl(pool, "net/ipv4/conf/all/arp_ignore", "1")?;
    sysctl(pool, "net/ipv4/conf/all/arp_announce", "2")?;
    ip(&format_args!(
        "-n {} address add {address}/{prefix} dev lo",
        pool.name()
    ))?;
    // The edge is the pool's router as well, and sees answers from an address of its own: on a real network another
    // router carries them.
    let edge = Namespace::edge();
    // Of every interface: in VLANs it is not `lb-back` that has the address.
    sysctl(&edge, "net/ipv4/conf/all/accept_local", "1")?;
    for interface in ["all", "lb-back"] {
        sysctl(&edge, &format!("net/ipv4/conf/{interface}/rp_filter"), "0")?;
    }
    for interface in ["all", "default", "lb-eth0"] {
        sysctl(pool, &format!("net/ipv4/conf/{interface}/rp_filter"), "0")?;
    }
    Ok(())
}

fn enable(namespace: &Namespace, interfaces: &[&str]) -> Result<()> {
    for interface in ["all", "default"].iter().chain(interfaces) {
        for (key, value) in [
            ("disable_ipv6", "0"),
            ("accept_dad", "0"),
            ("accept_ra", "0"),
        ] {
            sysctl(
                namespace,
                &format!("net/ipv6/conf/{interface}/{key}"),
                value,
            )?;
        }
    }
    Ok(())
}

fn address(namespace: &Namespace, interface: &str, address: Ipv4Addr, prefix: u8) -> Result<()> {
    ip(&format_args!(
        "-n {} address add {}/{prefix} dev {interface} nodad",
        namespace.name(),
        ipv6(address)
    ))
    .map(drop)
}

fn route(namespace: &Namespace, gateway: Ipv4Addr) -> Result<()> {
    ip(&format_args!(
        "-n {} -6 route add default via {}",
        namespace.name(),
        ipv6(gateway)
    ))
    .map(drop)
}

fn offloads(namespace: &Namespace, interface: &str, settings: &[&str]) -> Result<()> {
    let path = format!("--net=/run/netns/{}", namespace.name());
    let command = [path.as_str(), "--", "ethtool", "-K", interface];
    run("nsenter", &[&command, settings].concat()).map(drop)
}

fn sysctl(namespace: &Namespace, key: &str, value: &str) -> Result<()> {
    let path = format!("/proc/sys/{key}");
    // The kernel shows a thread the settings of its own namespace.
    namespace
        .run(|| fs::write(&path, value))?
        .with_context(|| format!("setting {key} to {value} in {}", namespace.name()))
}
