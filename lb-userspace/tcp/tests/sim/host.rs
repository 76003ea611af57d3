//! What an end of the link is to the simulator: a TCP with one connection, whose user is an [`App`](crate::app::App).

use lb_tcp::{Failure, Instant};

use crate::packet::Packet;

/// How far an end's connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
    /// Nobody has connected yet.
    Listening,
    /// There is a connection.
    Open,
    /// It is over; TIME-WAIT counts as that.
    Over,
}

/// One end.
pub(crate) trait Host {
    /// Before anything else, if this end isn't told to connect.
    fn listen(&mut self, now: Instant);
    /// Sends the SYN.
    fn connect(&mut self, now: Instant);
    fn receive(&mut self, packet: &Packet, now: Instant);
    /// A router has dropped `quoted`, and says that `mtu` would have passed.
    fn too_big(&mut self, quoted: &Packet, mtu: usize, now: Instant);
    fn on_timer(&mut self, now: Instant);
    fn next_timer(&mut self, now: Instant) -> Option<Instant>;
    fn transmit(&mut self, now: Instant) -> Option<Packet>;

    /// As [`Connection::read`](lb_tcp::Connection::read).
    fn read(&mut self, into: &mut [u8], now: Instant) -> Result<Option<usize>, Failure>;
    /// As [`Connection::write`](lb_tcp::Connection::write).
    fn write(&mut self, bytes: &[u8], now: Instant) -> Result<Option<usize>, Failure>;
    fn shutdown(&mut self, now: Instant);
    fn abort(&mut self, now: Instant);

    fn phase(&mut self) -> Phase;
    /// Bytes of buffers that the connection holds.
    fn memory(&self) -> usize;
    /// The user has done all it planned, and lets go of the connection.
    fn release(&mut self, now: Instant);
    /// Connections that are still kept, when everything is over.
    fn leftovers(&self) -> usize;
    /// For the reader of a failure.
    fn describe(&mut self, now: Instant) -> String;
}
