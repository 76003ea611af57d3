//! What users ask for: listening, connecting, bytes, the end.

use core::net::SocketAddr;

use super::flow::{Flow, Owner};
use super::input::mss;
use super::{Attachment, Endpoint, FlowId, FlowKey, ListenError, Output};
use crate::connection::Open;
use crate::{Connection, Failure, Info, Pressure, Snapshot, State};

/// A connection on its way to another owner.
#[derive(Debug)]
pub struct Exported<R> {
    /// Its ends.
    pub key: FlowKey,
    /// The way to the peer.
    pub route: R,
    /// All else.
    pub snapshot: Snapshot,
}

/// Listeners.
impl<R: Clone, A: Attachment> Endpoint<R, A> {
    /// Listens. `attachment` is told of connections to accept.
    ///
    /// # Errors
    /// For a wildcard, port 0, or an address that is listened on already.
    pub fn listen(&mut self, address: SocketAddr, attachment: A) -> Result<(), ListenError> {
        self.listeners.insert(address, attachment)
    }

    /// Forgets an address and resets what was not accepted: what waits in the queue now, half-open connections when their peer
    /// completes them. Accepted connections go on.
    pub fn unlisten(&mut self, address: &SocketAddr) {
        if let Some(mut listener) = self.listeners.remove(address) {
            while let Some(id) = listener.dequeue() {
                self.disown(id);
            }
        }
    }

    /// What was attached to a listener.
    pub fn listener_attachment(&mut self, address: &SocketAddr) -> Option<&mut A> {
        Some(&mut self.listeners.get_mut(address)?.attachment)
    }

    /// The next established connection of an address.
    pub fn accept(&mut self, address: &SocketAddr) -> Option<(FlowId, FlowKey)> {
        let id = self.listeners.get_mut(address)?.dequeue()?;
        let flow = self.flows.get_mut(id)?;
        flow.owner = Owner::User;
        Some((FlowId(id), flow.key))
    }

    /// Stops accepting, for good: SYNs are ignored, so that clients try again and find the next process, and what was not accepted
    /// is reset. Accepted connections go on, and stray segments are still refused.
    pub fn stop(&mut self) {
        self.is_stopping = true;
        let mut waiting = alloc::vec::Vec::new();
        for listener in self.listeners.iter_mut() {
            waiting.extend(core::iter::from_fn(|| listener.dequeue()));
        }
        for id in waiting {
            self.disown(id);
        }
    }

    /// Resets every connection, half-open ones too: after this and an [`output`](Self::output) that leaves nobody in line, no
    /// client waits for an answer that will not come.
    pub fn reset_all(&mut self) {
        let Self { flows, .. } = self;
        let all: alloc::vec::Vec<u32> = flows.iter_mut().map(|(id, _)| id).collect();
        for id in all {
            if let Some(flow) = self.flows.get_mut(id) {
                flow.connection.abort(&mut self.shared.env());
                self.settle(id);
            }
        }
    }

    /// Resets a connection that was never accepted.
    fn disown(&mut self, id: u32) {
        if let Some(flow) = self.flows.get_mut(id) {
            flow.connection.abort(&mut self.shared.env());
            self.leave(id);
        }
    }

    /// Nobody holds the flow any more.
    fn leave(&mut self, id: u32) {
        let Some(flow) = self.flows.get_mut(id) else {
            return;
        };
        flow.owner = self.shared.nobody(&flow.connection);
        flow.attachment = A::default();
        if flow.is_indexed {
            self.settle(id);
        } else {
            self.remove(id);
        }
    }
}

/// Connections.
impl<R: Clone, A: Attachment> Endpoint<R, A> {
    /// Connects. `None` if the ends are connected already, or lately were, or there is no room for a flow.
    pub fn connect(&mut self, key: FlowKey, route: R, out: &impl Output<R>) -> Option<FlowId> {
        let (tuple, hash) = self.shared.tuple_and_hash(&key);
        if self.find(&key, hash).is_some()
            || self.time_wait.contains((&tuple, hash))
            || self.flows.len() >= self.shared.config.max_flows
            || self.shared.pool.pressure() == Pressure::RefuseConnections
        {
            return None;
        }
        let open = Open {
            iss: self.shared.secret.isn(&key, self.shared.now),
            timestamp_offset: self.shared.secret.timestamp_offset(&key),
            mss: mss(&key, out.mtu(&route)),
        };
        let connection = Connection::connect(open, &mut self.shared.env());
        self.add_held(key, route, connection)
    }

    /// Bytes in order. `Ok(None)`: none yet; `Ok(Some(0))`: the peer has finished.
    ///
    /// # Errors
    /// How the connection failed.
    pub fn read(&mut self, id: &FlowId, into: &mut [u8]) -> Result<Option<usize>, Failure> {
        let Some(flow) = self.flows.get_mut(id.0) else {
            return Err(Failure::Aborted);
        };
        let result = flow.connection.read(into, &mut self.shared.env());
        if let Ok(Some(_)) = result {
            // The window may have grown enough to tell the peer.
            self.settle(id.0);
        }
        result
    }

    /// Bytes that [`read`](Self::read) has now.
    pub fn readable(&self, id: &FlowId) -> usize {
        let flow = self.flows.get(id.0);
        flow.map_or(0, |flow| flow.connection.readable())
    }

    /// Takes bytes to send. `Ok(None)`: no room yet; `Ok(Some(0))`: after [`shutdown`](Self::shutdown).
    ///
    /// # Errors
    /// How the connection failed.
    pub fn write(&mut self, id: &FlowId, bytes: &[u8]) -> Result<Option<usize>, Failure> {
        let Some(flow) = self.flows.get_mut(id.0) else {
            return Err(Failure::Aborted);
        };
        let result = flow.connection.write(bytes, &mut self.shared.env());
        self.settle(id.0);
        result
    }

    /// FIN behind what was written.
    pub fn shutdown(&mut self, id: &FlowId) {
        if let Some(flow) = self.flows.get_mut(id.0) {
            flow.connection.shutdown();
            self.settle(id.0);
        }
    }

    /// RST, and everything unsent forgotten.
    pub fn abort(&mut self, id: &FlowId) {
        if let Some(flow) = self.flows.get_mut(id.0) {
            flow.connection.abort(&mut self.shared.env());
            self.settle(id.0);
        }
    }

    /// Closes as close(2) does: with RST if bytes were left unread (RFC 2525 §2.17), else with FIN behind what was written. The
    /// endpoint then finishes the connection, for as long as its peer goes on: see [`orphan_timeout`](crate::Config::orphan_timeout).
    #[expect(
        clippy::needless_pass_by_value,
        reason = "the right to use the flow ends here"
    )]
    pub fn release(&mut self, id: FlowId) {
        let Some(flow) = self.flows.get_mut(id.0) else {
            return;
        };
        let mut env = self.shared.env();
        if flow.connection.has_unread() {
            flow.connection.abort(&mut env);
            env.counters.abort_on_close += u64::from(flow.is_indexed);
        } else if flow.connection.state() == State::SynSent {
            flow.connection.abort(&mut env);
        } else {
            flow.connection.shutdown();
        }
        self.leave(id.0);
    }

    /// What is attached to each flow.
    pub fn attachments(&mut self) -> impl Iterator<Item = &mut A> {
        self.flows.iter_mut().map(|(_, flow)| &mut flow.attachment)
    }

    /// What is attached to a flow.
    pub fn attachment(&mut self, id: &FlowId) -> Option<&mut A> {
        Some(&mut self.flows.get_mut(id.0)?.attachment)
    }

    /// What can be told of a connection.
    pub fn info(&mut self, id: &FlowId) -> Option<Info> {
        let flow = self.flows.get(id.0)?;
        Some(flow.connection.info(&self.shared.env()))
    }

    /// Tells of every connection.
    pub fn for_each_flow(&mut self, mut tell: impl FnMut(&FlowKey, Info)) {
        let env = self.shared.env();
        for (_, flow) in self.flows.iter_mut() {
            tell(&flow.key, flow.connection.info(&env));
        }
    }

    /// Takes a connection out, whole: [`snapshot`](Self::snapshot) and [`moved`](Self::moved) in one.
    ///
    /// # Errors
    /// Gives the flow back if it is not established.
    pub fn export(&mut self, id: FlowId) -> Result<Exported<R>, FlowId> {
        let Some((key, snapshot)) = self.snapshot(&id) else {
            return Err(id);
        };
        let Some(flow) = self.flows.get(id.0) else {
            return Err(id);
        };
        let route = flow.route.clone();
        self.moved(id);
        Ok(Exported {
            key,
            route,
            snapshot,
        })
    }

    /// A connection as a value, and its ends; it goes on here as if nobody had looked. `None` if it is not ESTABLISHED.
    pub fn snapshot(&self, id: &FlowId) -> Option<(FlowKey, Snapshot)> {
        let flow = self.flows.get(id.0)?;
        let snapshot = flow.connection.snapshot()?;
        Some((flow.key, snapshot))
    }

    /// Forgets a connection that goes on elsewhere, from its latest [`snapshot`](Self::snapshot). Whoever waits for it is told.
    ///
    /// What still arrives for it is [`Disposition::Elsewhere`](super::Disposition::Elsewhere), a SYN too, for as long as TIME-WAIT
    /// lasts or until [`forget_moved`](Self::forget_moved). If [ports are shared](Self::share_ports), that matters for SYNs alone; if not,
    /// an answer of ours would later end the connection at its new place.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "the right to use the flow ends here"
    )]
    pub fn moved(&mut self, id: FlowId) {
        let Some(flow) = self.flows.get_mut(id.0) else {
            return;
        };
        flow.attachment.progressed(true, true);
        let key = flow.key;
        if flow.is_indexed {
            flow.is_indexed = false;
            self.wheel.disarm(id.0);
            self.index.remove(flow.hash, id.0);
        }
        self.remove(id.0);
        let place = self.shared.tuple_and_hash(&key);
        self.time_wait
            .insert_moved(place, self.shared.now, &mut self.shared.counters);
    }

    /// A connection that has moved is over: the next SYN between its ends is this endpoint's.
    pub fn forget_moved(&mut self, key: &FlowKey) {
        let (tuple, hash) = self.shared.tuple_and_hash(key);
        self.time_wait.remove_moved((&tuple, hash));
    }

    /// Goes on with a connection. `None` if the ends are connected already, there is no room, or the snapshot can't be true.
    pub fn import(&mut self, exported: Exported<R>) -> Option<FlowId> {
        let (tuple, hash) = self.shared.tuple_and_hash(&exported.key);
        if self.find(&exported.key, hash).is_some()
            || self.flows.len() >= self.shared.config.max_flows
        {
            return None;
        }
        self.time_wait.remove((&tuple, hash));
        let connection = Connection::import(exported.snapshot, &mut self.shared.env())?;
        self.add_held(exported.key, exported.route, connection)
    }

    fn add_held(&mut self, key: FlowKey, route: R, connection: Connection) -> Option<FlowId> {
        let (_, hash) = self.shared.tuple_and_hash(&key);
        let id = self.flows.insert(Flow {
            hash,
            key,
            owner: Owner::User,
            is_in_line: false,
            is_indexed: true,
            connection,
            route,
            attachment: A::default(),
        })?;
        self.index.insert(hash, id);
        self.settle(id);
        Some(FlowId(id))
    }
}
