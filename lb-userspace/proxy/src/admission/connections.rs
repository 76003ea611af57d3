//! How many connections a service, and one client of it, may have at once.
//!
//! Invariant: a connection is counted for as long as its [`Seat`] and [`ClientSeat`] live, however it ends; the table of
//! clients holds no more of them than there are connections.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::client_key;

/// Clients are dealt out to so many locks.
const SHARDS: usize = 64;

/// The limits, and what they are held against; of all workers of a service.
#[derive(Debug)]
pub struct ConnectionLimits {
    max: Option<NonZeroU32>,
    per_client: Option<NonZeroU32>,
    open: AtomicU32,
    hasher: RandomState,
    /// Connections of each client that has any.
    clients: Box<[Mutex<HashMap<u128, u32>>]>,
}

impl ConnectionLimits {
    /// At most `max` connections in all, and `per_client` from one IPv4 address or IPv6 /64.
    pub fn new(max: Option<NonZeroU32>, per_client: Option<NonZeroU32>) -> Arc<Self> {
        let shards = if per_client.is_some() { SHARDS } else { 0 };
        Arc::new(Self {
            max,
            per_client,
            open: AtomicU32::new(0),
            hasher: RandomState::new(),
            clients: (0..shards).map(|_| Mutex::default()).collect(),
        })
    }

    /// Room for one more connection, whoever's; `None` if there is none.
    pub(crate) fn seat(self: &Arc<Self>) -> Option<Seat> {
        // Counted first and asked then, so that two workers can't both take the last one.
        let before = self.open.fetch_add(1, Ordering::Relaxed);
        let seat = Seat(Arc::clone(self));
        self.max
            .is_none_or(|max| before < max.get())
            .then_some(seat)
    }

    /// Room for one more connection of this client; `None` if there is none.
    pub(crate) fn client_seat(self: &Arc<Self>, client: IpAddr) -> Option<ClientSeat> {
        let key = client_key(client);
        if let Some(limit) = self.per_client {
            let mut clients = self
                .shard(key)?
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let open = clients.entry(key).or_default();
            if *open >= limit.get() {
                return None;
            }
            *open += 1;
        }
        let limits = Arc::clone(self);
        Some(ClientSeat { limits, key })
    }

    fn shard(&self, key: u128) -> Option<&Mutex<HashMap<u128, u32>>> {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "any bits of a hash will do"
        )]
        let at = self.hasher.hash_one(key) as usize % SHARDS;
        self.clients.get(at)
    }
}

/// A connection that is counted.
#[derive(Debug)]
pub(crate) struct Seat(Arc<ConnectionLimits>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection that is counted for its client.
#[derive(Debug)]
pub(crate) struct ClientSeat {
    limits: Arc<ConnectionLimits>,
    key: u128,
}

impl Drop for ClientSeat {
    fn drop(&mut self) {
        let Some(shard) = self.limits.shard(self.key) else {
            return;
        };
        let mut clients = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = clients.get_mut(&self.key) {
            *open -= 1;
            if *open == 0 {
                clients.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(max: u32, per_client: u32) -> Arc<ConnectionLimits> {
        ConnectionLimits::new(NonZeroU32::new(max), NonZeroU32::new(per_client))
    }

    #[test]
    fn a_seat_is_free_again_when_its_connection_ends() {
        let limits = limits(2, 0);
        let (first, second) = (limits.seat(), limits.seat());
        assert!(first.is_some() && second.is_some());
        assert!(limits.seat().is_none());
        assert!(limits.seat().is_none(), "a refusal takes no seat");
        drop(first);
        assert!(limits.seat().is_some());
    }

    #[test]
    fn each_client_has_its_own_number_and_leaves_nothing_behind() {
        let limits = limits(0, 2);
        let client = |text: &str| limits.client_seat(text.parse().unwrap());
        let held = (
            client("192.0.2.1"),
            client("192.0.2.1"),
            client("192.0.2.2"),
        );
        assert!(held.0.is_some() && held.1.is_some() && held.2.is_some());
        assert!(client("192.0.2.1").is_none());
        let network = (client("2001:db8::1"), client("2001:db8::2"));
        assert!(network.0.is_some() && network.1.is_some());
        assert!(client("2001:db8::3").is_none());
        drop(held);
        assert!(client("192.0.2.1").is_some());
        drop(network);
        let left: usize = limits
            .clients
            .iter()
            .map(|shard| shard.lock().unwrap().len())
            .sum();
        assert_eq!(left, 0);
    }
}
