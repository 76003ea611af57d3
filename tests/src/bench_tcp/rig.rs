//! The lab of the benchmark: one server at a time on the edge, on the stack whose turn it is.
//!
//! Invariants: offloads and congestion control are set before each start; while no [`Server`] exists nothing runs on the
//! edge and no XDP program is attached. Offloads are those of a network card, except where a contender is to go without:
//! the lab alone turns them off for the sake of layer 4. Not here: the load.

use std::{fs, net::SocketAddr, path::Path, process::Stdio};

use anyhow::{Context as _, Result, ensure};
use nix::{
    sched::{CpuSet, sched_getaffinity},
    unistd::Pid,
};
use tempfile::TempDir;

use super::{Contender, cpu::Cpus, row::Segmentation};
use crate::{
    address::VIP_HTTP,
    binaries, client,
    lab::{Lab, Namespace, Process, Size},
    lossy::Lossy,
    pool::HTTP_PORT,
    tcp_server::Service,
    world::eventually,
};

/// Where clients connect.
pub(super) const ADDRESS: (std::net::Ipv4Addr, u16) = (VIP_HTTP, HTTP_PORT);

/// Congestion control of a fair peer.
pub(super) const FAIR: &str = "cubic";

pub(super) struct Rig {
    pub(super) lab: Lab,
    pub(super) cpus: Cpus,
    /// Congestion control that the host has for default.
    pub(super) host_congestion: String,
    directory: TempDir,
}

/// A server that serves; dropping it ends it.
pub(super) struct Server {
    process: Process,
    /// Detached with it.
    pub(super) wire: Option<Lossy>,
}

/// How a server is started.
#[derive(Clone, Copy)]
pub(super) struct Setup {
    pub(super) contender: Contender,
    pub(super) service: Service,
    /// Of a thousand data segments that it sends, so many are lost.
    pub(super) permille: u32,
    /// Which they are.
    pub(super) seed: u64,
    /// Connections that our TCP must be able to hold.
    pub(super) max_flows: Option<u32>,
}

impl Rig {
    pub(super) fn start() -> Result<Self> {
        let lab = Lab::up(Size {
            servers: 1,
            // One queue, one worker: what is compared is what one CPU can do.
            queues: 1,
        })?;
        let host_congestion = fs::read_to_string(CONGESTION).context("reading the default")?;
        let rig = Self {
            lab,
            cpus: two_cpus()?,
            host_congestion: host_congestion.trim().to_owned(),
            directory: TempDir::with_prefix("lb-bench-tcp-")?,
        };
        let client = rig.lab.client();
        offloads(&client, "lb-eth0", &["tx", "on"])?;
        // An XDP program that takes fragments leaves it on, but an rx ring's frame holds one segment.
        offloads(&client, "lb-eth0", &["tso", "off", "gso", "off"])?;
        Ok(rig)
    }

    pub(super) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Starts a server and waits until it serves.
    pub(super) fn serve(&self, setup: Setup) -> Result<Server> {
        let (edge, client) = (self.lab.edge(), self.lab.client());
        segment(&edge, setup.contender.segmentation())?;
        let wire = match setup.permille {
            0 => None,
            permille => {
                let mut wire = Lossy::load()?;
                wire.attach(&client, "lb-eth0")?;
                wire.lose(permille, setup.seed)?;
                Some(wire)
            }
        };
        let process = self.start_process(setup)?;
        until_served()?;
        Ok(Server { process, wire })
    }

    fn start_process(&self, setup: Setup) -> Result<Process> {
        let transport = if setup.contender.is_ours() {
            "af-xdp"
        } else {
            "kernel"
        };
        let service = match setup.service {
            Service::Hyper => "hyper",
            Service::Hold => "hold",
        };
        let program = binaries::sibling("lb-tcp-server")?;
        let mut process = self.lab.edge().spawn(program, |command| {
            command
                .args(["--transport", transport, "--service", service])
                .args(["--listen", &SocketAddr::from(ADDRESS).to_string()])
                .args(["--cpu", &self.cpus.server.to_string()])
                .stdout(Stdio::piped());
            if !setup.contender.is_as_host() {
                command.args(["--congestion", FAIR]);
            }
            if let Some(flows) = setup.max_flows {
                command.args(["--max-flows", &flows.to_string()]);
            }
        })?;
        process
            .wait_for_line("ready")
            .with_context(|| format!("starting {}", setup.contender))?;
        Ok(process)
    }
}

impl Server {
    pub(super) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Ends it and waits, so that the next one finds the address free. It has nothing to finish.
    pub(super) fn stop(mut self) -> Result<()> {
        self.process.kill()
    }
}

fn until_served() -> Result<()> {
    let url = url("bench/1");
    eventually(&format!("{url} is served"), || {
        Ok(client::get(&url)?.0 == 200)
    })
}

/// What our TCP has counted; nothing of the kernel's.
pub(super) fn counters() -> Result<String> {
    Ok(client::get(&url("counters"))?.1)
}

/// Bytes that the server has from its allocator.
pub(super) fn heap() -> Result<u64> {
    let (status, text) = client::get(&url("heap"))?;
    ensure!(status == 200, "asking for the heap: status {status}");
    text.parse()
        .with_context(|| format!("{text} bytes of heap"))
}

/// `http://<virtual address>:<port>/<path>`.
pub(super) fn url(path: &str) -> String {
    let (address, port) = ADDRESS;
    format!("http://{address}:{port}/{path}")
}

/// The first and the last CPU that are ours: the first often serves interrupts as well, which both stacks bear.
fn two_cpus() -> Result<Cpus> {
    let mine = sched_getaffinity(Pid::from_raw(0)).context("asking which CPUs are ours")?;
    let ours = || (0..CpuSet::count()).filter(|cpu| mine.is_set(*cpu).unwrap_or(false));
    let (server, client) = ours().next().zip(ours().next_back()).context("no CPU")?;
    ensure!(
        server != client,
        "server and load need a CPU each, and only CPU {server} is ours"
    );
    Ok(Cpus { server, client })
}

/// Sets who cuts what the server hands over in large pieces.
fn segment(edge: &Namespace, how: Segmentation) -> Result<()> {
    // TCP doesn't ask whether an interface has GSO ("gso off" changes nothing for it, since Linux 4.17), but it asks how
    // many segments a piece may have.
    let (tso, gso, most) = match how {
        Segmentation::Tso => ("on", "on", GSO_MAX_SEGS),
        Segmentation::Gso => ("off", "on", GSO_MAX_SEGS),
        Segmentation::Off => ("off", "off", "1"),
    };
    offloads(edge, "lb-front", &["tx", "on", "tso", tso, "gso", gso])?;
    let output = edge
        .command("ip")
        .args(["link", "set", "dev", "lb-front", "gso_max_segs", most])
        .output()
        .context("starting ip")?;
    ensure!(
        output.status.success(),
        "gso_max_segs {most} on lb-front: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

fn offloads(namespace: &Namespace, interface: &str, settings: &[&str]) -> Result<()> {
    let output = namespace
        .command("ethtool")
        .args(["-K", interface])
        .args(settings)
        .output()
        .context("starting ethtool")?;
    ensure!(
        output.status.success(),
        "ethtool -K {interface} {settings:?}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

const CONGESTION: &str = "/proc/sys/net/ipv4/tcp_congestion_control";
/// What an interface has unless told otherwise.
const GSO_MAX_SEGS: &str = "65535";
