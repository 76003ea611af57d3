//! The wires of a machine: a namespace with two switches of two ports, which leads nowhere.
//!
//! The ports are taps with as many queues as a card has, because of qemu's back ends only those can have several.
//! Not here: what is at the other ends (`lb_tests::vm::virtio`, which knows the cards by [`hardware_address`]).

use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::command::{self, as_root};

/// Its name on this host; there is one at a time.
const NAMESPACE: &str = "lb-vm";

/// Network cards of a machine; 1 and 2 are connected, 3 and 4 are.
pub(super) const CARDS: [u8; 4] = [1, 2, 3, 4];

/// Queues of each card: one for each processor, as machines usually have them. With more, virtio-net sets the
/// others aside to send for XDP, but receives on them as well, and what an `AF_XDP` socket of such a queue sends
/// never leaves (seen on 6.1: of four queues the last two answered no client).
pub(super) const QUEUES: u8 = super::qemu::PROCESSORS;

/// Hardware address of a card.
pub(super) fn hardware_address(card: u8) -> String {
    format!("52:54:00:cb:00:{card:02x}")
}

/// Name of the tap of a card.
pub(super) fn tap(card: u8) -> String {
    format!("lb-tap{card}")
}

/// The namespace; dropping it removes it, and a run after a killed one removes that one's.
pub(super) struct Network {
    /// What `nsenter` takes.
    path: String,
}

impl Network {
    /// Makes it.
    ///
    /// # Errors
    /// Not root, another machine is running, or a command failed.
    pub(super) fn up() -> Result<Self> {
        remove_leftover()?;
        ip(&format!("netns add {NAMESPACE}"))?;
        // From here on a failure drops the guard, which removes what there is.
        let network = Self {
            path: format!("/run/netns/{NAMESPACE}"),
        };
        for (switch, cards) in (1..).zip(CARDS.chunks(2)) {
            inside(&format!(
                "link add lb-switch{switch} type bridge stp_state 0"
            ))?;
            inside(&format!("link set lb-switch{switch} up"))?;
            for card in cards {
                let tap = tap(*card);
                inside(&format!(
                    "tuntap add dev {tap} mode tap multi_queue vnet_hdr"
                ))?;
                inside(&format!("link set {tap} master lb-switch{switch} up"))?;
            }
        }
        Ok(network)
    }

    /// A command inside, as root.
    pub(super) fn command(&self, program: &str) -> Result<Command> {
        let mut command = as_root("nsenter")?;
        command
            .arg(format!("--net={}", self.path))
            .args(["--", program]);
        Ok(command)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if let Err(error) = ip(&format!("netns del {NAMESPACE}")) {
            eprintln!("warning: namespace {NAMESPACE} stays: {error:#}");
        }
    }
}

fn remove_leftover() -> Result<()> {
    let names = command::probe(as_root("ip")?.args(["netns", "list"])).unwrap_or_default();
    let is_ours = |line: &str| line.split(' ').next() == Some(NAMESPACE);
    if !names.lines().any(is_ours) {
        return Ok(());
    }
    let users = command::probe(as_root("ip")?.args(["netns", "pids", NAMESPACE]));
    let users = users.with_context(|| format!("`ip netns pids {NAMESPACE}` fails"))?;
    if let Some(process) = users.lines().next() {
        bail!("another virtual machine is running (process {process}); wait for its end");
    }
    ip(&format!("netns del {NAMESPACE}"))
}

fn inside(line: &str) -> Result<()> {
    ip(&format!("-n {NAMESPACE} {line}"))
}

fn ip(line: &str) -> Result<()> {
    command::run(as_root("ip")?.args(line.split(' ')))
}
