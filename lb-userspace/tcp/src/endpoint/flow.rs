//! One connection as the endpoint keeps it: its TCP, its way back, who holds it.

use super::FlowKey;
use super::index::Hash;
use crate::{Connection, Instant, Seq};

/// Who answers for a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// The handshake is not complete; a place of the listener with this serial number is taken.
    Handshake(u32),
    /// Established, waits in its listener's queue.
    Queue,
    /// Whoever has its [`FlowId`](super::FlowId).
    User,
    /// Nobody any more: the endpoint finishes it.
    Nobody(Orphan),
}

/// Patience with the peer of a flow that nobody holds. It starts anew whenever the peer acknowledges something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Orphan {
    /// SND.UNA when it was last looked at.
    pub(super) una: Seq,
    /// Its end, unless SND.UNA moves.
    pub(super) deadline: Instant,
}

#[derive(Debug)]
pub(super) struct Flow<R, A> {
    pub(super) hash: Hash,
    pub(super) key: FlowKey,
    pub(super) owner: Owner,
    /// Stands in line to send.
    pub(super) is_in_line: bool,
    /// Segments between its ends are for it. No longer, once it is over: its user may still hold it when its
    /// peer opens the next connection between the same ends.
    pub(super) is_indexed: bool,
    pub(super) connection: Connection,
    /// The way that the peer's last segment came.
    pub(super) route: R,
    pub(super) attachment: A,
}

impl<R, A> Flow<R, A> {
    /// When patience with the peer ends, if nobody holds the flow.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.owner {
            Owner::Nobody(orphan) => Some(orphan.deadline),
            _ => None,
        }
    }
}
