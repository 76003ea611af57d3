//! How much a server is used, by all workers and routes together, and who waits for less.
//!
//! One [`Load`] stands for one machine: the routes of a service that have the same server share it, so that a server's limit
//! and the choice of the least used server mean the machine and not one of its virtual directories. What counts is a
//! request under way, or a pinned connection for as long as it lives; a connection that is only kept for later does not.
//!
//! Shared between workers, not one for each: requests of Exchange are held for up to an hour and are spread over workers by
//! the network card, so a worker that knew only of its own would see no more of a server than its part of it. The price
//! is two atomic additions for each request. Invariant: whoever waits is woken when a [`Slot`] is given back.

use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::Server;

/// The use of one server.
#[derive(Debug, Default)]
pub struct Load {
    in_use: AtomicU32,
    /// Those who wait for a change.
    waiting: AtomicU32,
    changed: Notify,
}

impl Load {
    /// Requests under way and pinned connections.
    pub fn in_use(&self) -> u32 {
        self.in_use.load(Ordering::Relaxed)
    }

    /// Takes one place of at most `limit`. Whether there was one.
    fn enter(&self, limit: Option<NonZeroU32>) -> bool {
        let Some(limit) = limit else {
            self.in_use.fetch_add(1, Ordering::Relaxed);
            return true;
        };
        let more = |used: u32| (used < limit.get()).then_some(used + 1);
        self.in_use
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, more)
            .is_ok()
    }

    fn leave(&self) {
        self.in_use.fetch_sub(1, Ordering::SeqCst);
        self.announce();
    }

    /// Wakes those who wait.
    ///
    /// Sequentially consistent, like the other side: either we see who waits, or they see what has changed.
    pub(super) fn announce(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.changed.notify_waiters();
        }
    }

    /// Counts as waiting until dropped.
    pub(super) fn watch(&self) -> Watch<'_> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        Watch(self)
    }
}

/// Somebody who waits for a change.
pub(super) struct Watch<'a>(&'a Load);

impl<'a> Watch<'a> {
    /// The next change after this call, if it is [enabled](Notified::enable) before what is watched is looked at.
    pub(super) fn change(&self) -> Notified<'a> {
        self.0.changed.notified()
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

/// One place of a server: a request under way, or a pinned connection. Dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Slot {
    /// A worker's own list, whose count is not shared as that of a server's `Arc` is.
    servers: Rc<[Arc<Server>]>,
    index: usize,
}

impl Slot {
    /// A place of the server at `index`; `None` if it has none left.
    pub(super) fn of(servers: &Rc<[Arc<Server>]>, index: usize) -> Option<Self> {
        let server = servers.get(index)?;
        server.load().enter(server.limit()).then(|| Self {
            servers: Rc::clone(servers),
            index,
        })
    }

    /// The server's index in its route.
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// The server.
    pub(crate) fn server(&self) -> Option<&Arc<Server>> {
        self.servers.get(self.index)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(server) = self.server() {
            server.load().leave();
        }
    }
}
