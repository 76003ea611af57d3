//! Who may connect: listening addresses, their half-open connections and their queues.
//!
//! A SYN flood meets three bounds. Half of the backlog may be half-open; from then on SYNs are answered with cookies, which
//! keep no state. The queue of established connections has a bound of its own, and a full one ignores SYNs
//! and the last step of handshakes, so that clients try again. What memory and `max_flows` say comes before
//! both.

use alloc::collections::VecDeque;
use core::net::SocketAddr;
use core::time::Duration;

use hashbrown::HashMap;

use crate::{Instant, Secret};

/// Cookies are looked for that long after the last one was sent: as long as one may be good for.
const COOKIES_LAST: Duration = Duration::from_secs(128);

/// Why an address can't be listened on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenError {
    /// It is listened on already.
    InUse,
    /// A wildcard, or port 0.
    Unspecified,
}

/// What to do with a SYN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// Open a connection.
    Open,
    /// Answer with a cookie.
    Cookie,
    /// Ignore: nobody accepts what is there.
    Overflow,
}

#[derive(Debug)]
pub(super) struct Listener<A> {
    /// Tells it from a later one on the same address.
    pub(super) serial: u32,
    pub(super) attachment: A,
    half_open: usize,
    queue: VecDeque<u32>,
    last_cookie: Option<Instant>,
}

impl<A> Listener<A> {
    /// What to do with a SYN. One that reopens a connection gets no cookie: its number must be above the old ones.
    pub(super) fn admit(&self, backlog: usize, reopens: bool) -> Admission {
        let half_open = self.half_open >= backlog.div_ceil(2);
        if self.is_full(backlog) || (reopens && self.half_open >= backlog) {
            Admission::Overflow
        } else if half_open && !reopens {
            Admission::Cookie
        } else {
            Admission::Open
        }
    }

    pub(super) fn is_full(&self, backlog: usize) -> bool {
        self.queue.len() >= backlog
    }

    pub(super) fn began(&mut self) {
        self.half_open += 1;
    }

    /// A handshake of this listener is over, either way.
    pub(super) fn ended(&mut self) {
        debug_assert!(self.half_open > 0, "more handshakes ended than began");
        self.half_open = self.half_open.saturating_sub(1);
    }

    #[cfg(test)]
    pub(super) fn half_open(&self) -> usize {
        self.half_open
    }

    pub(super) fn enqueue(&mut self, flow: u32) {
        self.queue.push_back(flow);
    }

    pub(super) fn dequeue(&mut self) -> Option<u32> {
        self.queue.pop_front()
    }

    pub(super) fn sent_cookie(&mut self, now: Instant) {
        self.last_cookie = Some(now);
    }

    /// Whether an acknowledgement out of the blue may be a cookie: else guessing costs an attacker nothing but time.
    pub(super) fn expects_cookies(&self, now: Instant) -> bool {
        self.last_cookie
            .is_some_and(|last| now.since(last) <= COOKIES_LAST)
    }
}

#[derive(Debug)]
pub(super) struct Listeners<A> {
    by_address: HashMap<SocketAddr, Listener<A>, Secret>,
    next_serial: u32,
}

impl<A> Listeners<A> {
    pub(super) fn new(secret: Secret) -> Self {
        Self {
            by_address: HashMap::with_hasher(secret),
            next_serial: 0,
        }
    }

    pub(super) fn insert(&mut self, address: SocketAddr, attachment: A) -> Result<(), ListenError> {
        if address.port() == 0 || address.ip().is_unspecified() {
            return Err(ListenError::Unspecified);
        }
        if self.by_address.contains_key(&address) {
            return Err(ListenError::InUse);
        }
        let listener = Listener {
            serial: self.next_serial,
            attachment,
            half_open: 0,
            queue: VecDeque::new(),
            last_cookie: None,
        };
        self.next_serial = self.next_serial.wrapping_add(1);
        self.by_address.insert(address, listener);
        Ok(())
    }

    pub(super) fn remove(&mut self, address: &SocketAddr) -> Option<Listener<A>> {
        self.by_address.remove(address)
    }

    pub(super) fn get_mut(&mut self, address: &SocketAddr) -> Option<&mut Listener<A>> {
        self.by_address.get_mut(address)
    }

    /// The one that a handshake began with, if it is still there.
    pub(super) fn of(&mut self, address: &SocketAddr, serial: u32) -> Option<&mut Listener<A>> {
        self.get_mut(address)
            .filter(|listener| listener.serial == serial)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Listener<A>> {
        self.by_address.values_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener() -> Listener<()> {
        let mut listeners = Listeners::new(Secret::new([1; 16]));
        let address = "10.0.0.1:443".parse().unwrap();
        listeners.insert(address, ()).unwrap();
        listeners.remove(&address).unwrap()
    }

    #[test]
    fn half_of_the_backlog_may_be_half_open() {
        let mut listener = listener();
        assert_eq!(listener.admit(0, false), Admission::Overflow);
        for _ in 0..2 {
            assert_eq!(listener.admit(4, false), Admission::Open);
            listener.began();
        }
        assert_eq!(listener.admit(4, false), Admission::Cookie);
        assert_eq!(listener.admit(4, true), Admission::Open);
        assert_eq!(listener.admit(2, true), Admission::Overflow);
        listener.ended();
        assert_eq!(listener.admit(4, false), Admission::Open);
        (0..4).for_each(|flow| listener.enqueue(flow));
        assert_eq!(listener.admit(4, false), Admission::Overflow);
        assert_eq!(listener.dequeue(), Some(0));
        assert_eq!(listener.admit(4, false), Admission::Open);
    }

    #[test]
    fn cookies_are_looked_for_as_long_as_they_last() {
        let at = |seconds: u64| Instant::from_micros(seconds * 1_000_000);
        let mut listener = listener();
        assert!(!listener.expects_cookies(at(0)));
        listener.sent_cookie(at(10));
        assert!(listener.expects_cookies(at(138)) && !listener.expects_cookies(at(139)));
    }

    #[test]
    fn a_later_listener_on_the_same_address_is_another() {
        let mut listeners = Listeners::new(Secret::new([1; 16]));
        let address = "[fd00::1]:443".parse().unwrap();
        listeners.insert(address, 'a').unwrap();
        assert_eq!(listeners.insert(address, 'b'), Err(ListenError::InUse));
        let first = listeners.remove(&address).unwrap().serial;
        listeners.insert(address, 'c').unwrap();
        assert!(listeners.of(&address, first).is_none());
        assert_eq!(listeners.get_mut(&address).unwrap().attachment, 'c');
        for wrong in ["0.0.0.0:443", "[::]:443", "10.0.0.1:0"] {
            let result = listeners.insert(wrong.parse().unwrap(), 'd');
            assert_eq!(result, Err(ListenError::Unspecified), "{wrong}");
        }
    }
}
