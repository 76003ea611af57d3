//! Memory of an idle keep-alive connection: the engine's own, and that of hyper above it.
//!
//! Invariant: each connection has made one request, so that buffers that grow with use have grown. What a process
//! allocates once is not a cost of the many, so the first connections are not counted.

use std::{fmt, fs, net::SocketAddr, process::Stdio};

use anyhow::{Context as _, Result, ensure};
use nix::sys::resource::{Resource, getrlimit};
use serde::{Deserialize, Serialize};

use super::{
    Contender,
    rig::{ADDRESS, Rig, Server, Setup},
};
use crate::{
    address::{CLIENT, CLIENT_EXTRA},
    bench::float,
    binaries,
    lab::Process,
    tcp_server::Service,
};

pub(super) const METHOD: &str = "Idle connections: growth of the server's anonymous memory (RssAnon) by so many \
    connections after the first 200, each of which has fetched 1 KB. The engine's own is measured with a server that \
    keeps the accepted streams in a list, without hyper and without tasks; hyper's is what one with hyper takes beyond \
    it, tasks included. Clients are kernel sockets in several processes, because a process may not have that many open \
    files, from several addresses. The kernel's server needs an open file for each as well, so it has as many as one \
    process may. Slab is that of the machine and holds the clients' ends too, for both. If all wanted connections would \
    take more than half of the free memory, as many are opened as don't.";

/// Who holds them.
pub(super) const CONTENDERS: [Contender; 2] = [Contender::Ours, Contender::Kernel];

/// Memory of idle connections of one stack.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IdleCell {
    /// Whose.
    pub contender: Contender,
    /// Connections that were opened.
    pub connections: u32,
    /// Bytes of the server's process for each without hyper.
    pub transport_bytes: f64,
    /// Bytes of hyper and its task for each, on top.
    pub hyper_bytes: f64,
    /// Bytes of the kernel for each, of both ends.
    pub slab_bytes: f64,
}

impl fmt::Display for IdleCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} idle connections, {}: {:.0} bytes each, and {:.0} of hyper, {:.0} of slab (both ends)",
            self.connections,
            self.contender,
            self.transport_bytes,
            self.hyper_bytes,
            self.slab_bytes
        )
    }
}

/// Opens as many as are wanted and possible, to each kind of server.
pub(super) fn run(rig: &Rig, contender: Contender, wanted: u32) -> Result<IdleCell> {
    let probe = hold(rig, contender, Service::Hyper, wanted.min(PROBE))?;
    let connections = wanted.min(possible(contender, &probe)?);
    let bare = hold(rig, contender, Service::Hold, connections)?;
    let whole = hold(rig, contender, Service::Hyper, connections)?;
    Ok(IdleCell {
        contender,
        connections,
        transport_bytes: bare.process,
        hyper_bytes: whole.process - bare.process,
        slab_bytes: bare.slab,
    })
}

/// Bytes for each connection.
struct Growth {
    process: f64,
    slab: f64,
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a number of connections, far below 2^32"
)]
fn possible(contender: Contender, growth: &Growth) -> Result<u32> {
    let text = fs::read_to_string("/proc/meminfo").context("reading /proc/meminfo")?;
    let free = kib(&text, "MemAvailable:").context("/proc/meminfo has no MemAvailable")?;
    let each = (growth.process + growth.slab).max(1.0);
    let by_memory = (float(free) * 1024.0 / 2.0 / each) as u32;
    Ok(match contender {
        Contender::Ours => by_memory,
        _ => by_memory.min(files()? - FIRST),
    })
}

fn hold(rig: &Rig, contender: Contender, service: Service, count: u32) -> Result<Growth> {
    let server = rig.serve(Setup {
        contender,
        service,
        permille: 0,
        seed: 0,
        max_flows: Some(2 * (FIRST + count)),
    })?;
    let mut crowds = crowd(rig, FIRST)?;
    let before = Memory::of(&server)?;
    crowds.extend(crowd(rig, count)?);
    let after = Memory::of(&server)?;
    drop(crowds);
    server.stop()?;
    let each = |now: u64, then: u64| (float(now) - float(then)) * 1024.0 / f64::from(count);
    Ok(Growth {
        process: each(after.process, before.process),
        slab: each(after.slab, before.slab),
    })
}

/// So many connections, of as many processes as it takes.
fn crowd(rig: &Rig, count: u32) -> Result<Vec<Process>> {
    let program = binaries::sibling("lb-tcp-client")?;
    let most = files()?.min(MOST_OF_AN_ADDRESS);
    let [a, b, c, _] = CLIENT.octets();
    let mut sources = CLIENT_EXTRA.cycle();
    let mut processes = Vec::new();
    let mut left = count;
    while left > 0 {
        let of_this = left.min(most);
        left -= of_this;
        let last = sources.next().context("no client address")?;
        let mut process = rig.lab.client().spawn(&program, |command| {
            command
                .args(["--from", &format!("{a}.{b}.{c}.{last}")])
                .args(["--to", &SocketAddr::from(ADDRESS).to_string()])
                .args(["--connections", &of_this.to_string()])
                .stdout(Stdio::piped());
        })?;
        process
            .wait_for_line("open")
            .context("opening idle connections")?;
        processes.push(process);
    }
    Ok(processes)
}

/// Connections that a process may have.
fn files() -> Result<u32> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let files = u32::try_from(hard).unwrap_or(u32::MAX);
    ensure!(files > 2 * OTHER_FILES, "only {files} open files");
    Ok(files - OTHER_FILES)
}

/// In KiB.
struct Memory {
    process: u64,
    slab: u64,
}

impl Memory {
    fn of(server: &Server) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{}/status", server.id()))
            .context("reading the server's status")?;
        let machine = fs::read_to_string("/proc/meminfo").context("reading /proc/meminfo")?;
        Ok(Self {
            process: kib(&status, "RssAnon:").context("the status has no RssAnon")?,
            slab: kib(&machine, "SUnreclaim:").context("/proc/meminfo has no SUnreclaim")?,
        })
    }
}

/// The figure of a line such as `RssAnon:   1234 kB`.
pub(super) fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim_end().parse().ok()
}

/// Connections before the first look.
const FIRST: u32 = 200;
/// Connections that tell what one takes.
const PROBE: u32 = 500;
/// A process has some files that are no connections.
const OTHER_FILES: u32 = 100;
/// An address has 64,511 ports here; the kernel looks longer for the last ones.
const MOST_OF_AN_ADDRESS: u32 = 12_500;
