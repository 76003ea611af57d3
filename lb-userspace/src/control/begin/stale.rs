//! Tuples that the program has for the kernel's although their connection is over.
//!
//! The program notes the tuple of each connection that begins on the kernel, and a SYN of a noted tuple goes there. Nobody takes it
//! off at the connection's end: it would be a system call for each, and as long as connections begin there it makes no difference.
//! Once they begin on the workers again it does: a client that uses an old port anew would be on the kernel. So then, and every minute
//! while any are left, what no worker has a connection for is taken off. So it is where a connection began on the kernel because the one before
//! it on its tuple had moved there. Invariant: twice in a row, some seconds apart, because a
//! handshake is a connection that no worker knows of yet. Not here: tuples of connections that have moved, which the engine takes off.

use std::collections::HashSet;
use std::time::Duration;

use lb_tcp::FlowKey;
use tokio::time::Instant;

/// What was found last, and when to look again.
#[derive(Debug, Default)]
pub(super) struct Stale {
    found: HashSet<FlowKey>,
    due: Option<Instant>,
}

impl Stale {
    /// Connections begin on the workers from now on, or one has kept its tuple. A look that is due anyway is not put off.
    pub(super) fn expect(&mut self, now: Instant) {
        let soon = now + SOON;
        self.due = Some(self.due.map_or(soon, |due| due.min(soon)));
    }

    /// Whether to look.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    /// Which of the `noted` tuples are to be taken off, if those of `living` have a connection.
    pub(super) fn look(
        &mut self,
        now: Instant,
        noted: &[FlowKey],
        living: &HashSet<FlowKey>,
    ) -> Vec<FlowKey> {
        let over = || noted.iter().filter(|key| !living.contains(key));
        let (free, news): (Vec<_>, Vec<_>) = over().partition(|key| self.found.contains(key));
        self.due = if noted.len() == free.len() {
            None
        } else if news.is_empty() {
            Some(now + LATER)
        } else {
            Some(now + SOON)
        };
        self.found = news.into_iter().collect();
        free
    }
}

/// Longer than a handshake takes with a SYN that had to be sent again.
const SOON: Duration = Duration::from_secs(5);

/// Those that are left have a connection.
const LATER: Duration = Duration::from_mins(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn key(port: u16) -> FlowKey {
        FlowKey {
            local: ([192, 0, 2, 1], 80).into(),
            remote: ([198, 51, 100, 1], port).into(),
        }
    }

    #[test]
    fn a_tuple_is_taken_off_when_it_had_no_connection_twice() {
        let mut stale = Stale::default();
        let start = Instant::now() + SOON;
        stale.expect(start - SOON);
        let mut look = |seconds, noted: &[u16], living: &[u16]| {
            let now = start + Duration::from_secs(seconds);
            assert!(stale.is_due(now), "{seconds}");
            assert!(!stale.is_due(now - Duration::from_millis(1)), "{seconds}");
            let noted: Vec<_> = noted.iter().map(|&port| key(port)).collect();
            let free = stale.look(now, &noted, &living.iter().map(|&port| key(port)).collect());
            free.iter().map(|key| key.remote.port()).collect::<Vec<_>>()
        };
        let none: [u16; 0] = [];
        // The first look is due five seconds after connections began on the workers.
        assert_eq!(look(0, &[1, 2, 3], &[3]), none);
        // 2 was in its handshake; 4 may be.
        assert_eq!(look(5, &[1, 2, 3, 4], &[2, 3]), [1]);
        assert_eq!(look(10, &[2, 3, 4], &[2, 3]), [4]);
        // Both are connections.
        assert_eq!(look(70, &[2, 3], &[2]), none);
        assert_eq!(look(75, &[2, 3], &[]), [3]);
        assert_eq!(look(80, &[2], &[]), [2]);
    }
}
