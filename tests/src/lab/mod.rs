//! A network on one machine: client, edge host, switch and pool servers, each in its own namespace.
//!
//! ```text
//! lb-client                 lb-edge                         lb-switch            lb-pool<n>
//!  lb-eth0 ──────────── lb-front   lb-back ──────────── lb-up [lb-bridge] lb-port<n> ── lb-eth0
//!  10.203.1.10, .11–.20  10.203.1.1  10.203.2.1, .100                          10.203.2.1<n>
//!                        .100, .101
//! ```
//!
//! Invariants: at most one lab exists on a machine, held by a lock; whatever a killed run left behind
//! is removed before a lab is made; only namespaces with exactly the names above are ever touched.
//! Not here: what runs inside (`crate::pool`, the tests).

mod lock;
mod namespace;
mod process;
mod second_family;
mod topology;
mod vlans;

pub use self::{
    namespace::Namespace,
    process::{Process, Ready},
};

use std::{fmt, process::Command};

use anyhow::{Context as _, Result, bail, ensure};
use nix::unistd::geteuid;

use self::lock::Lock;
use crate::address;

/// How large a lab is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Pool servers, from 1 to [`address::MAX_SERVERS`].
    pub servers: u8,
    /// Receive and transmit queues of each end of each veth pair.
    pub queues: u8,
}

impl Default for Size {
    /// Three servers are the fewest that show a wrong choice after one fails; two queues are the
    /// fewest that show a flow on the wrong one.
    fn default() -> Self {
        Self {
            servers: 3,
            queues: 2,
        }
    }
}

/// A lab that exists; dropping it removes it and every process in it.
#[derive(Debug)]
pub struct Lab {
    size: Size,
    lifetime: Lifetime,
    _lock: Lock,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lifetime {
    Guard,
    Machine,
}

impl Lab {
    /// Removes leftovers and makes a lab that lives as long as the guard.
    ///
    /// Waits for another run's lab to end, and says so; fails when it doesn't within a few minutes,
    /// when not run by root, and when a command fails (which it names).
    pub fn up(size: Size) -> Result<Self> {
        ensure!(
            geteuid().is_root(),
            "the lab needs root: it makes network namespaces"
        );
        ensure!(
            (1..=address::MAX_SERVERS).contains(&size.servers) && size.queues > 0,
            "a lab has 1 to {} servers and at least one queue, not {size:?}",
            address::MAX_SERVERS,
        );
        let lock = Lock::acquire()?;
        remove_leftovers().context("removing what an earlier lab left behind")?;
        // From here on a failure drops the guard, which removes the half-made lab.
        let lab = Self {
            size,
            lifetime: Lifetime::Guard,
            _lock: lock,
        };
        topology::build(size).context("making the lab")?;
        Ok(lab)
    }

    /// Leaves the lab in place when this process ends (`lb-lab up`).
    pub fn leave_up(mut self) {
        self.lifetime = Lifetime::Machine;
    }

    /// Number of pool servers and queues.
    pub fn size(&self) -> Size {
        self.size
    }

    /// Gives every interface its IPv6 address as well. Not from the start, because a benchmark that counts packets
    /// wants none of its own accord.
    pub fn speak_ipv6(&self) -> Result<()> {
        second_family::add(self.size)
    }

    /// Puts the client's side into a VLAN and the pool's side into another, with two tags.
    pub fn enter_vlans(&self, with_ipv6: bool) -> Result<()> {
        vlans::enter(self.size, with_ipv6)
    }

    /// Makes pool server `number` the owner of a virtual address, as servers that answer clients themselves must be.
    pub fn own_virtual_address(&self, number: u8, address: std::net::IpAddr) -> Result<()> {
        second_family::own(number, address)
    }

    /// The client's namespace.
    pub fn client(&self) -> Namespace {
        Namespace::client()
    }

    /// The edge host's namespace, where the load balancer runs.
    pub fn edge(&self) -> Namespace {
        Namespace::edge()
    }

    /// Namespace of pool server `number`, counted from 1.
    pub fn pool(&self, number: u8) -> Namespace {
        Namespace::pool(number)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.lifetime == Lifetime::Machine {
            return;
        }
        if let Err(error) = remove_leftovers() {
            eprintln!("lab: {error:#}; `lb-lab down` tries again");
        }
    }
}

/// Whether this kernel has VLAN devices.
pub fn has_vlans() -> bool {
    vlans::are_there()
}

/// Removes the lab that is up, if any, and every process in it.
pub fn down() -> Result<()> {
    ensure!(
        geteuid().is_root(),
        "the lab needs root: it removes network namespaces"
    );
    let _lock = Lock::acquire()?;
    remove_leftovers()
}

fn remove_leftovers() -> Result<()> {
    for namespace in Namespace::existing()? {
        namespace.remove()?;
    }
    Ok(())
}

/// Runs a command to its end; an error names the command and carries what it printed.
fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| format!("starting `{program}`: is it installed?"))?;
    if !output.status.success() {
        bail!(
            "`{program} {}`: {}: {}",
            arguments.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim(),
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs `ip` with the words of `line`, so that a call reads like the command.
fn ip(line: &fmt::Arguments<'_>) -> Result<String> {
    let line = line.to_string();
    run("ip", &line.split_whitespace().collect::<Vec<_>>())
}
