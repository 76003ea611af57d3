//! The ways out: segments become frames, or trains that somebody else cuts.
//!
//! Full segments of a flow in a row wait for each other in their port's [`Train`] and leave as one, if the port has a way to cut
//! them; all others leave as frames of their own. A train departs before anything else of its flow does, and at the end of a turn.

use lb_tcp::{FlowKey, Header, Output, Payload};
use lb_xsk::Flushed;

use super::frames::{Frames, Slot as _, Transmit};
use super::packet::{self, Link};
use super::train::{Departure, MAX_HEAD, Train};
use super::{Counters, PortConfig};

/// What every IPv4 host must accept (RFC 791 §3.1), and what fits a frame.
const MIN_MTU: usize = 576;
const MAX_MTU: usize = lb_xsk::FRAME_SIZE - packet::ETHERNET_LEN;

/// A segment within so many bytes of the MTU is a full one; options differ from segment to segment.
const NEARLY: usize = 40;

/// The way to a peer: port, and Ethernet header of its last frame, turned round.
#[derive(Clone, Copy, Debug)]
pub(super) struct Route {
    pub(super) port: usize,
    pub(super) link: Link,
}

/// What an engine knows of an interface.
#[derive(Debug)]
pub(super) struct Port {
    pub(super) config: PortConfig,
    train: Train,
    /// Frames were queued since the last flush, which a train would overtake.
    has_queued: bool,
    /// It was said to cut and then refused to.
    refuses: bool,
}

impl Port {
    pub(super) fn new(config: &PortConfig) -> Self {
        let config = PortConfig {
            mtu: config.mtu.clamp(MIN_MTU, MAX_MTU),
            ..*config
        };
        Self {
            config,
            train: Train::default(),
            has_queued: false,
            refuses: false,
        }
    }

    /// Whether its train could not leave.
    pub(super) fn is_held(&self) -> bool {
        self.train.is_held()
    }
}

/// The way out of one port, while the question is still in its frame.
pub(super) struct OnePort<'a, T> {
    pub(super) tx: &'a mut T,
    pub(super) mtu: usize,
    pub(super) lost: &'a mut u64,
}

impl<T: Transmit> Output<Route> for OnePort<'_, T> {
    fn has_room(&mut self, _: &Route) -> bool {
        self.tx.room() > 0
    }

    fn mtu(&self, _: &Route) -> usize {
        self.mtu
    }

    fn send(&mut self, key: &FlowKey, route: &Route, header: &Header, payload: Payload<'_>) {
        *self.lost += u64::from(!transmit(self.tx, key, &route.link, header, payload));
    }
}

/// The ways out of all ports.
pub(super) struct AllPorts<'a, F> {
    pub(super) frames: &'a mut [F],
    pub(super) ports: &'a mut [Port],
    pub(super) counters: &'a mut Counters,
}

impl<F: Frames> Output<Route> for AllPorts<'_, F> {
    /// A frame for the segment, and one for a train that may turn out to be one segment.
    fn has_room(&mut self, route: &Route) -> bool {
        let train = &self.ports[route.port].train;
        let taken = usize::from(!train.is_empty());
        !train.is_held() && self.frames[route.port].split().1.room() > taken
    }

    fn mtu(&self, route: &Route) -> usize {
        self.ports[route.port].config.mtu
    }

    fn send(&mut self, key: &FlowKey, route: &Route, header: &Header, payload: Payload<'_>) {
        if self.ports[route.port].train.takes(key, header, payload) {
            return;
        }
        self.depart(route.port);
        let port = &mut self.ports[route.port];
        let frames = &mut self.frames[route.port];
        let len = packet::frame_len(key, header, payload);
        let is_full = len + NEARLY > port.config.mtu + packet::ETHERNET_LEN;
        if is_full && frames.cuts() && !port.refuses && port.train.is_empty() {
            port.train.start(key, &route.link, header, payload);
            return;
        }
        port.has_queued = true;
        let sent = transmit(frames.split().1, key, &route.link, header, payload);
        self.counters.lost_output += u64::from(!sent);
    }
}

impl<F: Frames> AllPorts<'_, F> {
    /// Lets all trains leave.
    pub(super) fn depart_all(&mut self) {
        for port in 0..self.ports.len() {
            self.depart(port);
            self.ports[port].has_queued = false;
        }
    }

    /// Lets a port's train leave, if there is one; it is held if there is no way for it now.
    fn depart(&mut self, port: usize) {
        let (port, frames) = (&mut self.ports[port], &mut self.frames[port]);
        if port.train.is_empty() {
            return;
        }
        let mut head = [0; MAX_HEAD];
        match port.train.departure(&mut head) {
            None => {}
            Some(Departure::Single(key, link, header, payload)) => {
                port.has_queued = true;
                let sent = transmit(frames.split().1, key, link, header, payload);
                self.counters.lost_output += u64::from(!sent);
                port.train.clear();
            }
            Some(Departure::Cut(head_len, payload, cut)) => {
                if port.has_queued {
                    // What can't be flushed now is overtaken, which TCP takes for reordering.
                    let _ = frames.flush();
                    port.has_queued = false;
                }
                match frames.send_cut(&head[..head_len], payload, cut) {
                    Ok(Flushed::Done) => {
                        self.counters.super_segments += 1;
                        port.train.clear();
                    }
                    Ok(Flushed::Later) => port.train.hold(),
                    Err(error) => {
                        tracing::warn!(%error, "super-segments can't be sent; sending segments one by one");
                        port.refuses = true;
                        self.counters.lost_output += 1;
                        port.train.clear();
                    }
                }
            }
        }
    }
}

/// Whether there was a frame. There is, or a promise of [`Output::has_room`] was broken.
fn transmit<T: Transmit>(
    tx: &mut T,
    key: &FlowKey,
    link: &Link,
    header: &Header,
    payload: Payload<'_>,
) -> bool {
    let Some(mut slot) = tx.reserve(packet::frame_len(key, header, payload)) else {
        return false;
    };
    packet::emit(link, key, header, payload, &mut slot);
    slot.send();
    true
}
