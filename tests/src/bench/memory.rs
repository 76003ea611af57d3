//! Memory of an idle TLS connection: what thousands of quiet mail clients cost.
//!
//! Each connection makes one request first, so that buffers that grow with use have grown. Two figures: anonymous
//! memory of the balancer's processes, and the machine's unreclaimable slab, where the kernel keeps sockets. The
//! slab holds the client's end of every connection too, and so is never zero, not even for a balancer without sockets.

use std::{fs, net::SocketAddrV4, process::Command, sync::Arc};

use anyhow::{Context as _, Result, ensure};

use rustls::ClientConfig;

use super::{Contender, MemoryCell, Rig, stats::float};
use crate::{
    address::VIP_HTTP,
    client::{self, TlsConnection},
    lab::Namespace,
    pool::HTTPS_PORT,
    resident::kib,
};

/// Connections before the first look: what a process allocates once is not a cost of the many.
const FIRST: u32 = 100;

/// Opens idle connections to a balancer and looks at the memory before and after.
pub(super) fn idle(rig: &Rig, contender: Contender, connections: u32) -> Result<MemoryCell> {
    let running = rig.run(contender)?;
    let tls = client::tls(rig.certs())?;
    let mut open = Vec::new();
    dial(&mut open, &tls, FIRST)?;
    let before = Memory::now(&rig.lab().edge())?;
    dial(&mut open, &tls, connections)?;
    let after = Memory::now(&rig.lab().edge())?;
    drop(open);
    running.stop()?;
    let each = |now: u64, then: u64| (float(now) - float(then)) * 1024.0 / f64::from(connections);
    Ok(MemoryCell {
        contender,
        connections,
        process_bytes: each(after.processes, before.processes),
        slab_bytes: each(after.slab, before.slab),
    })
}

fn dial(open: &mut Vec<TlsConnection>, tls: &Arc<ClientConfig>, count: u32) -> Result<()> {
    for _ in 0..count {
        let mut connection = TlsConnection::open(SocketAddrV4::new(VIP_HTTP, HTTPS_PORT), tls)?;
        let status = connection.get("/bench/1024")?;
        ensure!(status == 200, "connection {} got {status}", open.len() + 1);
        open.push(connection);
    }
    Ok(())
}

/// In KiB.
struct Memory {
    processes: u64,
    slab: u64,
}

impl Memory {
    fn now(edge: &Namespace) -> Result<Self> {
        let output = Command::new("ip")
            .args(["netns", "pids", edge.name()])
            .output()
            .context("listing the edge's processes")?;
        let mut processes = 0;
        for pid in String::from_utf8_lossy(&output.stdout).split_whitespace() {
            // One that has just ended holds nothing.
            let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            processes += kib(&text, "RssAnon:").unwrap_or_default();
        }
        ensure!(processes > 0, "no process on the edge");
        let text = fs::read_to_string("/proc/meminfo").context("reading /proc/meminfo")?;
        let slab = kib(&text, "SUnreclaim:").context("/proc/meminfo has no SUnreclaim")?;
        Ok(Self { processes, slab })
    }
}
