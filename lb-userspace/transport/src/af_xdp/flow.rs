//! One connection as the engine keeps it: its TCP, its way back, who holds it.

use std::task::Waker;
use std::time::Instant;

use super::packet::{FlowKey, Link};
use super::tcp::Tcb;

/// Place of a flow in the engine's table. Used again after the flow is gone.
pub(super) type FlowId = usize;

/// Who answers for a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// The handshake is not complete.
    Handshake,
    /// Established, waits in its listener's queue.
    Backlog,
    /// A [`Stream`](super::Stream).
    Stream,
    /// Nobody any more: the engine finishes it.
    Nobody,
}

pub(super) struct Flow {
    pub(super) key: FlowKey,
    pub(super) tcb: Tcb,
    /// Port and Ethernet header of the peer's last frame.
    pub(super) port: usize,
    pub(super) link: Link,
    pub(super) owner: Owner,
    /// Stands in line to send.
    pub(super) in_line: bool,
    /// Its entry in the timers.
    pub(super) armed: Option<Instant>,
    /// End of patience, for flows in handshake and without owner.
    pub(super) deadline: Option<Instant>,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
}

impl Flow {
    /// Wakes tasks that can go on.
    pub(super) fn wake(&mut self) {
        if self.reader.is_some() && self.tcb.is_readable() {
            self.reader.take().into_iter().for_each(Waker::wake);
        }
        if self.writer.is_some() && self.tcb.is_writable() {
            self.writer.take().into_iter().for_each(Waker::wake);
        }
    }
}
