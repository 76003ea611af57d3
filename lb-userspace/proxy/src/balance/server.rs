//! A server of a route: what the configuration says of it, and what is known of it now.
//!
//! Written by the health checker (up), the operator (drained) and workers (taken out for failing, [`super::passive`]), read by
//! all workers for each request: relaxed atomics, because nothing else hangs on their order. Invariant: a server takes *new*
//! requests and pinned connections only if none of the three objects; those it has go on unless the health checker does.

use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::load::Load;

/// A server of a route; shared between the workers and the control thread.
#[derive(Debug)]
pub struct Server {
    name: String,
    address: SocketAddr,
    weight: NonZeroU16,
    role: Role,
    limit: Option<NonZeroU32>,
    load: Arc<Load>,
    up: AtomicBool,
    drained: AtomicBool,
    /// Taken out by workers, until a probe says that it is well.
    ejected: AtomicBool,
    /// Failures in a row, as workers see them.
    strikes: AtomicU32,
    made: Instant,
    /// Milliseconds after `made` at which it began to take requests again; 0 if it did from the start.
    returned: AtomicU64,
}

/// When a server is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Whenever it is up.
    #[default]
    Primary,
    /// If no primary is up: LoadMaster's sorry server.
    Backup,
}

/// How much of its weight a server that has just returned gets, of [`FULL`].
const FULL: u64 = 256;

impl Server {
    /// A primary that has no limit, and counts as up until [`Server::set_up`] says otherwise.
    pub fn new(name: impl Into<String>, address: SocketAddr, weight: NonZeroU16) -> Self {
        Self {
            name: name.into(),
            address,
            weight,
            role: Role::Primary,
            limit: None,
            load: Arc::default(),
            up: AtomicBool::new(true),
            drained: AtomicBool::new(false),
            ejected: AtomicBool::new(false),
            strikes: AtomicU32::new(0),
            made: Instant::now(),
            returned: AtomicU64::new(0),
        }
    }

    /// The same with another role.
    #[must_use]
    pub fn with_role(self, role: Role) -> Self {
        Self { role, ..self }
    }

    /// The same with at most so many requests under way and pinned connections; more wait, or go elsewhere.
    #[must_use]
    pub fn with_limit(self, limit: Option<NonZeroU32>) -> Self {
        Self { limit, ..self }
    }

    /// The same, with the load of the machine that other routes use as well.
    #[must_use]
    pub fn with_load(self, load: Arc<Load>) -> Self {
        Self { load, ..self }
    }

    /// Name in logs.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Address and port that requests are sent to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Share of new requests and pinned connections, relative to the other servers.
    pub fn weight(&self) -> NonZeroU16 {
        self.weight
    }

    /// When it is used.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Most requests under way and pinned connections.
    pub fn limit(&self) -> Option<NonZeroU32> {
        self.limit
    }

    /// How much it is used, by all routes that share its load.
    pub fn load(&self) -> &Load {
        &self.load
    }

    /// Whether new requests may be sent here.
    pub fn is_up(&self) -> bool {
        self.is_wanted() && !self.is_ejected()
    }

    /// Whether the pinned connections that it has may go on: the health checker has nothing against it.
    pub fn is_healthy(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    /// Whether the operator lets it get nothing new.
    pub fn is_drained(&self) -> bool {
        self.drained.load(Ordering::Relaxed)
    }

    /// Whether workers have taken it out.
    pub fn is_ejected(&self) -> bool {
        self.ejected.load(Ordering::Relaxed)
    }

    /// Up, but for what workers say: better than no server at all.
    pub(super) fn is_wanted(&self) -> bool {
        self.is_healthy() && !self.is_drained()
    }

    /// Whether it is below its limit.
    pub(super) fn has_room(&self) -> bool {
        self.limit
            .is_none_or(|limit| self.load.in_use() < limit.get())
    }

    /// Takes the server in or out, as the health checker says. A request under way is finished; a client whose identity
    /// lives on a connection to a server that is down is disconnected at its next request, and so authenticates again with
    /// another.
    pub fn set_up(&self, up: bool) {
        if self.up.swap(up, Ordering::Relaxed) != up {
            self.turned(up);
        }
    }

    /// Takes the server in or out, as the operator says. It keeps its pinned connections, and their clients' requests.
    pub fn set_drained(&self, drained: bool) {
        if self.drained.swap(drained, Ordering::Relaxed) != drained {
            self.turned(!drained);
        }
    }

    /// Takes back what workers did. Whether they had done anything.
    pub fn readmit(&self) -> bool {
        self.strikes.store(0, Ordering::Relaxed);
        let was_ejected = self.ejected.swap(false, Ordering::Relaxed);
        if was_ejected {
            self.turned(true);
        }
        was_ejected
    }

    /// One more failure. Whether it is the one that takes the server out.
    pub(super) fn strike(&self, most: NonZeroU32) -> bool {
        let strikes = self.strikes.fetch_add(1, Ordering::Relaxed) + 1;
        strikes >= most.get() && self.eject()
    }

    /// Takes the server out until [`Server::readmit`]: a hint, which doesn't hold if no other server is up, and ends no pinned
    /// connection. Whether it was in.
    pub fn eject(&self) -> bool {
        let was_in = !self.ejected.swap(true, Ordering::Relaxed);
        if was_in {
            self.turned(false);
        }
        was_in
    }

    /// It did well.
    pub(super) fn absolve(&self) {
        // Read first: a line that all workers write to for each request would be handed about between them.
        if self.strikes.load(Ordering::Relaxed) != 0 {
            self.strikes.store(0, Ordering::Relaxed);
        }
    }

    /// It takes requests from now on, or not. Those who wait for a server look again.
    fn turned(&self, on: bool) {
        if on {
            let age = self.made.elapsed().as_millis();
            let age = u64::try_from(age).unwrap_or(u64::MAX).max(1);
            self.returned.store(age, Ordering::Relaxed);
        }
        self.load.announce();
    }

    /// Its weight now, in parts of [`FULL`]: it grows from almost nothing to all of it within `slow_start` of its return.
    pub(super) fn weight_now(&self, slow_start: Option<Duration>) -> u64 {
        let weight = u64::from(self.weight.get());
        let Some(slow_start) = slow_start else {
            return weight * FULL;
        };
        let returned = self.returned.load(Ordering::Relaxed);
        if returned == 0 {
            return weight * FULL;
        }
        let since = self
            .made
            .elapsed()
            .saturating_sub(Duration::from_millis(returned));
        if since >= slow_start {
            return weight * FULL;
        }
        let part = since.as_millis() * u128::from(weight * FULL) / slow_start.as_millis().max(1);
        u64::try_from(part).unwrap_or(weight * FULL).max(1)
    }
}
