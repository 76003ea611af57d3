//! From a seed to a run: who the ends are, what link they have, what they do, and what must come of it.

use std::net::SocketAddr;
use std::time::Duration;

use lb_tcp::{Config, FlowKey, Instant, Open, Seq};

use crate::app::{App, Outcome, Plan, Stream};
use crate::fault::Fault;
use crate::host::Host;
use crate::link::{self, Link};
use crate::monitor::Monitor;
use crate::ours::{Ours, Setup};
use crate::packet::ip_header;
use crate::rng::Rng;
use crate::served::Served;
use crate::smol::Smol;
use crate::talk::Talk;
use crate::world::{End, Report, World};

/// Whose TCP an end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Connection,
    Endpoint,
    Smoltcp,
}

/// All that a seed decides.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    seed: u64,
    kinds: [Kind; 2],
    #[expect(dead_code, reason = "for the reader of a failure")]
    talk: Talk,
    plans: [Plan; 2],
    setups: [Setup; 2],
    links: [link::Plan; 2],
    start: Instant,
    /// Both connect, at the same time.
    both_connect: bool,
    /// Whether a connection may end without having brought everything.
    may_fail: bool,
}

impl Scenario {
    pub(crate) fn new(fault: Fault, kinds: [Kind; 2], seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ (fault as u64) << 48);
        let start = start(&mut rng);
        let mtu = rng.pick(&[576, 1280, 1500, 1500, 1500, 9000]);
        let talk = Talk::any(&mut rng);
        let mut links = wires(mtu, &mut rng);
        let is_v6 = mtu >= 1280 && rng.chance(300_000);
        fault.strike(&mut links, if is_v6 { 1280 } else { 576 }, start, &mut rng);
        let mut most = Self::most_bytes(&links, &mut rng);
        if kinds.contains(&Kind::Smoltcp) {
            // Without SACK it recovers a segment for each timeout, and timeouts double.
            most = most.min(100_000);
        }
        let keys = keys(is_v6, &mut rng);
        let mut setups = keys.map(|key| setup(key, mtu, &mut rng));
        for config in setups.iter_mut().map(|setup| &mut setup.config) {
            if talk == Talk::Abort {
                // A lost RST must not leave the other end waiting.
                config.keepalive = Duration::from_secs(10);
            }
            if kinds.contains(&Kind::Smoltcp) {
                // A window that is rounded down can close before it was filled; smoltcp 0.14 then forgets what it has sent.
                config.window_scale = config.window_scale.min(7);
            }
        }
        Self {
            seed,
            kinds,
            talk,
            plans: talk.plans(most, &mut rng),
            setups,
            both_connect: kinds.iter().all(|it| *it != Kind::Smoltcp) && rng.chance(30_000),
            links,
            start,
            may_fail: talk == Talk::Abort,
        }
    }

    /// More bytes where the link is faster, so that slow ones don't take hours.
    fn most_bytes(links: &[link::Plan; 2], rng: &mut Rng) -> u64 {
        let slowest = links[0].rate.min(links[1].rate);
        rng.magnitude(1 << 12, 1 << 20).min(slowest * 4).max(100)
    }

    /// Runs it.
    ///
    /// # Errors
    /// What went wrong.
    pub(crate) fn run(&self) -> Result<Report, String> {
        let mut rng = Rng::new(self.seed);
        let streams = [Stream(rng.next()), Stream(rng.next())];
        let mut end = |side: usize| End {
            host: self.host(side),
            app: App::new(
                &self.plans[side],
                streams[side],
                streams[1 - side],
                rng.fork(),
            ),
            link: Link::new(self.links[side].clone(), rng.fork()),
            monitor: Monitor::new(streams[side], self.kinds[side] != Kind::Smoltcp),
        };
        let mut world = World::new([end(0), end(1)], self.start);
        let connecting: &[usize] = if self.both_connect { &[0, 1] } else { &[0] };
        let report = world.run(connecting)?;
        self.judge(&report)
            .map_err(|why| format!("{why}. {}", world.describe()))?;
        Ok(report)
    }

    fn host(&self, side: usize) -> Box<dyn Host> {
        let setup = self.setups[side].clone();
        match self.kinds[side] {
            Kind::Connection => Box::new(Ours::new(setup)),
            Kind::Endpoint => {
                let mtu = self.links[side].mtu;
                Box::new(Served::new(setup, mtu, self.seed, self.start))
            }
            Kind::Smoltcp => {
                let buffer = setup.config.receive_window;
                Box::new(Smol::new(
                    setup.key,
                    buffer,
                    self.links[side].mtu,
                    self.seed,
                ))
            }
        }
    }

    fn judge(&self, report: &Report) -> Result<(), String> {
        for side in 0..2 {
            let outcome = report.outcomes[side];
            let peer_total = self.plans[1 - side].total();
            if report.read[side] == peer_total && outcome == Outcome::Done {
                continue;
            }
            if !self.may_fail || report.read[side] > peer_total {
                return Err(format!(
                    "end {side} is {outcome:?}, with {} of {peer_total} bytes",
                    report.read[side]
                ));
            }
        }
        Ok(())
    }
}

/// Clocks wrap: the milliseconds of timestamps after 49 days.
fn start(rng: &mut Rng) -> Instant {
    let wrap = (1_u64 << 32) * 1000;
    let before = wrap - rng.magnitude(1, 100_000_000);
    let any = rng.below(wrap);
    Instant::from_micros(rng.pick(&[0, before, any]))
}

fn wires(mtu: usize, rng: &mut Rng) -> [link::Plan; 2] {
    let rate = rng.magnitude(500_000, 10_000_000_000);
    let delay = Duration::from_micros(rng.magnitude(10, 200_000));
    let queue = rng.size(12, 1000);
    let pushes_back = rng.chance(300_000);
    let plan = link::Plan {
        rate,
        delay,
        queue,
        pushes_back,
        grain: Duration::from_micros(rng.pick(&[0, 0, 50, 1000])),
        mtu,
        faults: link::Faults::default(),
    };
    let mut back = plan.clone();
    if rng.chance(200_000) {
        // As with a DSL line: the way back is slower.
        back.rate = (rate / rng.magnitude(2, 32)).max(500_000);
    }
    [plan, back]
}

fn keys(v6: bool, rng: &mut Rng) -> [FlowKey; 2] {
    let [local, remote] = if v6 {
        ["[fd00::1]", "[fd00::2]"]
    } else {
        ["10.0.0.1", "10.0.0.2"]
    };
    let mut address = |host: &str| -> SocketAddr {
        let port = rng.range(1, 65_535);
        format!("{host}:{port}").parse().unwrap()
    };
    let (local, remote) = (address(local), address(remote));
    [
        FlowKey { local, remote },
        FlowKey {
            local: remote,
            remote: local,
        },
    ]
}

#[expect(clippy::cast_possible_truncation, reason = "any 32 bits will do")]
fn setup(key: FlowKey, mtu: usize, rng: &mut Rng) -> Setup {
    // Sequence numbers and timestamps wrap within the run, every now and then.
    let mut number = || {
        let near = (rng.magnitude(1, 1 << 20) as u32).wrapping_neg();
        let any = rng.next() as u32;
        rng.pick(&[near, any, any])
    };
    Setup {
        key,
        open: Open {
            iss: Seq(number()),
            timestamp_offset: number(),
            mss: mtu - ip_header(key.local) - 20,
        },
        config: config(rng),
        scaling: rng.chance(800_000),
    }
}

fn config(rng: &mut Rng) -> Config {
    let window = rng.size(2 << 10, 256 << 10);
    Config {
        memory: 64 << 20,
        receive_window: window,
        max_receive_window: window << rng.below(5),
        max_send_buffer: rng.size(4 << 10, 1 << 20),
        window_scale: u8::try_from(rng.pick(&[0, 2, 7, 10, 14])).unwrap(),
        sack: rng.chance(800_000),
        timestamps: rng.chance(700_000),
        pacing: rng.chance(200_000),
        delayed_ack: Duration::from_millis(rng.pick(&[1, 40, 40, 200])),
        keepalive: Duration::from_secs(rng.pick(&[0, 10, 7200])),
        // Bad luck with three probes in a row is no end.
        user_timeout: Duration::from_hours(1),
        // At 1, every SYN is answered with a cookie.
        backlog: rng.pick(&[1, 16, 16]),
        ..Config::default()
    }
}
