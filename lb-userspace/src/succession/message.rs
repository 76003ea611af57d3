//! What two daemons say to each other. A change of it is another version of the protocol.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// Bytes that may have been read of a client's next request when its connection is passed on. A head that is longer so far
/// is rare, and its connection stays where it is.
pub(crate) const MAX_EARLY: usize = 64 << 10;

/// From the new daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Wish {
    /// All that can fail without the interfaces is done: make room.
    Vacate,
    /// The new program is in the links: leave.
    Ready,
}

/// From the old daemon.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Gift {
    /// The open directory of pins, with its lock.
    Lock,
    /// A socket that listens on a service's address.
    Listener(SocketAddr),
    /// The socket that listens for questions.
    Admin,
    /// The channel of a daemon that left before.
    Leaver,
    /// What is known of a server.
    Server(KnownServer),
    /// That was all, and the queues are free.
    Vacant,
    /// It can't be done, and nothing has changed.
    Failed(String),
    /// A client's socket; what was read of its next request comes behind.
    Client(ClientEnds),
}

/// What one daemon knows of a server and the next one needn't find out by trying.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KnownServer {
    /// Name of its service.
    pub(crate) service: String,
    /// Its route; `None` for L4.
    pub(crate) route: Option<String>,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// What its checks said last.
    pub(crate) healthy: bool,
    /// Why.
    pub(crate) reason: String,
    /// The operator wants it to get no new connections.
    pub(crate) drained: bool,
}

/// Whose connection it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClientEnds {
    /// Address of the service.
    pub(crate) service: SocketAddr,
    /// The client, by its PROXY header if it had one.
    pub(crate) peer: SocketAddr,
    /// Where it connected to.
    pub(crate) local: SocketAddr,
}
