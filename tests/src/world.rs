//! A lab with a pool in it, and optionally the load balancer in front: what a test starts with.
//!
//! Invariant: dropping it ends the processes first and then removes the network. Making one takes well under a
//! second, so every test has its own and none sees what another left behind.
//! Used by the tests and by the demo.

use std::{
    ffi::OsStr,
    fs,
    net::SocketAddrV4,
    path::{Path, PathBuf},
    process::ExitStatus,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;

use crate::{
    address, binaries,
    certs::{self, Files},
    client,
    lab::{Lab, Namespace, Process, Size},
    pool::{
        HTTP_PORT, HTTPS_PORT, SMTP_PORT, Server, Settings,
        journal::{AuthLeg, Entry, Event, Request},
    },
};

/// A lab, its pool servers, certificates and a directory for what they write.
///
/// The order of the fields is the order of the end: servers, network, files.
#[derive(Debug)]
pub struct World {
    servers: Vec<Server>,
    lab: Lab,
    certs: Files,
    extended_protection: bool,
    directory: TempDir,
    /// Daemons that were started.
    daemons: AtomicUsize,
}

impl World {
    /// A lab whose servers all run and keep journals.
    pub fn start(servers: u8) -> Result<Self> {
        Self::start_with(servers, false)
    }

    /// The same with Extended Protection, where Microsoft recommends it.
    pub fn start_protected(servers: u8) -> Result<Self> {
        Self::start_with(servers, true)
    }

    fn start_with(servers: u8, extended_protection: bool) -> Result<Self> {
        let lab = Lab::up(Size {
            servers,
            ..Size::default()
        })?;
        let directory = TempDir::with_prefix("lb-tests-")?;
        let certs = certs::write(directory.path())?;
        let mut world = Self {
            servers: Vec::new(),
            lab,
            certs,
            extended_protection,
            directory,
            daemons: AtomicUsize::new(0),
        };
        for number in 1..=servers {
            world.servers.push(world.server_process(number)?);
        }
        Ok(world)
    }

    /// The network.
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// Running pool servers.
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// Authority, certificate and key that all servers share.
    pub fn certs(&self) -> &Files {
        &self.certs
    }

    /// Directory that is removed with the world.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Ends the process of server `number`: its kernel then resets connections.
    pub fn kill_server(&mut self, number: u8) {
        self.servers.retain(|server| server.number() != number);
    }

    /// Starts server `number` again after [`World::kill_server`].
    pub fn revive_server(&mut self, number: u8) -> Result<()> {
        self.servers.push(self.server_process(number)?);
        Ok(())
    }

    /// What all running servers have seen.
    pub fn seen(&self) -> Result<Seen> {
        let journals = self
            .servers
            .iter()
            .map(Server::seen)
            .collect::<Result<Vec<_>>>()?;
        Ok(Seen(journals))
    }

    /// Empties all journals.
    pub fn forget(&self) -> Result<()> {
        self.servers.iter().try_for_each(Server::forget)
    }

    /// Starts `lb run` on the edge with this configuration, before which it puts the interfaces and the admin
    /// socket; the caller waits for the services.
    pub fn balance(&self, services: &str) -> Result<Balancer> {
        self.balance_with(&binaries::lb()?, services, &[], &[])
    }

    /// As [`World::balance`], without the huge pages that the daemon's allocator asks the kernel for: what is resident then
    /// is what was used, in steps of 4 KiB and not of 2 MiB.
    pub fn balance_measured(&self, services: &str) -> Result<Balancer> {
        let variables = [("MIMALLOC_ALLOW_THP", "0".as_ref())];
        self.balance_with(&binaries::lb()?, services, &[], &variables)
    }

    /// As [`World::balance`], with a data plane that outlives the daemon by its pins in `directory`, which the caller
    /// removes.
    pub fn balance_pinned(&self, services: &str, directory: &Path) -> Result<Balancer> {
        self.balance_pinned_by(&binaries::lb()?, services, directory)
    }

    /// As [`World::balance_pinned`], by another `lb`.
    pub fn balance_pinned_by(
        &self,
        lb: &Path,
        services: &str,
        directory: &Path,
    ) -> Result<Balancer> {
        self.balance_with(
            lb,
            services,
            &["--pin".as_ref(), directory.as_os_str()],
            &[],
        )
    }

    /// As [`World::balance_pinned`], by a service manager that listens on `notify`.
    pub fn balance_notifying(
        &self,
        services: &str,
        directory: &Path,
        notify: &Path,
    ) -> Result<Balancer> {
        let options = ["--pin".as_ref(), directory.as_os_str()];
        let variables = [("NOTIFY_SOCKET", notify.as_os_str())];
        self.balance_with(&binaries::lb()?, services, &options, &variables)
    }

    fn balance_with(
        &self,
        lb: &Path,
        services: &str,
        options: &[&OsStr],
        variables: &[(&str, &OsStr)],
    ) -> Result<Balancer> {
        let path = self.directory().join("lb.toml");
        let admin = self.directory().join("lb.sock");
        let configuration = format!(
            "interfaces = [\"lb-front\", \"lb-back\"]\nadmin = \"{}\"\n{services}",
            admin.display(),
        );
        fs::write(&path, configuration).context("writing lb.toml")?;
        // Its own: a daemon and its successor run at the same time.
        let number = self.daemons.fetch_add(1, Ordering::Relaxed);
        let log = self.directory().join(match number {
            0 => "lb.log".to_owned(),
            number => format!("lb-{number}.log"),
        });
        let output = fs::File::create(&log)?;
        let errors = output.try_clone()?;
        let process = self.lab.edge().spawn(lb, |command| {
            command
                .args(["run", "--config"])
                .arg(&path)
                .args(options)
                .envs(variables.iter().copied())
                .stdout(output)
                .stderr(errors);
        })?;
        Ok(Balancer {
            process,
            log,
            admin,
        })
    }

    fn server_process(&self, number: u8) -> Result<Server> {
        Server::start(Settings {
            number,
            journal: Some(self.directory.path()),
            tls: Some(&self.certs),
            extended_protection: self.extended_protection,
        })
    }
}

/// A running `lb`; dropping it kills it, and shows its log when a test is failing.
#[derive(Debug)]
pub struct Balancer {
    process: Process,
    log: PathBuf,
    admin: PathBuf,
}

impl Balancer {
    /// What it has printed so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Its admin socket.
    pub fn admin(&self) -> &Path {
        &self.admin
    }

    /// Its process number.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Kills it, without a word (SIGKILL).
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// How it has ended, if it has.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.process.ended()
    }

    /// Waits until it says that it is ready.
    pub fn until_ready(&mut self) -> Result<()> {
        eventually("lb is ready", || {
            self.check()?;
            Ok(self.log().lines().any(|line| line.ends_with(" ready")))
        })
    }

    /// Waits until it has ended by itself.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        let mut status = None;
        eventually("lb ends by itself", || {
            status = self.process.ended()?;
            Ok(status.is_some())
        })?;
        status.context("it has ended")
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    pub fn stop(mut self) -> Result<ExitStatus> {
        self.process.terminate()
    }

    /// Packets that had the named reason.
    pub fn packets(&self, reason: &str) -> Result<u64> {
        self.count("reasons", "reason", reason, "packets")
    }

    /// The named counter of the workers' TCP.
    pub fn tcp(&self, name: &str) -> Result<u64> {
        self.count("tcp", "name", name, "value")
    }

    /// A number of `lb status`: `value` of the entry of `list` whose `key` is `wanted`. What never happened is left out there.
    fn count(&self, list: &str, key: &str, wanted: &str, value: &str) -> Result<u64> {
        let output = Namespace::edge()
            .command(binaries::lb()?)
            .args(["status", "--json", "--admin"])
            .arg(self.admin())
            .output()?;
        let status: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        let entries = status[list].as_array();
        let mut entries = entries.with_context(|| format!("no {list}"))?.iter();
        entries.find(|one| one[key] == wanted).map_or(Ok(0), |one| {
            one[value]
                .as_u64()
                .with_context(|| format!("{value} of {wanted} is no number"))
        })
    }

    /// Fails if it has ended.
    pub fn check(&mut self) -> Result<()> {
        match self.process.ended()? {
            Some(status) => bail!("lb ended ({status}):\n{}", self.log()),
            None => Ok(()),
        }
    }

    /// Waits until `condition` holds; fails at once when the process has ended.
    pub fn eventually(
        &mut self,
        what: &str,
        mut condition: impl FnMut() -> Result<bool>,
    ) -> Result<()> {
        eventually(what, || {
            self.check()?;
            condition()
        })
    }

    /// Waits until a page is served with status 200.
    pub fn until_served(&mut self, url: &str) -> Result<()> {
        self.eventually(&format!("{url} is served"), || {
            Ok(client::get(url)?.0 == 200)
        })
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- log of lb ---\n{}", self.log());
        }
    }
}

/// The journals of all servers.
#[derive(Debug)]
pub struct Seen(Vec<Vec<Entry>>);

impl Seen {
    /// Connections that carried a request for `path`.
    pub fn connections(&self, path: &str) -> usize {
        let of_server = |journal: &Vec<Entry>| {
            let mut ids: Vec<u64> = journal
                .iter()
                .filter(
                    |entry| matches!(&entry.event, Event::Request(request) if request.path == path),
                )
                .map(|entry| entry.connection)
                .collect();
            ids.sort_unstable();
            ids.dedup();
            ids.len()
        };
        self.0.iter().map(of_server).sum()
    }

    /// The kinds of credential of all requests for `path`, server by server in the order of arrival.
    pub fn legs(&self, path: &str) -> Vec<AuthLeg> {
        self.requests(path).map(|request| request.leg).collect()
    }

    /// All requests for `path`.
    pub fn requests<'a>(&'a self, path: &'a str) -> impl Iterator<Item = &'a Request> {
        self.0
            .iter()
            .flatten()
            .filter_map(move |entry| match &entry.event {
                Event::Request(request) if request.path == path => Some(request),
                _ => None,
            })
    }
}

/// Address of plain HTTP on server `number`.
pub const fn http(number: u8) -> SocketAddrV4 {
    SocketAddrV4::new(address::server(number), HTTP_PORT)
}

/// Address of HTTPS on server `number`.
pub const fn https(number: u8) -> SocketAddrV4 {
    SocketAddrV4::new(address::server(number), HTTPS_PORT)
}

/// Address of SMTP on server `number`.
pub const fn smtp(number: u8) -> SocketAddrV4 {
    SocketAddrV4::new(address::server(number), SMTP_PORT)
}

/// Waits until `condition` holds; fails with `what` when it hasn't for a minute.
///
/// For states that come about by themselves (a health check notices, a service opens). The time decides nothing but
/// when to give up.
pub fn eventually(what: &str, mut condition: impl FnMut() -> Result<bool>) -> Result<()> {
    let started = Instant::now();
    while !condition()? {
        ensure!(
            started.elapsed() < PATIENCE,
            "{what}: not within {} s",
            PATIENCE.as_secs()
        );
        thread::sleep(PAUSE);
    }
    Ok(())
}

const PATIENCE: Duration = Duration::from_mins(1);
const PAUSE: Duration = Duration::from_millis(50);
