//! Connections that wait to be used again, per worker and service.
//!
//! Invariant: holds [`Clean`] connections only, each of them between two requests, and none that began with a PROXY header,
//! which names one client. Most recently used first, so that surplus connections grow old and are closed. Neither taking nor putting looks at more
//! connections than it takes, puts or closes.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Clean, Pinned};
use crate::balance::Slot;

/// Well below the 120 s after which IIS closes an idle connection, so that a request seldom meets a closing one.
const IDLE_LIMIT: Duration = Duration::from_secs(30);

/// Most connections kept per server; more than this many at once are closed after use.
const KEPT_PER_SERVER: usize = 256;

/// The pool of one worker and service.
#[derive(Debug)]
pub(crate) struct Pool {
    /// By index of the server; the most recently used last.
    idle: RefCell<Vec<VecDeque<(Instant, Clean)>>>,
}

impl Pool {
    pub(crate) fn new(servers: usize) -> Rc<Self> {
        let idle = RefCell::new((0..servers).map(|_| VecDeque::new()).collect());
        Rc::new(Self { idle })
    }

    /// A kept connection to the server of `slot` that can take a request now; the slot back if there is none.
    pub(crate) fn take(self: &Rc<Self>, slot: Slot) -> Result<Lease, Slot> {
        let kept = || {
            let mut idle = self.idle.borrow_mut();
            let idle = idle.get_mut(slot.index())?;
            prune(idle, Instant::now());
            // One that the server has closed is found when its turn comes, or when it is old.
            while let Some((_, clean)) = idle.pop_back() {
                if clean.is_ready() {
                    return Some(clean);
                }
            }
            None
        };
        match kept() {
            Some(clean) => Ok(Lease {
                clean,
                slot,
                age: Age::Kept,
                pool: Rc::clone(self),
            }),
            None => Err(slot),
        }
    }

    /// The first use of a new connection to the server of `slot`.
    pub(crate) fn lease(self: &Rc<Self>, clean: Clean, slot: Slot) -> Lease {
        Lease {
            clean,
            slot,
            age: Age::Fresh,
            pool: Rc::clone(self),
        }
    }

    fn put(&self, index: usize, clean: Clean) {
        if clean.is_introduced() {
            return;
        }
        if let Some(idle) = self.idle.borrow_mut().get_mut(index) {
            let now = Instant::now();
            prune(idle, now);
            if idle.len() < KEPT_PER_SERVER && clean.is_ready() {
                idle.push_back((now, clean));
            }
        }
    }
}

/// Closes those that are old, which are in front.
fn prune(idle: &mut VecDeque<(Instant, Clean)>, now: Instant) {
    while let Some((since, clean)) = idle.front()
        && (now.duration_since(*since) >= IDLE_LIMIT || !clean.is_ready())
    {
        idle.pop_front();
    }
}

/// Whether a connection was used before, or won't be again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Age {
    Fresh,
    Kept,
    Retired,
}

/// The use of a clean connection for one exchange, and a place of its server. Dropping it closes the connection.
#[derive(Debug)]
pub(crate) struct Lease {
    clean: Clean,
    slot: Slot,
    age: Age,
    pool: Rc<Pool>,
}

impl Lease {
    pub(crate) fn clean(&mut self) -> &mut Clean {
        &mut self.clean
    }

    /// The server's index.
    pub(crate) fn index(&self) -> usize {
        self.slot.index()
    }

    pub(crate) fn is_fresh(&self) -> bool {
        self.age == Age::Fresh
    }

    /// Has the connection close after this exchange.
    pub(crate) fn retire(&mut self) {
        self.age = Age::Retired;
    }

    /// Takes the connection out of sharing for good.
    pub(crate) fn pin(self) -> Pinned {
        self.clean.pin(self.slot)
    }

    /// The response is complete: the connection goes back once the request is as well.
    pub(crate) fn end(self) {
        let Self {
            mut clean,
            slot,
            age,
            pool,
        } = self;
        if age == Age::Retired {
            return;
        }
        if clean.is_ready() {
            pool.put(slot.index(), clean);
            return;
        }
        tokio::task::spawn_local(async move {
            if clean.settle().await {
                pool.put(slot.index(), clean);
            }
        });
    }
}
