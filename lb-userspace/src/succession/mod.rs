//! One daemon after another: `lb run` beside a daemon that runs takes its place, and no client notices.
//!
//! The order, who owns what when, and what becomes of each kind of connection are in `ARCHITECTURE.md`, "Succession". The old
//! daemon is the *predecessor* of the new one, which is its *successor*; one that has handed over is *leaving*.
//!
//! | module | job |
//! |---|---|
//! | `channel` | messages with a descriptor between the two |
//! | `message` | what they say |
//! | `predecessor` | the new daemon's side: asks, takes, gets clients |
//! | `door` | the old daemon's side: lets one successor in, answers it |
//! | `listeners` | sockets that outlive the daemon that opened them |
//!
//! Invariant: descriptors are copies. Whoever passes one keeps it until the other side has said that it is ready, so that a
//! hand-over can be called off at any time before. Not here: what a leaving worker does with its clients (`worker`).

mod channel;
mod door;
mod listeners;
mod message;
mod predecessor;

pub(crate) use channel::{Channel, Way};
pub(crate) use door::{Door, Legacy, Successor};
pub(crate) use listeners::Listeners;
pub(crate) use message::{ClientEnds, KnownServer, MAX_EARLY};
pub(crate) use predecessor::{Adopted, Estate, Leaver, Predecessor};

use std::time::Duration;

/// The protocol and its version, as the `Upgrade` header has it. Two that differ can't hand over to each other.
const PROTOCOL: &str = "lb-succession/1";

/// Where the successor asks, on the admin socket.
pub(crate) const PATH: &str = "/succession";

/// Names the directory of pins, which must be that of both.
const PIN_HEADER: &str = "lb-pin";

/// How long the old daemon waits for its successor to be ready, with its control loop silent, before it takes everything back.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
