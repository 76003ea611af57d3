//! A lab whose edge serves moving connections, and a crowd of them.

use std::{
    fmt, fs,
    net::SocketAddr,
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use lb_transport::af_xdp::{Counters, MoveLimits};
use tokio::sync::oneshot;

use super::{
    Counts, Outcome, client,
    request::{Kind, Order, Request},
    server::{self, Serving},
};
use crate::{
    address::{VIP_HTTP, ipv6},
    guard::Interrupts,
    lab::{Lab, Size},
    lossy::{Lossy, Traffic},
    soak::dice::Dice,
};

/// The wire and the client.
#[derive(Clone, Copy, Debug)]
pub struct Conditions<'a> {
    /// Of a thousand data segments, in each direction, so many are lost.
    pub permille: u32,
    /// Of which are lost.
    pub seed: u64,
    /// Options that the client doesn't offer: names of its sysctls.
    pub off: &'a [&'a str],
    /// What moves may cost the server.
    pub limits: MoveLimits,
}

impl Conditions<'_> {
    /// What nobody may wait for longer.
    fn stall(&self) -> Duration {
        let lacks = |option| self.off.contains(&option);
        if self.permille > 0 && lacks("tcp_timestamps") && lacks("tcp_sack") {
            UNTOLD
        } else {
            STALL
        }
    }
}

impl Default for Conditions<'_> {
    /// A wire without loss, all options, and moves without limits.
    fn default() -> Self {
        Self {
            permille: 0,
            seed: 1,
            off: &[],
            limits: MoveLimits {
                per_second: 1_000_000,
                connections: 10_000,
            },
        }
    }
}

/// A lab whose edge serves.
pub struct Running<'a> {
    /// The network.
    pub lab: &'a Lab,
    /// Where it serves, in both families.
    pub addresses: [SocketAddr; 2],
    /// What became of each connection, as the server saw it.
    pub outcomes: mpsc::Receiver<Outcome>,
    /// Clients of connections that the map has forgotten, of [`Order::Watched`].
    pub forgotten: mpsc::Receiver<SocketAddr>,
}

impl Running<'_> {
    /// Does something in the client's namespace.
    pub fn in_client<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        self.lab.client().run(work)
    }
}

/// What happened meanwhile.
#[derive(Debug)]
pub struct Served {
    /// What the engine has counted.
    pub engine: Counters,
    /// What the kernel has counted at the client.
    pub client: Counts,
    /// And at the edge.
    pub edge: Counts,
    /// The wire towards the client.
    pub to_client: Traffic,
    /// The wire towards the edge.
    pub to_edge: Traffic,
}

impl Served {
    /// Connections that were reset while they were open, as either end counted them.
    pub fn resets(&self) -> u64 {
        let kernels = [&self.client, &self.edge];
        let kernels: u64 = kernels.map(|counts| counts.get("EstabResets")).iter().sum();
        kernels + self.engine.tcp.estab_resets
    }

    /// Segments that were answered with RST. After the end that is every segment which comes twice and late, where the end was
    /// the other side's to remember: nobody is reset by it.
    pub fn refused(&self) -> u64 {
        let kernels = [&self.client, &self.edge];
        let kernels: u64 = kernels.map(|counts| counts.get("OutRsts")).iter().sum();
        kernels + self.engine.tcp.out_rsts
    }
}

/// Serves while `clients` runs.
pub fn while_serving<T>(
    conditions: Conditions<'_>,
    clients: impl FnOnce(&Running<'_>) -> Result<T>,
) -> Result<(T, Served)> {
    let lab = Lab::up(Size {
        servers: 1,
        queues: 2,
    })?;
    lab.speak_ipv6()?;
    let (client, edge) = (lab.client(), lab.edge());
    for option in conditions.off {
        let path = format!("/proc/sys/net/ipv4/{option}");
        client.run(|| fs::write(&path, "0"))??;
    }
    let wires = Wires::up(&lab, conditions)?;
    let before = [Counts::of(&client)?, Counts::of(&edge)?];
    let (ready, is_ready) = mpsc::channel();
    let (stop, stopped) = oneshot::channel();
    let (report, outcomes) = mpsc::channel();
    let (tell_forgotten, forgotten) = mpsc::channel();
    let addresses = [VIP_HTTP.into(), ipv6(VIP_HTTP).into()].map(|ip| SocketAddr::new(ip, PORT));
    let Wires { down, mut up } = wires;
    let (done, engine) = thread::scope(|scope| {
        let wire = &mut up;
        let serving = Serving {
            addresses: addresses.into(),
            limits: conditions.limits,
            ready,
            stop: stopped,
            outcomes: report,
            forgotten: tell_forgotten,
        };
        let serve = scope.spawn(move || edge.run(|| server::serve(serving, wire)));
        // If the server failed to start, joining tells why.
        let done = is_ready.recv().ok().map(|()| {
            let running = Running {
                lab: &lab,
                addresses,
                outcomes,
                forgotten,
            };
            clients(&running)
        });
        drop(stop);
        let engine = serve.join().ok().context("the server panicked")???;
        let done = done.context("the server ended before it served")??;
        Ok::<_, anyhow::Error>((done, engine))
    })?;
    let [client, edge] = [lab.client(), lab.edge()].map(|namespace| Counts::of(&namespace));
    let served = Served {
        engine,
        client: client?.since(&before[0]),
        edge: edge?.since(&before[1]),
        to_client: down.map_or(Ok(Traffic::default()), |down| down.traffic())?,
        to_edge: up.traffic()?,
    };
    Ok((done, served))
}

/// Where the server listens.
const PORT: u16 = 7001;

/// Both directions.
struct Wires {
    /// Only where it loses: on an interface with a program, the kernel's end sends no large pieces.
    down: Option<Lossy>,
    /// Attached by the server, in front of the product's program.
    up: Lossy,
}

impl Wires {
    fn up(lab: &Lab, conditions: Conditions<'_>) -> Result<Self> {
        let Conditions { permille, seed, .. } = conditions;
        let down = if permille > 0 {
            let mut down = Lossy::load()?;
            down.attach(&lab.client(), "lb-eth0")?;
            down.lose(permille, 2 * seed)?;
            Some(down)
        } else {
            None
        };
        let mut up = Lossy::load()?;
        up.lose(permille, 2 * seed + 1)?;
        Ok(Self { down, up })
    }
}

/// Many connections, each of which moves.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    /// How many.
    pub connections: u32,
    /// How they move.
    pub order: Order,
    /// Under which conditions.
    pub conditions: Conditions<'a>,
}

/// What came of it.
#[derive(Debug)]
pub struct Found {
    /// Connections that moved in mid-transfer.
    pub moved: u32,
    /// Those that were to move and did not.
    pub stayed: u32,
    /// Those that began on the kernel: their tuple was still in the map.
    pub begun: u32,
    /// Transfers that failed at either end, described; the first twenty.
    pub failures: Vec<String>,
    /// The longest time for which bytes were due and none came.
    pub longest: Duration,
    /// Connections in which that was too long, for their conditions.
    pub stalls: u32,
    /// What was counted meanwhile.
    pub served: Served,
}

/// Nobody may wait longer, as long as the client has an option that tells of losses or of round trips.
const STALL: Duration = Duration::from_secs(1);

/// Without timestamps a socket that was in repair learns the round trip from an octet that is acknowledged alone, or from new data. Until
/// then Linux takes three seconds for its timeout (`TCP_TIMEOUT_FALLBACK`), and without SACK nothing else may tell it that the head of
/// what was in flight got lost: one in some two thousand of such moves.
const UNTOLD: Duration = Duration::from_secs(4);

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            moved,
            stayed,
            begun,
            failures,
            longest,
            stalls,
            served,
        } = self;
        let (failed, resets) = (failures.len(), served.resets());
        let (lost, seen) = (
            served.to_client.lost + served.to_edge.lost,
            served.to_client.seen + served.to_edge.seen,
        );
        write!(
            f,
            "{moved} moved, {stayed} stayed, {begun} began on the kernel; {failed} failed, {resets} resets, {stalls} stalls \
             too long (longest {} ms); {lost} of {seen} segments lost; client: {}; edge: {}; given back: {}, slowest turn {} µs",
            longest.as_millis(),
            served.client,
            served.edge,
            served.engine.moves.reinjected,
            served.engine.moves.slowest_micros,
        )
    }
}

impl Found {
    /// Fails if anybody could have noticed a move, or one of so many connections did not move.
    pub fn check(&self, connections: u32) -> Result<()> {
        let Self {
            moved,
            begun,
            failures,
            stalls,
            served,
            ..
        } = self;
        ensure!(failures.is_empty(), "{failures:#?}");
        ensure!(served.resets() == 0, "resets: {self}");
        ensure!(moved + begun == connections, "not all have moved: {self}");
        ensure!(*stalls == 0, "somebody waited: {self}");
        Ok(())
    }
}

/// Runs the plan in a lab of its own; what is wrong is in what it returns.
pub fn crowd(plan: Plan<'_>, interrupts: &Interrupts) -> Result<Found> {
    let (tally, served) = while_serving(plan.conditions, |running| {
        let tally = Tally::default();
        let next = AtomicU32::new(0);
        let addresses = running.addresses;
        let work = || {
            while let Some(number) = take(&next, plan.connections) {
                if interrupts.wanted() {
                    return;
                }
                let (family, request) = request(plan, number);
                let done = client::transfer(addresses[family], request);
                let done = done.map_err(|error| error.to_string());
                tally.client((number, request), done, plan.conditions);
            }
        };
        at_once(&running.lab.client(), &work)?;
        interrupts.check()?;
        for _ in 0..plan.connections {
            let outcome = running.outcomes.recv_timeout(client::PATIENCE);
            let outcome = outcome.context("a connection that the server doesn't end")?;
            tally.server(&outcome, plan.conditions);
        }
        Ok(tally)
    })?;
    let Sums {
        moved,
        stayed,
        begun,
        failures,
        longest,
        stalls,
    } = tally
        .0
        .into_inner()
        .map_err(|_| anyhow::anyhow!("a client panicked"))?;
    Ok(Found {
        moved,
        stayed,
        begun,
        failures,
        longest,
        stalls,
        served,
    })
}

/// Transfers at a time.
const AT_ONCE: usize = 8;

/// Does the work on several threads of the client's namespace.
fn at_once(client: &crate::lab::Namespace, work: &(impl Fn() + Sync)) -> Result<()> {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_ONCE)
            .map(|_| scope.spawn(|| client.run(work)))
            .collect();
        for thread in threads {
            thread.join().ok().context("a client panicked")??;
        }
        Ok(())
    })
}

fn take(next: &AtomicU32, end: u32) -> Option<u32> {
    let number = next.fetch_add(1, Ordering::Relaxed);
    (number < end).then_some(number)
}

/// What connection `number` does, and in which family.
fn request(plan: Plan<'_>, number: u32) -> (usize, Request) {
    let mut dice = Dice::new(plan.conditions.seed ^ (u64::from(number) << 32));
    let kinds = Kind::ALL.len();
    let length = SHORTEST + dice.roll(SHORTEST);
    let request = Request {
        kind: Kind::ALL[number as usize % kinds],
        order: plan.order,
        server_closes: dice.chance(50),
        length: u32::try_from(length).unwrap_or(u32::MAX),
        // Not in the last tenth, where a transfer may be over before it can move.
        move_at: u32::try_from(dice.roll(length * 9 / 10)).unwrap_or(0),
    };
    (number as usize / kinds % 2, request)
}

/// Bytes: several windows.
const SHORTEST: u64 = 500_000;

/// What clients and server have seen so far.
#[derive(Default)]
struct Tally(Mutex<Sums>);

#[derive(Default)]
struct Sums {
    moved: u32,
    stayed: u32,
    begun: u32,
    failures: Vec<String>,
    longest: Duration,
    stalls: u32,
}

impl Tally {
    fn client(
        &self,
        (number, request): (u32, Request),
        done: Result<Duration, String>,
        conditions: Conditions<'_>,
    ) {
        self.add(|sums| match done {
            Ok(silence) => sums.silent(silence, conditions.stall()),
            Err(error) => sums.fail(format!("client {number}, {request:?}: {error}")),
        });
    }

    fn server(&self, outcome: &Outcome, conditions: Conditions<'_>) {
        self.add(|sums| {
            sums.silent(outcome.silence, conditions.stall());
            if let Err(error) = outcome.result {
                sums.fail(format!("server, {:?}: {error}", outcome.request));
            }
            match (outcome.begun, outcome.moved) {
                (true, _) => sums.begun += 1,
                (false, true) => sums.moved += 1,
                (false, false) => sums.stayed += 1,
            }
            let mss = outcome.mss;
            if mss.is_some_and(|mss| !is_full_mss(mss, outcome, conditions)) {
                sums.fail(format!("MSS of {outcome:?}"));
            }
        });
    }

    fn add(&self, what: impl FnOnce(&mut Sums)) {
        if let Ok(mut sums) = self.0.lock() {
            what(&mut sums);
        }
    }
}

impl Sums {
    fn silent(&mut self, silence: Duration, stall: Duration) {
        self.longest = self.longest.max(silence);
        if silence > stall {
            self.stalls += 1;
        }
    }

    fn fail(&mut self, what: String) {
        if self.failures.len() < MOST {
            self.failures.push(what);
        }
    }
}

/// What headers and options leave of an Ethernet's 1,500 bytes. Without timestamps it may be 12 less: a socket that connects in repair
/// reckons with them as its host has them, and no option tells it otherwise.
fn is_full_mss(mss: u32, outcome: &Outcome, conditions: Conditions<'_>) -> bool {
    let ip = if outcome.local.is_ipv4() { 20 } else { 40 };
    let with_timestamps = 1500 - ip - 20 - 12;
    let most = if conditions.off.contains(&"tcp_timestamps") {
        with_timestamps + 12
    } else {
        with_timestamps
    };
    (with_timestamps..=most).contains(&mss)
}

/// Descriptions that are kept.
const MOST: usize = 20;
