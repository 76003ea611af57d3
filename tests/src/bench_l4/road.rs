//! Packets per second from the client's namespace through the edge's to the next one.
//!
//! The generator is an XDP program too (`BPF_PROG_TEST_RUN` with live frames, kernel 5.18): no socket could load the
//! forwarder. Each run starts a forwarder, opens the flows through it, and counts what arrives behind it. Invariant:
//! one forwarder at a time, and the same frames for all of them. Not here: nanoseconds (`measure`).

use std::{
    fmt,
    net::Ipv4Addr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use aya::{
    Ebpf,
    maps::{Array, MapData, ProgramArray},
    programs::{TestRun as _, TestRunAttrs, TestRunOptions, Xdp, xdp::XdpMode},
};
use lb_ebpf::{
    fixtures::Segment,
    replay::{ORDER_COUNT, ORDER_DRAW, PLAN_WORDS, Plan},
    tcp::Flags,
};
use serde::{Deserialize, Serialize};

use super::{Sizes, kernel::bench_object, pinned, report::RoadSample};
use crate::{
    address::{CLIENT, CLIENT_EXTRA, SNAT, VIP_SMTP, server},
    bench::float,
    guard::Interrupts,
    lab::Namespace,
    pool::SMTP_PORT,
    world::{Balancer, World},
};

/// Who forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Road {
    /// An XDP program that swaps hardware addresses and redirects: the floor of forwarding to another interface.
    Redirect,
    /// `lb`, full NAT to another interface.
    Lb,
    /// `lb`, in each of the other modes, to another interface.
    LbDsr,
    /// See [`LbDsr`](Self::LbDsr).
    LbIpip,
    /// See [`LbDsr`](Self::LbDsr).
    LbGue,
    /// An XDP program that swaps hardware addresses and sends back: the floor of one-armed forwarding.
    Transmit,
    /// `lb`, full NAT to a server behind the interface that packets come from.
    LbOneArmed,
    /// The kernel's router with one nftables DNAT rule.
    Nftables,
}

impl Road {
    /// In the order of a round.
    pub const ALL: [Self; 8] = [
        Self::Redirect,
        Self::Lb,
        Self::LbDsr,
        Self::LbIpip,
        Self::LbGue,
        Self::Transmit,
        Self::LbOneArmed,
        Self::Nftables,
    ];

    /// For people.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Redirect => "bare redirect",
            Self::Lb => "lb, full NAT",
            Self::LbDsr => "lb, L2 DSR",
            Self::LbIpip => "lb, IPIP",
            Self::LbGue => "lb, GUE",
            Self::Transmit => "bare XDP_TX",
            Self::LbOneArmed => "lb, full NAT, one-armed",
            Self::Nftables => "nftables DNAT",
        }
    }
}

impl Road {
    /// Whether packets leave by the interface they came from.
    const fn is_one_armed(self) -> bool {
        matches!(self, Self::Transmit | Self::LbOneArmed)
    }
}

impl fmt::Display for Road {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.title())
    }
}

/// Makes the lab and runs all forwarders in turns.
pub(super) fn run(
    sizes: &Sizes,
    interrupts: &Interrupts,
    progress: &dyn Fn(&str),
) -> Result<Vec<RoadSample>> {
    let world = World::start(1)?;
    let mut ends = Ends::attach(&world)?;
    let mut samples = Vec::new();
    for round in 1..=sizes.road_rounds {
        for road in Road::ALL {
            interrupts.check()?;
            let sample = sample(&world, &mut ends, road, round, sizes);
            let sample = sample.with_context(|| format!("{road}, round {round}"))?;
            progress(&format!(
                "round {round}, {road:<23}: {:>9.0} packets/s, {:.1} % arrived",
                sample.packets_per_second,
                sample.arrived * 100.0
            ));
            samples.push(sample);
        }
    }
    Ok(samples)
}

fn sample(
    world: &World,
    ends: &mut Ends,
    road: Road,
    round: u32,
    sizes: &Sizes,
) -> Result<RoadSample> {
    let forwarder = Forwarder::start(world, road, SMTP_PORT)?;
    // The kernel's connection tracking takes a flow up in mid-stream, but not an ACK after a SYN without an answer.
    let opening: &[Flags] = match road {
        Road::Nftables => &[Flags::ACK],
        _ => &[Flags::SYN, Flags::ACK],
    };
    let opened = Instant::now();
    let how = (road, sizes.cpu);
    for &flags in opening {
        while ends.send(flags, ORDER_COUNT, FLOWS, how)?.arrived < u64::from(FLOWS) {
            // The forwarder may still be resolving its next hop.
            ensure!(
                opened.elapsed() < PATIENCE,
                "not all flows get through; {}",
                forwarder.log()
            );
            thread::sleep(PAUSE);
        }
    }
    let sent = ends.send(Flags::ACK, ORDER_DRAW, sizes.road_packets, how)?;
    forwarder.stop()?;
    Ok(RoadSample {
        road,
        round,
        sent: sizes.road_packets,
        packets_per_second: float(sent.arrived) / sent.elapsed.as_secs_f64(),
        arrived: float(sent.arrived) / f64::from(sizes.road_packets),
    })
}

/// The two ends of the road.
struct Ends {
    generator: Ebpf,
    /// The kernel empties it when nobody holds it.
    _target: ProgramArray<MapData>,
    plans: Array<MapData, [u64; PLAN_WORDS]>,
    /// In the namespace behind the edge.
    behind: Sink,
    /// In the client's, for what is sent back.
    back: Sink,
    client: Namespace,
    macs: ([u8; 6], [u8; 6]),
}

/// What counts frames at an end and swallows them.
struct Sink {
    /// Holds the link.
    _ebpf: Ebpf,
    arrived: Array<MapData, u64>,
}

impl Sink {
    fn attach(namespace: &Namespace, interface: &str) -> Result<Self> {
        let mut ebpf = load()?;
        attach(&mut ebpf, "sink", namespace, interface)?;
        let arrived = Array::try_from(ebpf.take_map("ARRIVED").context("ARRIVED")?)?;
        Ok(Self {
            _ebpf: ebpf,
            arrived,
        })
    }
}

struct Sent {
    arrived: u64,
    elapsed: Duration,
}

impl Ends {
    fn attach(world: &World) -> Result<Self> {
        let client = world.lab().client();
        let (index, client_mac) = link(&client, "lb-eth0")?;
        let (_, edge_mac) = link(&world.lab().edge(), "lb-front")?;
        let mut generator = sending_to(index)?;
        let mut target = ProgramArray::try_from(generator.take_map("TARGET").context("TARGET")?)?;
        for name in ["redirect", "replay"] {
            xdp(&mut generator, name)?.load()?;
        }
        target.set(0, xdp(&mut generator, "redirect")?.fd()?, 0)?;
        let plans = Array::try_from(generator.take_map("PLANS").context("PLANS")?)?;
        let behind = Sink::attach(&Namespace::switch(), "lb-up")?;
        // XDP_TX on veth goes nowhere unless the peer has a program.
        let back = Sink::attach(&client, "lb-eth0")?;
        Ok(Self {
            generator,
            _target: target,
            plans,
            behind,
            back,
            client,
            macs: (edge_mac, client_mac),
        })
    }

    /// Sends `packets` and waits for the last of them.
    fn send(
        &mut self,
        flags: Flags,
        order: u64,
        packets: u32,
        (road, cpu): (Road, usize),
    ) -> Result<Sent> {
        let frame = self.frame(flags);
        let plan = Plan::of(&frame).context("the frame is too short")?;
        let plan = Plan {
            order,
            mask: u64::from(FLOWS) - 1,
            // One address: random ones are martians to the kernel's router.
            same_bits: u64::from(u32::MAX),
            ..plan
        };
        self.plans.set(0, plan.words(), 0)?;
        let sink = if road.is_one_armed() {
            &mut self.back
        } else {
            &mut self.behind
        };
        sink.arrived.set(0, 0, 0)?;
        let replay = xdp(&mut self.generator, "replay")?;
        let run = || {
            let options = TestRunOptions {
                data_in: Some(&frame),
                repeat: packets,
                attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
                ..TestRunOptions::default()
            };
            let start = Instant::now();
            replay.test_run(options).context("sending live frames")?;
            Ok::<_, anyhow::Error>(start.elapsed())
        };
        let client = &self.client;
        // The kernel looks for the interface in the namespace of the caller.
        let elapsed = pinned(cpu, || client.run(run)?)?;
        // What is still queued is at most a ring of 256 frames.
        thread::sleep(PAUSE);
        let arrived = sink.arrived.get(&0, 0)?;
        Ok(Sent { arrived, elapsed })
    }

    fn frame(&self, flags: Flags) -> Vec<u8> {
        Segment {
            macs: self.macs,
            source: ([10, 203, 1, 10], 1),
            destination: (VIP_SMTP.octets(), SMTP_PORT),
            flags,
            ttl: 64,
            payload: vec![0; 15],
        }
        .bytes()
    }
}

/// What is between the ends; dropping it leaves the edge as the lab made it.
pub(super) enum Forwarder {
    Bare(#[expect(dead_code, reason = "holds the program's link")] Ebpf),
    Lb(Balancer),
    Nftables(Namespace),
}

impl Forwarder {
    /// For packets to this port of the virtual address.
    pub(super) fn start(world: &World, road: Road, port: u16) -> Result<Self> {
        let edge = world.lab().edge();
        match road {
            Road::Redirect => {
                let (index, _) = link(&edge, "lb-back")?;
                let mut ebpf = sending_to(index)?;
                attach(&mut ebpf, "forward", &edge, "lb-front")?;
                Ok(Self::Bare(ebpf))
            }
            Road::Transmit => {
                let mut ebpf = load()?;
                attach(&mut ebpf, "transmit", &edge, "lb-front")?;
                Ok(Self::Bare(ebpf))
            }
            Road::Lb => balance(world, "source = \"nat\"", (server(1), port)),
            Road::LbDsr => balance(world, "forward = \"dsr\"", (server(1), port)),
            Road::LbIpip => balance(world, "forward = \"ipip\"", (server(1), port)),
            Road::LbGue => balance(world, "forward = \"gue\"", (server(1), port)),
            Road::LbOneArmed => balance(world, "source = \"nat\"", (neighbour(), port)),
            Road::Nftables => {
                // Live frames are thrown away by a veth whose peer has no NAPI; a program or GRO gives it one.
                call(&edge, &["ethtool", "-K", "lb-front", "gro", "on"])?;
                let rules = format!(
                    "add table ip lb-bench; add chain ip lb-bench in {{ type nat hook prerouting priority dstnat; }}; \
                     add rule ip lb-bench in ip daddr {VIP_SMTP} tcp dport {port} dnat to {}:{port}",
                    server(1)
                );
                call(&edge, &["nft", &rules])?;
                Ok(Self::Nftables(edge))
            }
        }
    }

    /// What it says, if it says anything.
    fn log(&self) -> String {
        match self {
            Self::Bare(_) | Self::Nftables(_) => String::new(),
            Self::Lb(balancer) => balancer.log(),
        }
    }

    pub(super) fn stop(self) -> Result<()> {
        match self {
            Self::Bare(_) => Ok(()),
            Self::Lb(balancer) => {
                let log = balancer.log();
                let status = balancer.stop()?;
                ensure!(status.success(), "lb ended with {status}: {log}");
                Ok(())
            }
            Self::Nftables(edge) => {
                call(&edge, &["nft", "delete table ip lb-bench"])?;
                call(&edge, &["ethtool", "-K", "lb-front", "gro", "off"])
            }
        }
    }
}

/// `lb`, with a service of this port in the mode of that line.
fn balance(world: &World, mode: &str, (server, port): (Ipv4Addr, u16)) -> Result<Forwarder> {
    // A port rests for a minute after its connection, so that connection after connection takes more than one address.
    let [a, b, c, first] = SNAT.octets();
    let addresses: Vec<_> = (first..first + SOURCES)
        .map(|last| Ipv4Addr::new(a, b, c, last).to_string())
        .collect();
    for address in &addresses {
        let address = format!("{address}/32");
        let edge = world.lab().edge();
        call(
            &edge,
            &["ip", "address", "replace", &address, "dev", "lb-back"],
        )?;
    }
    let service = format!(
        "[nat]\naddresses = {addresses:?}\nports = \"1024-65535\"\n\n[[service]]\nname = \"smtp\"\n\
         listen = \"{VIP_SMTP}:{port}\"\nmode = \"l4\"\n{mode}\nservers = [\"{server}:{port}\"]\n\
         health = {{ kind = \"none\" }}\n",
    );
    world.balance(&service).map(Forwarder::Lb)
}

/// An address beside the client's, behind the interface that its packets come from.
fn neighbour() -> Ipv4Addr {
    let [a, b, c, _] = CLIENT.octets();
    Ipv4Addr::new(a, b, c, *CLIENT_EXTRA.start())
}

fn load() -> Result<Ebpf> {
    let object = bench_object()?;
    Ebpf::load_file(&object).with_context(|| format!("loading {}", object.display()))
}

/// The benchmark's programs, of which `redirect` and `forward` send to this interface.
pub(crate) fn sending_to(index: u32) -> Result<Ebpf> {
    let mut ebpf = load()?;
    Array::try_from(ebpf.map_mut("OUT").context("OUT")?)?.set(0, index, 0)?;
    Ok(ebpf)
}

/// Attaches in native mode, loading the program if need be; `ebpf` holds the link.
fn attach(ebpf: &mut Ebpf, name: &str, namespace: &Namespace, interface: &str) -> Result<()> {
    let program = xdp(ebpf, name)?;
    if program.fd().is_err() {
        program.load()?;
    }
    namespace
        .run(|| program.attach(interface, XdpMode::Driver).map(drop))?
        .with_context(|| format!("attaching to {interface}"))
}

pub(crate) fn xdp<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    let program = ebpf.program_mut(name).with_context(|| name.to_owned())?;
    Ok(program.try_into()?)
}

/// Index and hardware address of an interface.
pub(crate) fn link(namespace: &Namespace, interface: &str) -> Result<(u32, [u8; 6])> {
    #[derive(Deserialize)]
    struct Link {
        ifindex: u32,
        address: String,
    }
    let mut command = namespace.command("ip");
    let output = command.args(["-j", "link", "show", interface]).output()?;
    let links: Vec<Link> = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("`ip -j link show {interface}` printed something else"))?;
    let link = links.first().with_context(|| format!("no {interface}"))?;
    let octets: Vec<u8> = link
        .address
        .split(':')
        .map(|octet| u8::from_str_radix(octet, 16))
        .collect::<Result<_, _>>()
        .with_context(|| format!("{interface} has the address {}", link.address))?;
    let address = octets.try_into();
    Ok((
        link.ifindex,
        address.map_err(|_| anyhow::anyhow!("{interface} is no Ethernet"))?,
    ))
}

fn call(namespace: &Namespace, words: &[&str]) -> Result<()> {
    let [program, arguments @ ..] = words else {
        bail!("no program to call");
    };
    let output = namespace.command(program).args(arguments).output()?;
    ensure!(
        output.status.success(),
        "{}: {}",
        words.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

/// Few enough for the kernel's connection tracking of every machine.
const FLOWS: u32 = 1024;
/// As many as NAPI takes at a time; a ring of veth holds four of these.
const BATCH: u32 = 64;
/// Source addresses for full NAT.
const SOURCES: u8 = 8;
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(20);
