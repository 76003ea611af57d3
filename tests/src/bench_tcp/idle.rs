//! Memory of an idle keep-alive connection: the engine's own, and that of hyper above it.
//!
//! Invariants: each connection has made one request, so that buffers that grow with use have grown. What a process
//! allocates once is not a cost of the many, so the first of them are not counted. Bytes are those of the allocator's own
//! account: a server that has loaded an XDP program has some megabytes of pages that it allocated and freed before it
//! served, and out of these thousands of connections are made without its resident memory growing by a page.

use std::{fmt, fs, net::SocketAddr, process::Stdio, time::Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::resource::{Resource, getrlimit};
use serde::{Deserialize, Serialize};

use super::{
    Contender,
    rig::{ADDRESS, Rig, Server, Setup, heap},
};
use crate::{
    address::{CLIENT, CLIENT_EXTRA},
    bench::float,
    binaries,
    lab::Process,
    tcp_server::Service,
};

pub(super) const METHOD: &str = "Idle connections: what the server has from its allocator (glibc's mallinfo2, its \
    overhead included) with all of them, less what it had with the first fifth, for each of the others; each has \
    fetched 1 KB. The growth of its resident anonymous memory (RssAnon) stands beside it: it is less as long as there \
    are pages left that were freed earlier, loading the XDP program, and more by what the allocator keeps in store. The \
    engine's own is measured with a server that keeps the accepted streams, without hyper and without tasks; \
    hyper's is what one with hyper takes beyond it, tasks included. Clients are kernel sockets in several processes, because a process may not have that many open \
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
    /// Bytes from the server's allocator for each without hyper.
    pub transport_bytes: f64,
    /// Bytes of hyper and its task for each, on top.
    pub hyper_bytes: f64,
    /// Bytes by which the resident memory of the server grew for each, without hyper.
    pub transport_resident_bytes: f64,
    /// And with it, in all.
    pub resident_bytes: f64,
    /// Bytes of the kernel for each, of both ends.
    pub slab_bytes: f64,
    /// How long it took to measure all this.
    pub seconds: f64,
}

impl fmt::Display for IdleCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} idle connections, {}: {:.0} bytes each (RSS {:.0}), with hyper {:.0} more (RSS {:.0} in all), {:.0} of \
             slab (both ends); {:.0} s",
            self.connections,
            self.contender,
            self.transport_bytes,
            self.transport_resident_bytes,
            self.hyper_bytes,
            self.resident_bytes,
            self.slab_bytes,
            self.seconds,
        )
    }
}

/// Opens as many as are wanted and possible, to each kind of server.
pub(super) fn run(rig: &Rig, contender: Contender, wanted: u32) -> Result<IdleCell> {
    let began = Instant::now();
    let probe = hold(rig, contender, Service::Hyper, wanted.min(PROBE))?;
    let connections = wanted.min(possible(contender, &probe)?);
    let bare = hold(rig, contender, Service::Hold, connections)?;
    let whole = hold(rig, contender, Service::Hyper, connections)?;
    Ok(IdleCell {
        contender,
        connections,
        transport_bytes: bare.heap,
        hyper_bytes: whole.heap - bare.heap,
        transport_resident_bytes: bare.resident,
        resident_bytes: whole.resident,
        slab_bytes: bare.slab,
        seconds: began.elapsed().as_secs_f64(),
    })
}

/// Bytes for each connection.
struct Growth {
    heap: f64,
    resident: f64,
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
    let each = (growth.heap + growth.slab).max(1.0);
    let by_memory = (float(free) * 1024.0 / 2.0 / each) as u32;
    Ok(match contender {
        Contender::Ours => by_memory,
        _ => by_memory.min(files()?),
    })
}

fn hold(rig: &Rig, contender: Contender, service: Service, count: u32) -> Result<Growth> {
    let server = rig.serve(Setup {
        contender,
        service,
        permille: 0,
        seed: 0,
        max_flows: Some(2 * count),
    })?;
    let first = count / 5;
    let mut crowds = crowd(rig, first)?;
    let before = Memory::of(&server)?;
    crowds.extend(crowd(rig, count - first)?);
    let after = Memory::of(&server)?;
    drop(crowds);
    server.stop()?;
    let each = |now: u64, then: u64| (float(now) - float(then)) / f64::from(count - first);
    Ok(Growth {
        heap: each(after.heap, before.heap),
        resident: each(after.resident, before.resident),
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
                .arg("stay")
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

/// In bytes.
struct Memory {
    heap: u64,
    resident: u64,
    slab: u64,
}

impl Memory {
    fn of(server: &Server) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{}/status", server.id()))
            .context("reading the server's status")?;
        let machine = fs::read_to_string("/proc/meminfo").context("reading /proc/meminfo")?;
        Ok(Self {
            heap: heap()?,
            resident: 1024 * kib(&status, "RssAnon:").context("the status has no RssAnon")?,
            slab: 1024 * kib(&machine, "SUnreclaim:").context("/proc/meminfo has no SUnreclaim")?,
        })
    }
}

/// The figure of a line such as `RssAnon:   1234 kB`.
pub(super) fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim_end().parse().ok()
}

/// Connections that tell what one takes.
const PROBE: u32 = 500;
/// A process has some files that are no connections.
const OTHER_FILES: u32 = 100;
/// An address has 64,511 ports here; the kernel looks longer for the last ones.
const MOST_OF_AN_ADDRESS: u32 = 12_500;
