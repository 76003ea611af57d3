//! Where requests wait for a place when all servers of a route that are up have reached their limits.
//!
//! First come, first served, over all workers: a fair lock is the turn, and only who holds it looks for a place. Who stops
//! waiting, because a client went away or time is up, leaves the line by being dropped. Invariant: at most `length` wait at
//! once. Without limits nobody comes here.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::future::select_all;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::Server;
use crate::counters::Counter;
use crate::error::{Error, Kind};

/// The line of one route.
#[derive(Debug, Default)]
pub struct Queue {
    length: u32,
    patience: Duration,
    waiting: AtomicU32,
    turn: Mutex<()>,
    /// Requests that waited, whatever came of it.
    pub queued: Counter,
}

impl Queue {
    /// A line of at most `length`, in which nobody waits for longer than `patience`.
    pub fn new(length: u32, patience: Duration) -> Self {
        Self {
            length,
            patience,
            ..Self::default()
        }
    }

    /// Those who wait now.
    pub fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Waits until it is one's turn and `look` finds something among `servers`.
    pub(super) async fn wait<T>(
        &self,
        servers: &[Arc<Server>],
        look: impl Fn() -> Option<T>,
    ) -> Result<T, Error> {
        let _place = self.join()?;
        let found = async {
            let _turn = self.turn.lock().await;
            until_changed(servers, look).await
        };
        timeout(self.patience, found).await.map_err(|_elapsed| {
            let detail = format!("no server had room within {:?}", self.patience);
            Error::new(Kind::QueueTimeout, detail)
        })
    }

    fn join(&self) -> Result<Place<'_>, Error> {
        let one_more = |waiting: u32| (waiting < self.length).then_some(waiting + 1);
        let joined = self
            .waiting
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        if joined.is_err() {
            let detail = match self.length {
                0 => "all servers that are up are at their limits".to_owned(),
                length => format!("{length} requests wait already"),
            };
            return Err(Error::new(Kind::Busy, detail));
        }
        self.queued.increment();
        Ok(Place(self))
    }
}

/// A place in the line.
struct Place<'a>(&'a Queue);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Looks, and looks again whenever one of the servers has changed.
async fn until_changed<T>(servers: &[Arc<Server>], look: impl Fn() -> Option<T>) -> T {
    let watches: Vec<_> = servers.iter().map(|server| server.load().watch()).collect();
    loop {
        let mut changes: Vec<_> = watches
            .iter()
            .map(|watch| Box::pin(watch.change()))
            .collect();
        for change in &mut changes {
            // From here on no change is missed.
            Pin::as_mut(change).enable();
        }
        if let Some(found) = look() {
            return found;
        }
        select_all(changes).await;
    }
}
