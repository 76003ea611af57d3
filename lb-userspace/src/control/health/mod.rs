//! Health checking: probes servers on a schedule, and tells of each change once.
//!
//! One future for all servers, run on the control thread; dropping it stops every probe. Nothing is
//! shared: changes go through a channel to whoever writes maps and tells workers. Not here: what a
//! change means for forwarding ([`super`]), and reading certificates, which the caller does before.

mod probe;
mod state;

use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::future::join_all;
use lb_config::Schedule;
use lb_proxy::Server;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep};

pub(crate) use probe::Probe;
pub(crate) use state::{Health, probation, unchecked};

use state::Machine;

/// A server to probe.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Index of its service in the configuration.
    pub(crate) service: usize,
    /// Index of the server in its service.
    pub(crate) server: usize,
    /// `service/server`, for the log.
    pub(crate) label: String,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// What a probe does.
    pub(crate) probe: Probe,
    /// When, and how many results make a change.
    pub(crate) schedule: Schedule,
    /// What workers know of it, and may have taken it out for; `None` if no worker does.
    pub(crate) proxied: Option<Arc<Server>>,
    /// What its server wants to hear first: a PROXY header of a connection that is for nobody. Empty if it doesn't.
    pub(crate) introduction: Vec<u8>,
}

impl Target {
    fn door(&self) -> probe::Door<'_> {
        probe::Door {
            address: self.address,
            introduction: &self.introduction,
        }
    }
}

/// A server's health is new.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// [`Target::service`].
    pub(crate) service: usize,
    /// [`Target::server`].
    pub(crate) server: usize,
    /// From now on.
    pub(crate) health: Health,
}

/// Probes all targets until dropped, or until the receiver of changes is gone; if there are no
/// targets, it only waits for that.
///
/// The first probe of each runs at once, and its result is always told; see [`state`] for the rest.
pub(crate) async fn monitor(targets: Vec<Target>, changes: mpsc::Sender<Change>) {
    let permits = Semaphore::new(PROBES_AT_ONCE);
    join_all(
        targets
            .iter()
            .map(|target| watch(target, &permits, &changes)),
    )
    .await;
    changes.closed().await;
}

/// Each probe has a socket: far fewer than the 1024 files that a process may open by default,
/// because a probe that gets none would take a server down that is well.
const PROBES_AT_ONCE: usize = 128;

async fn watch(target: &Target, permits: &Semaphore, changes: &mpsc::Sender<Change>) {
    let mut machine = Machine::new(&target.schedule);
    let random = RandomState::new();
    for count in 0_u64.. {
        let permit = permits.acquire().await;
        let start = Instant::now();
        let deadline = start + target.schedule.timeout;
        // A probe that had begun before proves nothing about what came after.
        let ejected = target
            .proxied
            .as_deref()
            .filter(|server| server.is_ejected());
        let result = probe::probe(&target.probe, target.door(), deadline).await;
        drop(permit);
        if let (Some(server), Ok(said)) = (ejected, &result)
            && server.readmit()
        {
            let (server, address) = (&target.label, target.address);
            tracing::info!(server, %address, reason = said, "server gets requests again");
        }
        if let Some(health) = machine.observe(&result) {
            log(target, &health);
            let change = Change {
                service: target.service,
                server: target.server,
                health,
            };
            if changes.send(change).await.is_err() {
                return;
            }
        }
        // The standard library's keyed hash is random enough to keep probes apart.
        let [a, b, c, d, ..] = random.hash_one(count).to_ne_bytes();
        let random = u32::from_ne_bytes([a, b, c, d]);
        sleep(state::pause(
            target.schedule.interval,
            start.elapsed(),
            random,
        ))
        .await;
    }
}

fn log(target: &Target, health: &Health) {
    let (server, address, reason) = (&target.label, target.address, &health.reason);
    if health.up {
        tracing::info!(server, %address, reason, "server is up");
    } else {
        tracing::warn!(server, %address, reason, "server is down");
    }
}

#[cfg(test)]
mod tests;
