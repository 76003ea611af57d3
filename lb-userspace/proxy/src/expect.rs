//! `Expect: 100-continue`: who says `100 Continue` to the client, and when.
//!
//! hyper's server writes a `100 Continue` of its own accord as soon as somebody asks for the body. Not asking until
//! the server has sent its 100 would deadlock with a client that doesn't wait, or need a timer. So the body is asked
//! for at once, and it is the *line* that is held back: [`Gate`] catches hyper's where it is written to the client
//! (in `client_io`), and lets it go when the server's arrives. If the final response comes first the line is
//! dropped. A body that comes early is forwarded early (RFC 9110 section 10.1.1 lets the client do so), and
//! one that comes after a 401 is forwarded as that request's body, never read as a request.
//!
//! So it is in the default mode; [`ExpectMode`] says what the others change.
//!
//! Invariant: at most one line per request, always before the final response.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use http::header::EXPECT;
use http::{Request, StatusCode, Version};
use tokio::time::Instant;

use crate::body::RequestBody;
use crate::headers;
use crate::record::Record;
use crate::session::Session;
use crate::wakers::keep;

/// What becomes of `Expect: 100-continue`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExpectMode {
    /// The server gets it, and the client gets the server's 100. A body that comes without being asked for is forwarded.
    #[default]
    Forward,
    /// The client gets a 100 at once and the server doesn't see the header, as with nginx. Costs a client that must
    /// log in first its body for nothing.
    Local,
    /// Nobody gets anything: the client sends its body when it is tired of waiting.
    Strip,
    /// As `Forward`, but no byte of the body is taken before the server's 100 or final response: LoadMaster's "Require
    /// 100-Continue". A server that sends neither costs the request, after the response's timeout.
    Require,
}

/// Does with an expectation, if the request has one, what `mode` says.
pub(crate) async fn prepare(
    session: &Session,
    mode: ExpectMode,
    request: &mut Request<RequestBody>,
    received: Version,
    record: &mut Record,
) {
    let body = request.body().presence();
    if !headers::expects_continue(request.headers_mut(), received, body) {
        return;
    }
    let (name, first) = match mode {
        ExpectMode::Forward => ("forwarded", State::Waiting),
        ExpectMode::Local => ("answered", State::Due(0, Then::Drop)),
        ExpectMode::Strip => ("stripped", State::Drop),
        ExpectMode::Require => ("required", State::Waiting),
    };
    record.expect = Some(name);
    session.shared.flushed().await;
    session.shared.gate.arm(first);
    if matches!(mode, ExpectMode::Local | ExpectMode::Strip) {
        headers::retain(request.headers_mut(), |name| name != EXPECT);
        return;
    }
    if mode == ExpectMode::Require {
        session.shared.gate.hold();
        session.shared.activity.hold(Instant::now());
        request.body_mut().hold();
    }
    let gate = Arc::clone(&session.shared.gate);
    let counters = Arc::clone(&session.proxy.service.counters);
    hyper::ext::on_informational(request, move |response| {
        if response.status() == StatusCode::CONTINUE && gate.open() {
            counters.continues_relayed.increment();
        }
    });
}

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
    body: Hold,
}

/// Whether the body may be read.
#[derive(Debug, Default)]
enum Hold {
    #[default]
    Free,
    /// Not yet; whoever wants to.
    Held(Option<Waker>),
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
    Due(usize, Then),
    /// hyper's line is thrown away when it comes.
    Drop,
}

/// What becomes of hyper's line once one was written to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// That was it.
    Closed,
    /// It is yet to come, and will be too much.
    Drop,
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
    fn arm(&self, first: State) {
        let mut inner = self.lock();
        inner.state = first;
        inner.body = Hold::Free;
        if let Some(writer) = inner.writer.take() {
            drop(inner);
            writer.wake();
        }
    }

    /// Nobody may read the body until the server has said so.
    fn hold(&self) {
        self.lock().body = Hold::Held(None);
    }

    /// The body may be read.
    pub(crate) fn release(&self) {
        let held = std::mem::take(&mut self.lock().body);
        if let Hold::Held(Some(reader)) = held {
            reader.wake();
        }
    }

    /// Ready once the body may be read.
    pub(crate) fn poll_released(&self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.lock().body {
            Hold::Free => Poll::Ready(()),
            Hold::Held(reader) => {
                *reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// The server sent its 100. Whether the client gets one in turn.
    pub(crate) fn open(&self) -> bool {
        self.release();
        let mut inner = self.lock();
        inner.state = match inner.state {
            State::Waiting => State::Open,
            State::Caught => State::Due(0, Then::Closed),
            State::Closed | State::Open | State::Due(..) | State::Drop => return false,
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
            (State::Drop, true) => (State::Closed, Fate::Catch),
            _ => (State::Closed, Fate::Pass),
        };
        inner.state = state;
        fate
    }

    /// What is left to write of a line that is due. Else `waker` is woken when one becomes due.
    pub(crate) fn due(&self, waker: &Waker) -> Option<&'static [u8]> {
        let mut inner = self.lock();
        match inner.state {
            State::Due(from, _) => CONTINUE.get(from..),
            State::Closed | State::Drop => None,
            State::Waiting | State::Caught | State::Open => {
                keep(&mut inner.writer, waker);
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
        let State::Due(from, then) = inner.state else {
            return true;
        };
        let written = from + count;
        let is_all = written >= CONTINUE.len();
        inner.state = match then {
            _ if !is_all => State::Due(written, then),
            Then::Closed => State::Closed,
            Then::Drop => State::Drop,
        };
        is_all
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
        gate.arm(State::Waiting);
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
        gate.arm(State::Waiting);
        assert!(gate.open());
        assert_eq!(gate.judge(CONTINUE), Fate::Pass);
        assert_eq!(gate.due(Waker::noop()), None);
    }

    #[test]
    fn a_final_response_first_drops_the_line() {
        let gate = Gate::default();
        gate.arm(State::Waiting);
        assert_eq!(gate.judge(CONTINUE), Fate::Catch);
        assert_eq!(gate.judge(HEAD), Fate::Pass);
        assert!(!gate.open());
        assert_eq!(gate.due(Waker::noop()), None);
    }

    #[test]
    fn a_line_of_ours_replaces_hypers() {
        let gate = Gate::default();
        gate.arm(State::Due(0, Then::Drop));
        assert_eq!(gate.due(Waker::noop()), Some(CONTINUE));
        assert!(!gate.open(), "none of the server's is awaited");
        assert!(gate.wrote(CONTINUE.len()));
        assert_eq!(gate.due(Waker::noop()), None);
        assert_eq!(gate.judge(CONTINUE), Fate::Catch);
        assert_eq!(gate.judge(HEAD), Fate::Pass);
    }

    #[test]
    fn without_a_line_nobody_gets_one() {
        let gate = Gate::default();
        gate.arm(State::Drop);
        assert_eq!(gate.judge(CONTINUE), Fate::Catch);
        assert!(!gate.open());
        assert_eq!(gate.due(Waker::noop()), None);
        assert_eq!(gate.judge(HEAD), Fate::Pass);
        gate.arm(State::Drop);
        assert_eq!(gate.judge(HEAD), Fate::Pass, "the response came first");
        assert_eq!(gate.judge(CONTINUE), Fate::Pass, "another request's");
    }

    #[test]
    fn a_held_body_waits_for_the_server() {
        let mut cx = Context::from_waker(Waker::noop());
        let gate = Gate::default();
        assert!(gate.poll_released(&mut cx).is_ready());
        for release in [Gate::release, |gate: &Gate| _ = gate.open()] {
            gate.arm(State::Waiting);
            gate.hold();
            assert!(gate.poll_released(&mut cx).is_pending());
            release(&gate);
            assert!(gate.poll_released(&mut cx).is_ready());
        }
    }

    #[test]
    fn nothing_is_touched_unless_armed() {
        let gate = Gate::default();
        assert!(!gate.open());
        assert_eq!(gate.judge(CONTINUE), Fate::Pass);
        assert_eq!(gate.due(Waker::noop()), None);
    }
}
