//! Requests as they end, for whoever watches them live: what `lb trace` prints.
//!
//! Invariant: who serves never waits for who watches. A watcher that is too slow misses requests, and is told how many. While
//! nobody watches, a request costs the look at one number that nobody writes. Not here: what is known of a request, and what
//! never may be told of it (`record`).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::broadcast::{Receiver, Sender};

/// Requests that a watcher may be behind: some milliseconds of a busy host, and 64 KiB of pointers to them.
const BACKLOG: usize = 4096;

/// One request, and every decision about it.
///
/// Field names are part of the interface of `lb trace --json`: scripts read them. Never in it: tokens, cookies, query strings,
/// or the value of any header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traced {
    /// When it ended, in milliseconds since 1970.
    pub ended_ms: u64,
    /// Microseconds from its head to the end of the response; none if nobody watched when it began.
    pub took_us: Option<u64>,
    /// Name of the service.
    pub service: String,
    /// Name of the route; none if no route took it.
    pub route: Option<String>,
    /// The client, as the PROXY header has it if there is one.
    pub client: SocketAddr,
    /// Where it connected to.
    pub listen: SocketAddr,
    /// The method.
    pub method: String,
    /// The path as the client sent it, without its query.
    pub path: String,
    /// Name of the server; none if no server was asked.
    pub server: Option<String>,
    /// Number of the connection to the server, of this daemon.
    pub connection: Option<u64>,
    /// Why that connection is this client's alone; none if it isn't.
    pub pinned: Option<String>,
    /// Which step of a login the request is, such as `ntlm-1`.
    pub request_leg: Option<String>,
    /// Which step of a login the response is.
    pub response_leg: Option<String>,
    /// `Persistent-Auth` of the response: `true` or `false`.
    pub persistent_auth: Option<String>,
    /// The client sent a `Via`.
    pub via_in: bool,
    /// The server got one.
    pub via_out: bool,
    /// What became of `Expect: 100-continue`.
    pub expect: Option<String>,
    /// The status that the client got; none if it got no answer.
    pub status: Option<u16>,
    /// What went wrong.
    pub error: Option<String>,
    /// Bytes of the response's body, or of a tunnel, to the client.
    pub body_bytes: u64,
    /// The response, or the tunnel, came to its end.
    pub complete: bool,
    /// What made the connection bulk, now or earlier.
    pub bulk: Option<String>,
    /// Where the connection lived when the request began; none if it can't move, or if nobody watched.
    pub began_on: Option<String>,
    /// Where it lived when the request ended. Another place than before: it has moved meanwhile.
    pub ended_on: Option<String>,
}

/// Where requests are told. Clones tell the same watchers.
#[derive(Clone, Debug)]
pub struct Feed(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Beside those that the channel counts behind a lock.
    watchers: AtomicUsize,
    requests: Sender<Arc<Traced>>,
}

impl Default for Feed {
    fn default() -> Self {
        Self(Arc::new(Inner {
            watchers: AtomicUsize::new(0),
            requests: Sender::new(BACKLOG),
        }))
    }
}

impl Feed {
    /// Hears of all requests that end from now on.
    #[must_use]
    pub fn watch(&self) -> Watcher {
        // Before the count rises, or the first request would find nobody. Nothing else is ordered by it.
        let requests = self.0.requests.subscribe();
        self.0.watchers.fetch_add(1, Ordering::Relaxed);
        Watcher {
            feed: self.clone(),
            requests,
        }
    }

    /// Whether anybody wants to know.
    pub(crate) fn is_watched(&self) -> bool {
        self.0.watchers.load(Ordering::Relaxed) > 0
    }

    pub(crate) fn tell(&self, request: Traced) {
        // Fails if the last one has just stopped watching.
        let _ = self.0.requests.send(Arc::new(request));
    }
}

/// Who watches, until dropped.
#[derive(Debug)]
pub struct Watcher {
    feed: Feed,
    requests: Receiver<Arc<Traced>>,
}

/// What a watcher sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A request has ended.
    Request(Arc<Traced>),
    /// So many have, and this watcher was too slow for them.
    Missed(u64),
}

impl Watcher {
    /// The next request, in the order in which they ended. Nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> Seen {
        match self.requests.recv().await {
            Ok(request) => Seen::Request(request),
            Err(RecvError::Lagged(count)) => Seen::Missed(count),
            // The feed that this one holds is a sender.
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.feed.0.watchers.fetch_sub(1, Ordering::Relaxed);
    }
}
