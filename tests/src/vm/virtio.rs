//! The machine's network cards in the place of two of the lab's virtual cables: client to edge, edge to switch.
//!
//! ```text
//! lb-client lb-eth0 = card 1 ═╗                              ╔═ card 3 = lb-back  lb-edge
//!                             ╠ a switch outside the machine ╣
//! lb-edge  lb-front = card 2 ═╝   (one for each pair)        ╚═ card 4 = lb-up   lb-switch
//! ```
//!
//! Invariant: names and addresses are as in the lab, so that everything else works unchanged.
//! Not here: cards and switches themselves (xtask); the cards are known by their hardware addresses.

use std::{fs, net::Ipv4Addr};

use anyhow::{Context as _, Result, bail};

use super::run;
use crate::{
    address::{CLIENT, CLIENT_EXTRA, EDGE_BACK, EDGE_FRONT, PREFIX, SNAT, VIP_HTTP, VIP_SMTP},
    lab::Namespace,
};

/// Hardware address of the card with a number from 1 to 4; locally administered. xtask gives them out.
fn hardware_address(card: u8) -> String {
    format!("52:54:00:cb:00:{card:02x}")
}

/// Removes the two cables of a lab that is up and puts the cards there.
pub(super) fn replace_links() -> Result<()> {
    let (client, edge, switch) = (Namespace::client(), Namespace::edge(), Namespace::switch());
    // The other ends go with them, and all addresses and routes.
    ip(&format!("-n {} link del lb-front", edge.name()))?;
    ip(&format!("-n {} link del lb-back", edge.name()))?;

    let [a, b, c, _] = CLIENT.octets();
    let extra = CLIENT_EXTRA.map(|last| (Ipv4Addr::new(a, b, c, last), PREFIX));
    let clients: Vec<_> = std::iter::once((CLIENT, PREFIX)).chain(extra).collect();
    place(1, &client, "lb-eth0", &clients)?;
    let front = [(EDGE_FRONT, PREFIX), (VIP_HTTP, 32), (VIP_SMTP, 32)];
    place(2, &edge, "lb-front", &front)?;
    place(3, &edge, "lb-back", &[(EDGE_BACK, PREFIX), (SNAT, 32)])?;
    place(4, &switch, "lb-up", &[])?;
    ip(&format!(
        "-n {} link set lb-up master lb-bridge",
        switch.name()
    ))?;
    ip(&format!(
        "-n {} route add default via {EDGE_FRONT}",
        client.name()
    ))
}

/// Leaves one queue to the edge's cards.
pub(super) fn use_one_queue() -> Result<()> {
    let inside = format!("--net=/run/netns/{}", Namespace::edge().name());
    for card in ["lb-front", "lb-back"] {
        let command = ["--", "ethtool", "-L", card, "combined", "1"];
        run("nsenter", [inside.as_str()].into_iter().chain(command))?;
    }
    Ok(())
}

/// Moves a card into a namespace, names it, and brings it up with its addresses.
fn place(card: u8, namespace: &Namespace, name: &str, addresses: &[(Ipv4Addr, u8)]) -> Result<()> {
    let found = interface(&hardware_address(card))?;
    let namespace = namespace.name();
    ip(&format!("link set {found} netns {namespace} name {name}"))?;
    for (address, prefix) in addresses {
        ip(&format!(
            "-n {namespace} address add {address}/{prefix} dev {name}"
        ))?;
    }
    ip(&format!("-n {namespace} link set {name} up"))
}

/// Name of the interface with this hardware address.
fn interface(wanted: &str) -> Result<String> {
    for entry in fs::read_dir("/sys/class/net").context("listing interfaces")? {
        let entry = entry?;
        let address = fs::read_to_string(entry.path().join("address")).unwrap_or_default();
        if address.trim_end() == wanted {
            return Ok(entry.file_name().to_string_lossy().into_owned());
        }
    }
    bail!("no network card has the address {wanted}")
}

/// How many receive queues of an interface of the edge carried packets for the XDP program, and how many
/// there are.
pub(super) fn queues_with_traffic(interface: &str) -> Result<(usize, usize)> {
    let inside = format!("--net=/run/netns/{}", Namespace::edge().name());
    let text = run("nsenter", [&inside, "--", "ethtool", "-S", interface])?;
    let packets: Vec<u64> = text.lines().filter_map(received_by_xdp).collect();
    let used = packets.iter().filter(|packets| **packets > 0).count();
    Ok((used, packets.len()))
}

/// The count of one queue, in `rx_queue_0_xdp_packets: 5` (6.1) or `rx0_xdp_packets: 5` (6.12); newer kernels also
/// have the sum, `rx_xdp_packets`.
fn received_by_xdp(line: &str) -> Option<u64> {
    let (name, count) = line.trim().split_once(": ")?;
    let queue = name.strip_prefix("rx")?.strip_suffix("_xdp_packets")?;
    let number = queue.strip_prefix("_queue_").unwrap_or(queue);
    number.parse::<u32>().ok()?;
    count.parse().ok()
}

fn ip(line: &str) -> Result<()> {
    run("ip", line.split_whitespace())
        .map(drop)
        .with_context(|| format!("ip {line}"))
}

#[cfg(test)]
mod tests {
    use super::received_by_xdp;

    #[test]
    fn counters_of_both_namings_are_read() {
        let check = |line, expected| assert_eq!(received_by_xdp(line), expected, "{line}");
        check("     rx_queue_0_xdp_packets: 12", Some(12));
        check("     rx3_xdp_packets: 0", Some(0));
        check("     tx_queue_0_xdp_tx: 4", None);
        check("     rx_queue_0_packets: 7", None);
        check("     rx_xdp_packets: 12", None);
        check("NIC statistics:", None);
    }
}
