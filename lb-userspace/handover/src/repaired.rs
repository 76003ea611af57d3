//! A socket of the kernel's that has been told all of a connection, and waits to be let go.
//!
//! Invariant: nothing leaves for a [`Repaired`] before [`Repaired::release`] but one octet that the peer has had, of a connection without
//! timestamps. In repair the kernel only takes what it is told; a socket
//! that is closed in repair is forgotten without FIN or RST. (What it *receives* it answers, as any socket does. So the packets of the
//! tuple may be turned to it only after [`Repaired::new`].)
//!
//! Deliberately not here: what the values are (`plan`), where the packets of the tuple go meanwhile (the caller).

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd as _;

use lb_tcp::{FlowKey, Snapshot};
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

use crate::error::{MoveError, Step};
use crate::plan::{Options, Past, Plan};
use crate::reinject::Reinjector;
use crate::sys::{self, Queue, Repair};

/// A connection as a socket in repair. Dropped, it is gone without a trace.
#[derive(Debug)]
pub struct Repaired {
    socket: Socket,
    unsent: Vec<u8>,
}

/// A connection as an ordinary socket.
#[derive(Debug)]
pub struct Released {
    /// The socket, nonblocking.
    pub socket: TcpStream,
    /// Bytes that did not fit into its buffer and are to be written to it first of all.
    pub unsent: Vec<u8>,
}

impl Repaired {
    /// Makes the socket. `clock` is the `TSval` that the connection would send now; without timestamps it isn't looked at.
    ///
    /// What was received and not read is not given to the socket: whoever moves the connection keeps it (`snapshot.unread`), since it comes
    /// before all that the socket will give. What was received behind gaps is told to the socket by re-injection
    /// ([`out_of_order`](crate::out_of_order)).
    pub fn new(
        key: &FlowKey,
        snapshot: &Snapshot,
        clock: u32,
        options: &Options,
    ) -> Result<Self, MoveError> {
        Self::of(key, &Plan::new(snapshot, clock)?, options)
    }

    /// As [`new`](Self::new), of a connection whose past the socket learns: the round trip, and how much may be in flight. Before the
    /// first round trip there is nothing to learn, and without timestamps only the round trip, from the peer itself: it is sent an octet
    /// again that it has had.
    ///
    /// It is told by a packet, so that nothing else may be re-injected before, and netfilter must let it through (as
    /// [`selftest`](crate::selftest) finds out): otherwise the socket waits with new segments until the peer has answered the probe.
    pub fn with_history(
        key: &FlowKey,
        snapshot: &Snapshot,
        clock: u32,
        options: &Options,
        reinjector: &Reinjector,
    ) -> Result<Self, MoveError> {
        let plan = Plan::new(snapshot, clock)?.with_history(snapshot);
        let repaired = Self::of(key, &plan, options)?;
        if let Past::Acknowledged(history) = &plan.past {
            reinjector
                .inject(key, &history.acknowledgement, &[])
                .map_err(|error| Step::History.failed(error))?;
        }
        Ok(repaired)
    }

    fn of(key: &FlowKey, plan: &Plan<'_>, options: &Options) -> Result<Self, MoveError> {
        let socket = begin(key.local).map_err(|error| Step::Socket.failed(error))?;
        // First of all: from here on nothing leaves, whatever fails.
        sys::repair(socket.as_fd(), Repair::On).map_err(|error| Step::Repair.failed(error))?;
        configure(&socket, options).map_err(|error| Step::Configure.failed(error))?;
        connect(&socket, key, plan)?;
        negotiate(&socket, plan)?;
        put_in_flight(&socket, plan).map_err(|error| Step::SendQueue.failed(error))?;
        Ok(Self {
            socket,
            unsent: plan.unsent.to_vec(),
        })
    }

    /// Segments that have been received for it, for the self-test.
    pub(crate) fn segments_in(&self) -> io::Result<u32> {
        sys::segments_in(self.socket.as_fd())
    }

    /// Lets the socket go. From here on the connection is the kernel's: an error means that it is over.
    ///
    /// The kernel asks the peer for its window by a probe, whose answer must reach the socket: the packets of the tuple go to it by now.
    pub fn release(self) -> Result<Released, MoveError> {
        let Self { socket, mut unsent } = self;
        let failed = |error| Step::Release.failed(error);
        sys::repair(socket.as_fd(), Repair::Off).map_err(failed)?;
        // Repair had it set, leaving repair has cleared it. A listener of this port could not be made any more.
        socket.set_reuse_address(true).map_err(failed)?;
        let sent = send(&socket, &unsent).map_err(|error| Step::Unsent.failed(error))?;
        unsent.drain(..sent);
        Ok(Released {
            socket: socket.into(),
            unsent,
        })
    }
}

fn begin(local: SocketAddr) -> io::Result<Socket> {
    let domain = Domain::for_address(local);
    let kind = Type::STREAM.nonblocking();
    Socket::new(domain, kind, Some(Protocol::TCP))
}

fn configure(socket: &Socket, options: &Options) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    if let Some(name) = &options.congestion {
        socket.set_tcp_congestion(name.as_bytes())?;
    }
    if let Some(keepalive) = options.keepalive {
        let parameters = TcpKeepalive::new()
            .with_time(keepalive.idle)
            .with_interval(keepalive.interval)
            .with_retries(keepalive.probes);
        socket.set_tcp_keepalive(&parameters)?;
    }
    if !options.user_timeout.is_zero() {
        socket.set_tcp_user_timeout(Some(options.user_timeout))?;
    }
    Ok(())
}

/// To ESTABLISHED, with the connection's ends and numbers. What has to be said before, and why, says [`Plan`].
fn connect(socket: &Socket, key: &FlowKey, plan: &Plan<'_>) -> Result<(), MoveError> {
    let fd = socket.as_fd();
    socket
        .bind(&key.local.into())
        .map_err(|error| Step::Bind.failed(error))?;
    number(socket, plan).map_err(|error| Step::Sequence.failed(error))?;
    socket
        .set_tcp_mss(plan.mss)
        .map_err(|error| Step::Mss.failed(error))?;
    socket
        .connect(&key.remote.into())
        .map_err(|error| Step::Connect.failed(error))?;
    // After `connect`, which sizes the buffer by the MSS and would leave a larger one alone, but not count it as room to grow from.
    if let Some(bytes) = plan.send_buffer {
        sys::force_send_buffer(fd, bytes).map_err(|error| Step::Configure.failed(error))?;
    }
    Ok(())
}

fn number(socket: &Socket, plan: &Plan<'_>) -> io::Result<()> {
    let fd = socket.as_fd();
    for (queue, seq) in [(Queue::Send, plan.start), (Queue::Receive, plan.rcv_nxt)] {
        sys::choose(fd, queue)?;
        sys::queue_seq(fd, seq)?;
    }
    Ok(())
}

fn negotiate(socket: &Socket, plan: &Plan<'_>) -> Result<(), MoveError> {
    let fd = socket.as_fd();
    sys::options(fd, plan.negotiated).map_err(|error| Step::Options.failed(error))?;
    if let Some(clock) = plan.clock {
        sys::timestamp(fd, clock).map_err(|error| Step::Timestamp.failed(error))?;
    }
    sys::windows(fd, &plan.windows).map_err(|error| Step::Window.failed(error))
}

/// Sends the octet before SND.UNA, whatever it was, once more: the garbage octet of a keepalive (RFC 9293 section 3.8.4), which the peer
/// has had and acknowledges. What is written in repair counts as retransmitted, so that its acknowledgement tells no round trip without
/// timestamps; this one's does, and before that the socket would wait for three seconds if the head of what is in flight got lost.
fn prompt(socket: &Socket) -> io::Result<()> {
    let fd = socket.as_fd();
    sys::repair(fd, Repair::OffQuietly)?;
    let sent = send(socket, &[0]);
    // Before anything else, or a socket that is dropped would say goodbye.
    sys::repair(fd, Repair::On)?;
    if sent? == 0 {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    Ok(())
}

/// Bytes that are written in repair count as sent: they are sent again if they get lost.
fn put_in_flight(socket: &Socket, plan: &Plan<'_>) -> io::Result<()> {
    let fd = socket.as_fd();
    let history = match plan.past {
        Past::Untold => 0,
        Past::Acknowledged(history) => history.len as usize,
        Past::Octet => {
            prompt(socket)?;
            0
        }
    };
    sys::choose(fd, Queue::Send)?;
    // Each in segments of its own: what is acknowledged must end where the acknowledgement does.
    for bytes in [&vec![0; history], plan.sent] {
        if send(socket, bytes)? < bytes.len() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
    }
    sys::choose(fd, Queue::None)?;
    if plan.send_buffer.is_some() {
        sys::unlock_buffers(fd)?;
    }
    Ok(())
}

/// Writes as much as there is room for; how much.
fn send(socket: &Socket, bytes: &[u8]) -> io::Result<usize> {
    let mut sent = 0;
    while let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
        match socket.send_with_flags(rest, libc::MSG_NOSIGNAL) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sent)
}
