//! Which server gets a request, and whether it has room for one.
//!
//! The order of questions: whom a client was at before ([`persist`]), else whose turn it is ([`method`]); and if all who
//! could are at their limits, the line ([`queue`]). Backups count only while no primary is up, and servers that workers have
//! taken out ([`passive`]) only if nobody else is. Invariant: who is given a request has been given a place for it
//! ([`load`]), which the request holds until its response is complete, and a pinned connection for as long as it lives.
//! Not here: identity, HTTP, and connections.

mod load;
mod method;
mod passive;
mod persist;
mod queue;
mod server;

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, StatusCode};

pub use load::Load;
pub(crate) use load::Slot;
pub use method::Method;
pub use passive::{Passive, Symptom};
pub use persist::{Cookie, CookieKey, Persistence, Sources};
pub use queue::Queue;
pub use server::{Role, Server};

use crate::error::{Error, Kind};
use method::{Candidate, Least, Turns};

/// How a route's requests are spread over its servers; shared by all workers.
#[derive(Debug)]
pub struct Balancing {
    /// How a server is chosen.
    pub method: Method,
    /// How a client gets to the same server again; `None` if it needn't.
    pub persistence: Option<Persistence>,
    /// Where requests wait when all servers are at their limits.
    pub queue: Queue,
    /// What takes a server out between probes; `None` for nothing.
    pub passive: Option<Passive>,
    /// How long the share of a server that has come back takes to grow to all of it.
    pub slow_start: Option<Duration>,
    /// How often a request of which no server has seen anything is tried again.
    pub retries: u32,
}

impl Default for Balancing {
    fn default() -> Self {
        Self {
            method: Method::default(),
            persistence: None,
            queue: Queue::default(),
            passive: None,
            slow_start: None,
            retries: 3,
        }
    }
}

/// What is known of a request that looks for a server.
#[derive(Debug)]
pub(crate) struct Ask {
    /// What it is hashed by.
    key: u64,
    /// Its client's address, hashed; 0 if nobody asks.
    client: u64,
    /// Whom its client was at.
    before: Option<usize>,
    /// Who could not be connected to, or didn't take it.
    tried: Vec<usize>,
    /// How often it may be tried again.
    retries: u32,
}

impl Ask {
    /// One attempt failed; `server` is not to be tried again. Whether there may be another attempt.
    pub(crate) fn failed(&mut self, server: Option<usize>) -> bool {
        self.tried.extend(server);
        let left = self.retries.checked_sub(1);
        self.retries = left.unwrap_or_default();
        left.is_some()
    }
}

/// The picker of one worker, for one route.
#[derive(Debug)]
pub(crate) struct Balancer {
    servers: Rc<[Arc<Server>]>,
    turns: Turns,
    least: Least,
}

/// What looking for a server comes to.
enum Found {
    Place(Slot),
    /// All who could are at their limits.
    Full,
    /// Nobody is up, or everybody was tried.
    Nobody,
}

/// Servers in the order in which they are called upon: all of one rank before any of the next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rank {
    Primary,
    Backup,
    Ejected,
}

impl Balancer {
    pub(crate) fn new(servers: &[Arc<Server>]) -> Self {
        Self {
            servers: servers.into(),
            turns: Turns::new(servers.len()),
            least: Least::default(),
        }
    }

    /// What a request of `client` with `headers` says; a cookie of ours is taken out of them.
    pub(crate) fn ask(rules: &Balancing, client: IpAddr, headers: &mut HeaderMap) -> Ask {
        let by_source = matches!(rules.persistence, Some(Persistence::Source(_)));
        let client = match &rules.method {
            Method::SourceHash | Method::HeaderHash(_) => method::key_of_client(client),
            _ if by_source => method::key_of_client(client),
            Method::RoundRobin | Method::LeastConnections => 0,
        };
        let key = match &rules.method {
            Method::HeaderHash(name) => headers
                .get(name)
                .map(|value| method::key_of_value(value.as_bytes())),
            _ => None,
        };
        let before = match &rules.persistence {
            None => None,
            Some(Persistence::Cookie(cookie)) => cookie.take(headers),
            Some(Persistence::Source(sources)) => sources.find(client),
        };
        Ask {
            key: key.unwrap_or(client),
            client,
            before,
            tried: Vec::new(),
            retries: rules.retries,
        }
    }

    /// A place of the server whose turn it is. Waits for one if all are at their limits and the route has a line.
    pub(crate) async fn place(&self, rules: &Balancing, ask: &Ask) -> Result<Slot, Error> {
        // Whoever waits already comes first.
        let found = match rules.queue.waiting() {
            0 => self.look(rules, ask),
            _ => Found::Full,
        };
        let found = match found {
            Found::Full => {
                let look =
                    || Some(self.look(rules, ask)).filter(|found| !matches!(found, Found::Full));
                // In a box, because every client connection has room for its request's future, and few ever wait.
                Box::pin(rules.queue.wait(&self.servers, look)).await?
            }
            found => found,
        };
        match found {
            Found::Place(slot) => Ok(slot),
            Found::Nobody | Found::Full if ask.tried.is_empty() => {
                Err(Error::new(Kind::NoServer, "no server is up"))
            }
            Found::Nobody | Found::Full => {
                Err(Error::new(Kind::Connect, "no server took the request"))
            }
        }
    }

    fn look(&self, rules: &Balancing, ask: &Ask) -> Found {
        let Some(rank) = self.rank(ask) else {
            return Found::Nobody;
        };
        if let Some(before) = ask.before
            && self.is_of(rank, before, ask)
            && let Some(slot) = Slot::of(&self.servers, before)
        {
            return Found::Place(slot);
        }
        loop {
            let Some(index) = self.choose(rules, ask, rank) else {
                return Found::Full;
            };
            let Some(slot) = Slot::of(&self.servers, index) else {
                // Another worker has just taken the last place.
                continue;
            };
            if let Some(Persistence::Source(sources)) = &rules.persistence {
                let bound = sources.bind(ask.client, ask.before, index);
                // Another worker has just bound the client to another one, which is better than ours if it has room.
                let other = bound.filter(|&bound| bound != index && self.is_of(rank, bound, ask));
                if let Some(slot) = other.and_then(|bound| Slot::of(&self.servers, bound)) {
                    return Found::Place(slot);
                }
            }
            return Found::Place(slot);
        }
    }

    /// The first rank that has a server left to try.
    fn rank(&self, ask: &Ask) -> Option<Rank> {
        let ranks = [Rank::Primary, Rank::Backup, Rank::Ejected];
        let all = 0..self.servers.len();
        ranks
            .into_iter()
            .find(|&rank| all.clone().any(|index| self.is_of(rank, index, ask)))
    }

    /// Whether the server at `index` is one of `rank`, and not tried yet.
    fn is_of(&self, rank: Rank, index: usize, ask: &Ask) -> bool {
        let Some(server) = self.servers.get(index) else {
            return false;
        };
        let fits = match rank {
            Rank::Primary => server.role() == Role::Primary && server.is_up(),
            Rank::Backup => server.role() == Role::Backup && server.is_up(),
            Rank::Ejected => server.is_wanted(),
        };
        fits && !ask.tried.contains(&index)
    }

    /// The server whose turn it is among those of `rank` that have room.
    fn choose(&self, rules: &Balancing, ask: &Ask, rank: Rank) -> Option<usize> {
        let servers = self.servers.iter().enumerate();
        let candidates = servers.filter_map(|(index, server)| {
            let candidate = || Candidate {
                index,
                weight: server.weight_now(rules.slow_start),
                in_use: server.load().in_use(),
                address: server.address(),
            };
            (self.is_of(rank, index, ask) && server.has_room()).then(candidate)
        });
        match &rules.method {
            Method::RoundRobin => self.turns.pick(candidates),
            Method::LeastConnections => self.least.pick(candidates),
            Method::SourceHash | Method::HeaderHash(_) => method::rendezvous(ask.key, candidates),
        }
    }
}

impl Balancing {
    /// The `Set-Cookie` for a client whose request went to the server at `index`, if it needs one.
    pub(crate) fn cookie(&self, ask: &Ask, index: Option<usize>) -> Option<HeaderValue> {
        match &self.persistence {
            Some(Persistence::Cookie(cookie)) if ask.before != index => cookie.line(index?),
            _ => None,
        }
    }

    /// A request on its way to `server` failed.
    pub(crate) fn failed(&self, server: &Server, error: &Error) {
        if let (Some(passive), Some(symptom)) = (&self.passive, Symptom::of(error)) {
            passive.failed(server, symptom);
        }
    }

    /// `server` took a new connection.
    pub(crate) fn connected(&self, server: &Server) {
        if let Some(passive) = &self.passive {
            passive.connected(server);
        }
    }

    /// `server` responded.
    pub(crate) fn responded(&self, server: &Server, status: StatusCode) {
        if let Some(passive) = &self.passive {
            passive.responded(server, status);
        }
    }
}

#[cfg(test)]
mod tests;
