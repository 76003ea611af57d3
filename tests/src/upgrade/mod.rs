//! Daemons that succeed each other under load: does a client ever notice?
//!
//! Clients send small requests on connections that they keep, and on new ones, and have long transfers both ways, over TLS and
//! without. Meanwhile the daemon is replaced as often as the plan says, each time by a new process with the same pins. Every byte
//! is compared with what it must be, and every request must be answered.
//!
//! | module | job |
//! |---|---|
//! | `origin` | the server: bytes that can be told from each other, sent and taken at a pace |
//! | `load` | the clients |
//!
//! Invariant: nothing is tried again, so that what is lost is seen. Called by `tests/tests/upgrade.rs` and `lb-soak upgrade`.

mod load;
pub(crate) mod origin;

use std::{
    fmt, fs,
    net::{SocketAddrV4, TcpListener},
    path::{Path, PathBuf},
    thread,
};

use anyhow::{Context as _, Result, ensure};

pub use self::load::Found;
use self::{load::Load, origin::Origin};
use crate::{
    address::{VIP_HTTP, server},
    lab::Namespace,
    world::{Balancer, World, eventually},
};

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How often the daemon is replaced.
    pub upgrades: u32,
    /// How many daemons fail at first, in the middle of taking over.
    pub failures: u32,
    /// Where connections live.
    pub transport: Transport,
    /// Bytes of each long transfer.
    pub size: usize,
}

/// Where connections live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// In the kernel's TCP.
    Kernel,
    /// In the workers', big ones too, until their daemon leaves.
    AfXdp,
    /// In the workers' until they are big.
    Auto,
}

impl Transport {
    /// Its lines of a service.
    fn lines(self) -> String {
        match self {
            Self::Kernel => "transport = \"kernel\"".to_owned(),
            Self::Auto => "transport = \"auto\"".to_owned(),
            Self::AfXdp => format!(
                "transport = \"auto\"\nhandover = {{ response = {NEVER}, upload = {NEVER}, streamed = {NEVER}, begin = \"af_xdp\" }}"
            ),
        }
    }
}

/// As large as a threshold of `handover` may be.
const NEVER: u32 = 1 << 30;

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// What clients found.
    pub found: Found,
    /// Daemons that were replaced.
    pub upgrades: u32,
    /// Connections that had to move to the kernel, and those that could not.
    pub moved: [u64; 2],
    /// What the daemons said.
    pub log: Vec<String>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [moved, reset] = self.moved;
        let Self {
            upgrades, found, ..
        } = self;
        write!(
            f,
            "{upgrades} upgrades, {moved} connections moved, {reset} reset: {found}"
        )
    }
}

/// Runs the plan in a lab of its own, as long as `goes_on` doesn't fail. Fails when a daemon doesn't start or end as it should;
/// what clients found is in what it returns.
pub fn run(plan: Plan, goes_on: impl Fn() -> Result<()>) -> Result<Outcome> {
    let world = World::start(1)?;
    let origin = Origin::start(&world)?;
    let pins = PinDirectory::new("upgrade");
    let configuration = configuration(&world, plan.transport);
    let start = |configuration: &str| world.balance_pinned(configuration, &pins.0);
    let mut daemon = start(&configuration)?;
    daemon.until_ready()?;
    let load = Load::new(&world, plan.size);
    let mut log = Vec::new();
    let outcome = thread::scope(|scope| {
        let clients = scope.spawn(|| Namespace::client().run(|| load.run()));
        let failed =
            (0..plan.failures).try_for_each(|_| fail(&mut daemon, &load, &configuration, start));
        let again = || {
            goes_on()?;
            start(&configuration)
        };
        let replaced = failed.and_then(|()| replace(plan.upgrades, daemon, &load, again, &mut log));
        load.end();
        clients.join().ok().context("the load panicked")??;
        replaced
    });
    let (daemon, leaving) = outcome?;
    for (number, mut old) in leaving.into_iter().enumerate() {
        let status = old.wait()?;
        log.push(old.log());
        ensure!(
            status.success(),
            "daemon {number} ended with {status}:\n{}",
            old.log()
        );
    }
    log.push(daemon.log());
    let status = daemon.stop()?;
    ensure!(status.success(), "the last daemon ended with {status}");
    drop(origin);
    Ok(Outcome {
        found: load.found(),
        upgrades: plan.upgrades,
        moved: ["moved=", "reset="].map(|key| sum(&log, key)),
        log,
    })
}

/// Starts a daemon that fails when the one that runs has already made room: somebody has the address of a service that only
/// the new one has.
fn fail(
    daemon: &mut Balancer,
    load: &Load,
    configuration: &str,
    start: impl Fn(&str) -> Result<Balancer>,
) -> Result<()> {
    let taken = SocketAddrV4::new(VIP_HTTP, 81);
    let _owner = Namespace::edge().run(|| TcpListener::bind(taken))??;
    let more = format!(
        "[[service]]\nname = \"taken\"\nlisten = \"{taken}\"\nmode = \"http\"\ntransport = \"kernel\"\n\
         servers = [\"{}:{}\"]\n",
        server(1),
        origin::PORT,
    );
    load.goes_on()?;
    let mut successor = start(&format!("{configuration}{more}"))?;
    let status = successor.wait()?;
    let log = successor.log();
    ensure!(
        !status.success() && log.contains("taking over") && log.contains("listening on"),
        "{status}: {log}"
    );
    daemon.check()?;
    eventually("connections begin on AF_XDP again", || {
        // It answers nothing until it is back.
        Ok(daemon.tcp("TcpPassiveOpens").unwrap_or(0) > 0)
    })?;
    load.goes_on()
}

/// The numbers behind `key` in all logs.
fn sum(logs: &[String], key: &str) -> u64 {
    let lines = logs.iter().flat_map(|log| log.lines());
    let lines = lines.filter(|line| line.contains("connections moved to the kernel"));
    let values = lines.filter_map(|line| {
        line.split_once(key)?
            .1
            .split(' ')
            .next()?
            .parse::<u64>()
            .ok()
    });
    values.sum()
}

/// Replaces the daemon again and again; the last one, and those before it, of which some may still have clients.
fn replace(
    upgrades: u32,
    mut daemon: Balancer,
    load: &Load,
    start: impl Fn() -> Result<Balancer>,
    log: &mut Vec<String>,
) -> Result<(Balancer, Vec<Balancer>)> {
    let mut leaving: Vec<Balancer> = Vec::new();
    for _ in 0..upgrades {
        load.goes_on()?;
        let mut next = start()?;
        next.until_ready()?;
        leaving.push(std::mem::replace(&mut daemon, next));
        // Those that have ended, so that fifty need no more room than a few.
        let mut left = Vec::new();
        for mut old in leaving {
            match old.ended()? {
                Some(status) => {
                    ensure!(
                        status.success(),
                        "a daemon that left: {status}:\n{}",
                        old.log()
                    );
                    log.push(old.log());
                }
                None => left.push(old),
            }
        }
        leaving = left;
    }
    load.goes_on()?;
    Ok((daemon, leaving))
}

/// Port of plain HTTP, and of TLS, on the virtual address.
const PLAIN: SocketAddrV4 = SocketAddrV4::new(VIP_HTTP, 80);
const TLS: SocketAddrV4 = SocketAddrV4::new(VIP_HTTP, 443);

fn configuration(world: &World, transport: Transport) -> String {
    let files = world.certs();
    let service = |name: &str, listen: SocketAddrV4, more: &str| {
        format!(
            "[[service]]\nname = \"{name}\"\nlisten = \"{listen}\"\nmode = \"http\"\n{}\n\
             servers = [\"{}:{}\"]\nhealth = {{ kind = \"tcp\", interval = \"1s\" }}\n{more}\n",
            transport.lines(),
            server(1),
            origin::PORT,
        )
    };
    let tls = format!(
        "tls = {{ certificate = \"{}\", key = \"{}\" }}",
        files.certificate.display(),
        files.key.display()
    );
    service("plain", PLAIN, "") + &service("tls", TLS, &tls)
}

/// A directory of pins that is empty before and after.
#[derive(Debug)]
pub struct PinDirectory(PathBuf);

impl PinDirectory {
    /// With this at the end of its name.
    pub fn new(name: &str) -> Self {
        let directory = Self(PathBuf::from(format!("/sys/fs/bpf/lb-tests-{name}")));
        directory.clear();
        directory
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    fn clear(&self) {
        for entry in fs::read_dir(&self.0).into_iter().flatten().flatten() {
            let _ = fs::remove_file(entry.path());
        }
        let _ = fs::remove_dir(&self.0);
    }
}

impl Drop for PinDirectory {
    fn drop(&mut self) {
        self.clear();
    }
}
