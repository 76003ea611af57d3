//! `Expect: 100-continue`, forwarded: the client gets a `100 Continue` when the server sends one, and only then.
//!
//! hyper's server writes a `100 Continue` of its own accord as soon as somebody asks for the body. Not asking until
//! the server has sent its 100 would deadlock with a client that doesn't wait, or need a timer. So the body is asked
//! for at once, and it is the *line* that is held back: [`Gate`] catches hyper's where it is written to the client
//! (in `client_io`), and lets it go when the server's arrives. If the final response comes first the line is
//! dropped. A body that comes early is forwarded early (RFC 9110 section 10.1.1 lets the client do so), and
//! one that comes after a 401 is forwarded as that request's body, never read as a request.
//!
//! Invariant: at most one line per request, always before the final response.

use std::sync::{Mutex, PoisonError};
use std::task::Waker;

/// What hyper writes, to the byte.
pub(crate) const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// One client connection's say over `100 Continue` lines.
///
/// All is on one thread; the lock is because hyper wants its callback for informational responses to be `Send + Sync`.
#[derive(Debug, Default)]
pub(crate) struct Gate(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    state: State,
    /// Whoever writes to the client.
    writer: Option<Waker>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// No request under way expects anything.
    #[default]
    Closed,
    /// hyper will write a line, unless the final response comes first.
    Waiting,
    /// hyper's line was caught.
    Caught,
    /// The server's 100 came before hyper's line.
    Open,
    /// The line is to be written to the client, from this byte on.
    Due(usize),
}

/// What becomes of bytes that hyper writes to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// They pass.
    Pass,
    /// They are a line that is held back; as far as hyper goes, they are written.
    Catch,
}

impl Gate {
    /// A request that expects a 100 was read; everything before it must have been written to the client.
    pub(crate) fn arm(&self) {
        self.lock().state = State::Waiting;
    }

    /// The server sent its 100. Whether the client gets one in turn.
    pub(crate) fn open(&self) -> bool {
        let mut inner = self.lock();
        inner.state = match inner.state {
            State::Waiting => State::Open,
            State::Caught => State::Due(0),
            State::Closed | State::Open | State::Due(_) => return false,
        };
        if let Some(writer) = inner.writer.take() {
            drop(inner);
            writer.wake();
        }
        true
    }

    /// Decides over the next bytes from hyper: its line, or else the head of the final response.
    pub(crate) fn judge(&self, bytes: &[u8]) -> Fate {
        let mut inner = self.lock();
        let is_line = bytes.starts_with(CONTINUE);
        let (state, fate) = match (inner.state, is_line) {
            (State::Waiting, true) => (State::Caught, Fate::Catch),
            _ => (State::Closed, Fate::Pass),
        };
        inner.state = state;
        fate
    }

    /// What is left to write of a line that is due. Else `waker` is woken when one becomes due.
    pub(crate) fn due(&self, waker: &Waker) -> Option<&'static [u8]> {
        let mut inner = self.lock();
        match inner.state {
            State::Due(from) => CONTINUE.get(from..),
            State::Closed => None,
            State::Waiting | State::Caught | State::Open => {
                inner.writer = Some(waker.clone());
                None
            }
        }
    }

    /// Whether a client that waits for its `100 Continue` is waiting for the server.
    pub(crate) fn holds_back(&self) -> bool {
        matches!(self.lock().state, State::Waiting | State::Caught)
    }

    /// `count` bytes of a line that was due are written. Whether that is all of it.
    pub(crate) fn wrote(&self, count: usize) -> bool {
        let mut inner = self.lock();
        if let State::Due(from) = inner.state {
            let written = from + count;
            inner.state = if written < CONTINUE.len() {
                State::Due(written)
            } else {
                State::Closed
            };
        }
        inner.state == State::Closed
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &[u8] = b"HTTP/1.1 401 Unauthorized\r\n";

    #[test]
    fn the_line_waits_for_the_servers_100() {
        let gate = Gate::default();
        gate.arm();
        assert_eq!(gate.judge(CONTINUE), Fate::Catch);
        assert_eq!(gate.due(Waker::noop()), None);
        assert!(gate.open());
        assert_eq!(gate.due(Waker::noop()), Some(CONTINUE));
        assert!(!gate.wrote(10));
        assert_eq!(gate.due(Waker::noop()), CONTINUE.get(10..));
        assert!(gate.wrote(CONTINUE.len() - 10));
        assert_eq!(gate.due(Waker::noop()), None);
        assert_eq!(gate.judge(HEAD), Fate::Pass);
    }

    #[test]
    fn a_100_ahead_of_the_line_lets_it_pass() {
        let gate = Gate::default();
        gate.arm();
        assert!(gate.open());
        assert_eq!(gate.judge(CONTINUE), Fate::Pass);
        assert_eq!(gate.due(Waker::noop()), None);
    }

    #[test]
    fn a_final_response_first_drops_the_line() {
        let gate = Gate::default();
        gate.arm();
        assert_eq!(gate.judge(CONTINUE), Fate::Catch);
        assert_eq!(gate.judge(HEAD), Fate::Pass);
        assert!(!gate.open());
        assert_eq!(gate.due(Waker::noop()), None);
    }

    #[test]
    fn nothing_is_touched_unless_armed() {
        let gate = Gate::default();
        assert!(!gate.open());
        assert_eq!(gate.judge(CONTINUE), Fate::Pass);
        assert_eq!(gate.due(Waker::noop()), None);
    }
}
