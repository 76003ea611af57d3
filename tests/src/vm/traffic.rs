//! Real connections through `lb run`: layer 4 with full NAT in the kernel, HTTP over `AF_XDP` sockets.
//!
//! Invariant: what is counted as passed was seen by a client and by a server, byte for byte.
//! Not here: the many properties that the tests of this host's kernel look at (`tests/l4.rs`, `tests/l7.rs`).

use std::{
    collections::BTreeSet,
    fs,
    net::{Ipv4Addr, SocketAddrV4},
};

use anyhow::{Context as _, Result, ensure};

use super::virtio;
use crate::{
    address::{CLIENT, CLIENT_EXTRA, SNAT, VIP_HTTP, VIP_SMTP, server},
    client::{self, Smtp},
    forwarding::{self, Family, Forward},
    world::{Balancer, World},
};

const SERVERS: u8 = 2;
const SMTP: SocketAddrV4 = SocketAddrV4::new(VIP_SMTP, 25);

/// More than any window of TCP, and its period is no power of two, so that a lost or doubled piece shows.
const BYTES: u32 = 300_007;
/// Connections of each of the client's addresses: enough for both servers and for every queue.
const ROUNDS: u8 = 4;

/// What came out of it.
pub(super) struct Outcome {
    /// Instructions that the verifier went through when it accepted the largest of the programs.
    pub(super) instructions: u64,
    /// What was carried, for people.
    pub(super) summary: String,
}

/// Between network namespaces, over pairs of virtual interfaces.
pub(super) fn over_veth() -> Result<Outcome> {
    let world = World::start(SERVERS)?;
    let mut balancer = balance(&world)?;
    let connections = converse(&mut balancer)?;
    Ok(Outcome {
        instructions: verified_instructions(balancer.id())?,
        summary: format!("{connections} connections by NAT, HTTP by AF_XDP"),
    })
}

/// The same, but to both sides of the edge through the virtual machine's network cards.
pub(super) fn over_virtio() -> Result<Outcome> {
    let world = World::start(SERVERS)?;
    virtio::replace_links()?;
    let mut balancer = balance(&world)?;
    let connections = converse(&mut balancer)?;
    let (used, queues) = virtio::queues_with_traffic("lb-front")?;
    ensure!(
        used > 1,
        "all {connections} connections came through one of {queues} queues"
    );
    let instructions = verified_instructions(balancer.id())?;
    balancer.stop()?;
    let pieces = in_super_segments(&world)?;
    Ok(Outcome {
        instructions,
        summary: format!(
            "{connections} connections by NAT, HTTP by AF_XDP, {used} of {queues} queues used; with one queue HTTP in {pieces} super-segments"
        ),
    })
}

/// HTTP through cards with one queue, by which segments may leave for the card to cut; how many did.
fn in_super_segments(world: &World) -> Result<u64> {
    virtio::use_one_queue()?;
    let mut balancer = balance(world)?;
    fetch(&mut balancer)?;
    let pieces = balancer.tcp("LbSuperSegments")?;
    ensure!(pieces > 0, "no super-segment left by the only queue");
    Ok(pieces)
}

/// With the client behind one VLAN tag and the servers behind two, as the kernel's own VLAN devices have it; in the modes
/// for which a server needs nothing but its kernel.
pub(super) fn over_vlans() -> Result<String> {
    for family in Family::ALL {
        for forward in [Forward::Nat, Forward::SourceKept, Forward::Dsr] {
            let done = forwarding::through_vlans(family, forward);
            done.with_context(|| format!("{family:?} {forward:?}"))?;
        }
    }
    Ok("TCP and UDP over IPv4 and IPv6, from one tag to two, by NAT and direct return".to_owned())
}

const HEALTH: &str = "{ kind = \"tcp\", interval = \"2s\", timeout = \"2s\", rise = 1, fall = 2 }";

fn servers(port: u16) -> String {
    let list: Vec<_> = (1..=SERVERS)
        .map(|number| format!("{}:{port}", server(number)))
        .collect();
    format!("{list:?}")
}

fn smtp_service() -> String {
    format!(
        "[nat]\naddresses = [\"{SNAT}\"]\nports = \"1024-65535\"\n\n\
         [[service]]\nname = \"smtp\"\nlisten = \"{VIP_SMTP}:25\"\nmode = \"l4\"\nsource = \"nat\"\n\
         servers = {}\nhealth = {HEALTH}\n\n",
        servers(25)
    )
}

fn balance(world: &World) -> Result<Balancer> {
    world.balance(&format!(
        "{}[[service]]\nname = \"exchange\"\nlisten = \"{VIP_HTTP}:80\"\nmode = \"http\"\n\
         profile = \"exchange\"\ntransport = \"af_xdp\"\nservers = {}\nhealth = {HEALTH}\n",
        smtp_service(),
        servers(80),
    ))
}

/// Talks to both services; the number of layer 4 connections.
fn converse(balancer: &mut Balancer) -> Result<usize> {
    let connections = converse_by_nat(balancer)?;
    fetch(balancer)?;
    Ok(connections)
}

/// Fetches a page from the HTTP service.
fn fetch(balancer: &mut Balancer) -> Result<()> {
    balancer.until_served(&format!("http://{VIP_HTTP}/owa/healthcheck.htm"))?;
    let (status, page) = client::fetch(&[], &format!("http://{VIP_HTTP}/bench/{BYTES}"))?;
    ensure!(
        (status, page.len()) == (200, BYTES as usize),
        "HTTP: status {status} and {} of {BYTES} bytes; log of lb:\n{}",
        page.len(),
        balancer.log()
    );
    Ok(())
}

/// Talks to the layer 4 service; the number of connections.
fn converse_by_nat(balancer: &mut Balancer) -> Result<usize> {
    let served = |balancer: &mut Balancer, name: &str| {
        balancer.eventually(&format!("{name} is served"), || {
            let smtp = Smtp::connect(CLIENT, SMTP);
            Ok(smtp.is_ok_and(|smtp| smtp.server() == Some(name)))
        })
    };
    served(balancer, "EX1")?;
    served(balancer, "EX2")?;
    let data: Vec<u8> = (0..BYTES).map(|place| (place % 251) as u8).collect();
    let mut connections = 0;
    let mut seen = BTreeSet::new();
    let [a, b, c, _] = CLIENT.octets();
    for last in CLIENT_EXTRA {
        for _ in 0..ROUNDS {
            let mut smtp = Smtp::connect(Ipv4Addr::new(a, b, c, last), SMTP)?;
            let peer = smtp.peer()?;
            ensure!(
                peer.ip() == SNAT,
                "the server sees {peer} instead of {SNAT}"
            );
            smtp.noop()?;
            seen.insert(smtp.server().map(str::to_owned));
            connections += 1;
        }
        let mut smtp = Smtp::connect(Ipv4Addr::new(a, b, c, last), SMTP)?;
        ensure!(smtp.echo(&data)? == data, "bytes came back changed");
        connections += 1;
    }
    ensure!(
        seen.len() == usize::from(SERVERS),
        "only {seen:?} of {SERVERS} servers got connections"
    );
    Ok(connections)
}

/// What the kernel says of the largest of the programs that a process holds (`verified_insns`, since 5.16).
fn verified_instructions(process: u32) -> Result<u64> {
    let directory = format!("/proc/{process}/fdinfo");
    let mut largest = None;
    for entry in fs::read_dir(&directory).with_context(|| format!("reading {directory}"))? {
        // Descriptors come and go while we look.
        let info = fs::read_to_string(entry?.path()).unwrap_or_default();
        let count = info
            .lines()
            .find_map(|line| line.strip_prefix("verified_insns:"));
        if let Some(count) = count {
            let count: u64 = count
                .trim()
                .parse()
                .with_context(|| format!("verified_insns is {count:?}"))?;
            largest = largest.max(Some(count));
        }
    }
    largest.context("lb holds no BPF program")
}
