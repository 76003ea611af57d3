//! A SYN flood at the full rate of veth while clients transfer: who finishes, and what the server's memory does.
//!
//! SYNs come from the XDP generator of `bench_l4`, each from another address that nobody has, so that nobody answers the
//! SYN-ACKs. Generator and clients share a CPU, the server has its own.

use std::{
    fmt, fs,
    net::SocketAddr,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use aya::{
    Ebpf,
    maps::{Array, MapData, ProgramArray},
    programs::{TestRun as _, TestRunAttrs, TestRunOptions},
};
use lb_ebpf::{
    fixtures::Segment,
    replay::{ORDER_COUNT, PLAN_WORDS, Plan},
    tcp::Flags,
};
use serde::{Deserialize, Serialize};

use super::{
    Contender, Sizes,
    idle::kib,
    rig::{ADDRESS, Rig, Server, Setup, counters},
};
use crate::{
    address::CLIENT,
    bench::float,
    bench_l4::{link, pinned, sending_to, xdp},
    lab::Namespace,
    tcp_client::Fetcher,
    tcp_server::Service,
};

pub(super) const METHOD: &str = "SYN flood: an XDP program sends SYNs as fast as one CPU can, each from another address \
    and port, to the port that clients use; the clients' CPU is the same one, so they also fight for it. One that has \
    to wait a minute (20 s in a quick run) to connect or for more bytes has failed. Memory is the server's peak resident \
    set (VmHWM), compared with that of a server that bore the same transfers without the flood. The kernel (SYN cookies \
    on, as is its default) keeps its state in slab, which is not in that figure.";

/// Who is flooded.
pub(super) const CONTENDERS: [Contender; 2] = [Contender::Ours, Contender::Kernel];

/// Transfers beside a flood.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FloodCell {
    /// Who was flooded.
    pub contender: Contender,
    /// Clients.
    pub clients: u32,
    /// Of them, those that got every byte of everything.
    pub finished: u32,
    /// What the first of the others met.
    pub error: Option<String>,
    /// Seconds until the last was done, without the flood.
    pub quiet_seconds: f64,
    /// And with it.
    pub flooded_seconds: f64,
    /// SYNs a second.
    pub syns_per_second: f64,
    /// Peak memory of the server, without the flood.
    pub quiet_mib: f64,
    /// And with it.
    pub flooded_mib: f64,
    /// What our TCP counted, with it.
    pub counters: String,
}

impl fmt::Display for FloodCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "SYN flood of {:.0}/s, {}: {} of {} clients finished, in {:.1} s ({:.1} s without); peak {:.1} MiB ({:.1})",
            self.syns_per_second,
            self.contender,
            self.finished,
            self.clients,
            self.flooded_seconds,
            self.quiet_seconds,
            self.flooded_mib,
            self.quiet_mib,
        )?;
        match &self.error {
            Some(error) => write!(f, "; {error}"),
            None => Ok(()),
        }
    }
}

/// The same transfers without and with a flood.
pub(super) fn run(rig: &Rig, contender: Contender, sizes: &Sizes) -> Result<FloodCell> {
    prepare(&rig.lab.edge())?;
    let serve = || {
        rig.serve(Setup {
            contender,
            service: Service::Hyper,
            permille: 0,
            seed: 0,
            max_flows: None,
        })
    };
    let server = serve()?;
    let quiet = transfer(rig, sizes, QUIET_PATIENCE)?;
    let quiet_mib = peak_mib(&server)?;
    server.stop()?;
    ensure!(quiet.error.is_none(), "without a flood: {:?}", quiet.error);
    let server = serve()?;
    let mut generator = Generator::load(rig)?;
    let (count, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let (flooded, rate) = thread::scope(|scope| {
        let start = Instant::now();
        let flood = scope.spawn(|| generator.run(rig, &count, &over));
        thread::sleep(HEAD_START);
        let flooded = transfer(rig, sizes, Duration::from_secs(sizes.flood_patience));
        over.store(true, Ordering::Relaxed);
        let flood = flood.join();
        flood.map_err(|_| anyhow::anyhow!("the generator panicked"))??;
        // Of the whole flood: it counts by the burst, and one of them can take longer than a short transfer.
        let rate = float(count.load(Ordering::Relaxed)) / start.elapsed().as_secs_f64();
        Ok::<_, anyhow::Error>((flooded?, rate))
    })?;
    let cell = FloodCell {
        contender,
        clients: sizes.flood_clients,
        finished: flooded.finished,
        error: flooded.error,
        quiet_seconds: quiet.seconds,
        flooded_seconds: flooded.seconds,
        syns_per_second: rate,
        quiet_mib,
        flooded_mib: peak_mib(&server)?,
        counters: counters().unwrap_or_default(),
    };
    server.stop()?;
    Ok(cell)
}

/// The kernel's SYN-ACKs need a way to addresses that nobody has, and veth without NAPI throws generated frames away.
fn prepare(edge: &Namespace) -> Result<()> {
    let route = CLIENT.to_string();
    let commands: [&[&str]; 2] = [
        &["ip", "route", "replace", "default", "via", &route],
        &["ethtool", "-K", "lb-front", "gro", "on"],
    ];
    for words in commands {
        let status = edge.command(words[0]).args(&words[1..]).status()?;
        ensure!(status.success(), "{}: {status}", words.join(" "));
    }
    Ok(())
}

struct Transferred {
    finished: u32,
    seconds: f64,
    error: Option<String>,
}

/// All clients at once, on the CPU of the load.
fn transfer(rig: &Rig, sizes: &Sizes, patience: Duration) -> Result<Transferred> {
    let client = rig.lab.client();
    let megabytes = sizes.flood_megabytes;
    let work = move || {
        let mut fetcher = Fetcher::connect(CLIENT.into(), SocketAddr::from(ADDRESS), patience)?;
        (0..megabytes).try_for_each(|_| fetcher.fetch(1 << 20))
    };
    let start = Instant::now();
    let results = pinned(rig.cpus.client, || {
        client.run(|| {
            let clients = (0..sizes.flood_clients).map(|_| thread::spawn(work));
            let clients: Vec<_> = clients.collect();
            let ended = |client: thread::JoinHandle<Result<()>>| {
                client
                    .join()
                    .unwrap_or_else(|_| Err(anyhow::anyhow!("a client panicked")))
            };
            clients.into_iter().map(ended).collect::<Vec<_>>()
        })
    })?;
    let seconds = start.elapsed().as_secs_f64();
    let error = results.iter().find_map(|result| result.as_ref().err());
    Ok(Transferred {
        finished: u32::try_from(results.iter().filter(|result| result.is_ok()).count())?,
        seconds,
        error: error.map(|error| format!("{error:#}")),
    })
}

fn peak_mib(server: &Server) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{}/status", server.id()))
        .context("reading the server's status")?;
    let peak = kib(&status, "VmHWM:").context("the status has no VmHWM")?;
    Ok(float(peak) / 1024.0)
}

/// Sends SYNs from the client's interface.
struct Generator {
    ebpf: Ebpf,
    /// The kernel empties it when nobody holds it.
    _target: ProgramArray<MapData>,
    frame: Vec<u8>,
}

impl Generator {
    fn load(rig: &Rig) -> Result<Self> {
        let (index, client_mac) = link(&rig.lab.client(), "lb-eth0")?;
        let (_, edge_mac) = link(&rig.lab.edge(), "lb-front")?;
        let mut ebpf = sending_to(index)?;
        let mut target = ProgramArray::try_from(ebpf.take_map("TARGET").context("TARGET")?)?;
        for name in ["redirect", "replay"] {
            xdp(&mut ebpf, name)?.load()?;
        }
        target.set(0, xdp(&mut ebpf, "redirect")?.fd()?, 0)?;
        let (address, port) = ADDRESS;
        let frame = Segment {
            macs: (edge_mac, client_mac),
            source: (CLIENT.octets(), 1),
            destination: (address.octets(), port),
            flags: Flags::SYN,
            ttl: 64,
            payload: Vec::new(),
        }
        .bytes();
        let plan = Plan {
            order: ORDER_COUNT,
            ..Plan::of(&frame).context("the frame is too short")?
        };
        let mut plans = Array::<MapData, [u64; PLAN_WORDS]>::try_from(
            ebpf.take_map("PLANS").context("PLANS")?,
        )?;
        plans.set(0, plan.words(), 0)?;
        Ok(Self {
            ebpf,
            _target: target,
            frame,
        })
    }

    fn run(&mut self, rig: &Rig, count: &AtomicU64, over: &AtomicBool) -> Result<()> {
        let client = rig.lab.client();
        let (frame, replay) = (&self.frame, xdp(&mut self.ebpf, "replay")?);
        let send = || {
            while !over.load(Ordering::Relaxed) {
                let options = TestRunOptions {
                    data_in: Some(frame),
                    repeat: AT_ONCE,
                    attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
                    ..TestRunOptions::default()
                };
                replay.test_run(options).context("sending live frames")?;
                count.fetch_add(u64::from(AT_ONCE), Ordering::Relaxed);
            }
            Ok::<_, anyhow::Error>(())
        };
        // The kernel looks for the interface in the namespace of the caller.
        pinned(rig.cpus.client, || client.run(send)?)
    }
}

/// For each step of a client where nothing is in its way.
const QUIET_PATIENCE: Duration = Duration::from_mins(1);
/// The flood is there first.
const HEAD_START: Duration = Duration::from_millis(500);
/// SYNs of one system call.
const AT_ONCE: u32 = 20_000;
/// As many as NAPI takes at a time.
const BATCH: u32 = 64;
