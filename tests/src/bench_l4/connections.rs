//! Whole TCP connections through layer 4 balancers, HAProxy in TCP mode among them: what the road can't show, because
//! its frames belong to connections without another end.
//!
//! wrk loads one server of the pool; on two CPUs client and server saturate first, so what counts is the CPU time of the
//! whole machine for a request, less the direct run's. Not here: packets (`road`).

use std::{fmt, fs, net::Ipv4Addr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use super::{
    Sizes,
    road::{Forwarder, Road},
};
use crate::{
    address::{VIP_SMTP, server},
    bench::{Case, Window, float, wrk},
    client,
    guard::Interrupts,
    lab::Process,
    pool::HTTP_PORT,
    world::{World, eventually},
};

/// Who is between client and server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// Nobody: the edge only routes.
    Direct,
    /// `lb`, full NAT.
    Lb,
    /// One nftables DNAT rule.
    Nftables,
    /// Debian's HAProxy, `mode tcp`.
    Haproxy,
}

impl Way {
    /// In the order of a round.
    pub const ALL: [Self; 4] = [Self::Direct, Self::Lb, Self::Nftables, Self::Haproxy];

    /// For people.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Lb => "lb, full NAT",
            Self::Nftables => "nftables DNAT",
            Self::Haproxy => "HAProxy, mode tcp",
        }
    }

    const fn address(self) -> Ipv4Addr {
        match self {
            Self::Direct => server(1),
            Self::Lb | Self::Nftables | Self::Haproxy => VIP_SMTP,
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.title())
    }
}

/// One run of wrk.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConnectionSample {
    /// Through whom.
    pub way: Way,
    /// The load.
    pub case: Case,
    /// Counted from 1.
    pub round: u32,
    /// Answers a second.
    pub requests_per_second: f64,
    /// Microseconds of CPU time that the whole machine took for a request, less what other programs took.
    pub cpu_us: f64,
}

/// Runs all of them in turns.
pub(super) fn run(
    sizes: &Sizes,
    interrupts: &Interrupts,
    progress: &dyn Fn(&str),
) -> Result<Vec<ConnectionSample>> {
    let world = World::start(1)?;
    let mut samples = Vec::new();
    for &case in &sizes.connection_cases {
        for round in 1..=sizes.connection_rounds {
            for way in Way::ALL {
                interrupts.check()?;
                let sample = sample(&world, way, case, round, sizes.connection_seconds);
                let sample = sample.with_context(|| format!("{way}, {}", case.title()))?;
                progress(&format!(
                    "{}, round {round}, {way:<17}: {:>6.0} requests/s, {:.1} µs CPU each",
                    case.title(),
                    sample.requests_per_second,
                    sample.cpu_us,
                ));
                samples.push(sample);
            }
        }
    }
    Ok(samples)
}

fn sample(
    world: &World,
    way: Way,
    case: Case,
    round: u32,
    seconds: u64,
) -> Result<ConnectionSample> {
    let between = Between::start(world, way)?;
    let url = format!("http://{}/bench/1", way.address());
    eventually(&format!("{url} is served"), || {
        Ok(client::get(&url)?.0 == 200)
    })?;
    let window = Window::open()?;
    let client = world.lab().client();
    let length = Duration::from_secs(seconds);
    let counted = wrk::load(
        &client,
        world.directory(),
        &format!(
            "{}://{}/bench/{}",
            case.scheme(),
            way.address(),
            case.body()
        ),
        &[way.address()],
        case,
        length,
    )?;
    let busy = window.close()?;
    between.stop()?;
    // The server remembers connections of the run before for a minute, and takes a new one that looks like one of them for
    // a late segment; so one in ten thousand may fail, through any balancer.
    let errors = counted.errors.total();
    ensure!(
        errors * 10_000 <= counted.requests && counted.requests > 0,
        "{} requests, {errors} errors",
        counted.requests
    );
    let requests = float(counted.requests);
    let ours = busy.all.saturating_sub(busy.others);
    Ok(ConnectionSample {
        way,
        case,
        round,
        requests_per_second: requests / (float(counted.duration_us) / 1e6),
        cpu_us: ours.as_secs_f64() * 1e6 / requests,
    })
}

/// Who is there; dropping it ends it.
enum Between {
    Nobody,
    Forwarder(Forwarder),
    Haproxy(Process),
}

impl Between {
    fn start(world: &World, way: Way) -> Result<Self> {
        match way {
            Way::Direct => Ok(Self::Nobody),
            Way::Lb => Forwarder::start(world, Road::Lb, HTTP_PORT).map(Self::Forwarder),
            Way::Nftables => {
                Forwarder::start(world, Road::Nftables, HTTP_PORT).map(Self::Forwarder)
            }
            Way::Haproxy => haproxy(world).map(Self::Haproxy),
        }
    }

    fn stop(self) -> Result<()> {
        match self {
            Self::Nobody => Ok(()),
            Self::Forwarder(forwarder) => forwarder.stop(),
            // SIGTERM ends it at once; its exit code then tells of the signal.
            Self::Haproxy(mut process) => process.terminate().map(drop),
        }
    }
}

fn haproxy(world: &World) -> Result<Process> {
    let path = world.directory().join("haproxy.cfg");
    let text = format!(
        "global\n    nbthread 2\n    maxconn 8000\ndefaults\n    mode tcp\n    timeout connect 5s\n    \
         timeout client 40m\n    timeout server 40m\nlisten tcp\n    bind {VIP_SMTP}:{HTTP_PORT}\n    \
         server one {}:{HTTP_PORT}\n",
        server(1)
    );
    fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    // -db: stay in the foreground.
    world.lab().edge().spawn("haproxy", |command| {
        command.args(["-db", "-f"]).arg(&path);
    })
}
