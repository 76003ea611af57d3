//! All connections of one worker: whose a segment is, who may connect, who sends next, what memory is left.

use core::net::SocketAddr;

use crate::{Header, Payload};

/// Both ends of a connection, seen from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// Our end.
    pub local: SocketAddr,
    /// The peer's.
    pub remote: SocketAddr,
}

/// Place of a flow in the endpoint's table. Used again after the flow is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowId(pub(crate) u32);

/// Where segments go. `R` is a route: what the owner needs to find the way back to a peer (interface and Ethernet
/// header). The endpoint keeps the latest of each flow and looks into none.
pub trait Output<R> {
    /// Whether a segment can be taken now. Asked before a segment is counted as sent.
    fn has_room(&mut self, route: &R) -> bool;
    /// Bytes of an IP packet at most on this way.
    fn mtu(&self, route: &R) -> usize;
    /// Sends. Called with room only.
    fn send(&mut self, key: &FlowKey, route: &R, header: &Header, payload: Payload<'_>);
}

/// All connections of one worker. `A` is what the owner attaches to each flow (its wakers).
#[derive(Debug)]
pub struct Endpoint<R, A> {
    flows: alloc::vec::Vec<(R, A)>,
}
