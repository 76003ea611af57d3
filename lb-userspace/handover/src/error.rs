//! Why a connection could not be moved.

use std::{fmt, io};

/// Why a connection could not be moved: what was being done, and what the kernel said.
#[derive(Debug, thiserror::Error)]
#[error("{step}: {source}")]
pub struct MoveError {
    /// What was being done.
    pub step: Step,
    /// What the kernel said.
    pub source: io::Error,
}

/// Part of a move, in the order of the cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Looking at the snapshot: it can't be true, or the kernel can't express it.
    Snapshot,
    /// A new socket. `EMFILE`: out of descriptors.
    Socket,
    /// Repair mode. `EPERM`: no `CAP_NET_ADMIN` in the user namespace of the network namespace.
    Repair,
    /// Options that any socket has: congestion control, keepalive, buffers.
    Configure,
    /// `bind`. `EADDRNOTAVAIL`: the service's address is not one of this host.
    Bind,
    /// Sequence numbers.
    Sequence,
    /// The MSS. `EINVAL`: one so small that the kernel knows none.
    Mss,
    /// `connect`, which sends nothing in repair. `EADDRNOTAVAIL`: the kernel still has a socket of this tuple, maybe in TIME-WAIT.
    /// `ENETUNREACH`: no route to the peer.
    Connect,
    /// What both SYNs agreed on. `EPERM`: a packet of the tuple has found the half-made socket.
    Options,
    /// The clock of our timestamps.
    Timestamp,
    /// Both windows.
    Window,
    /// Bytes in flight.
    SendQueue,
    /// The peer's last acknowledgement, again.
    History,
    /// Leaving repair.
    Release,
    /// Bytes that wait to be sent. The peer may have reset the connection since.
    Unsent,
}

impl Step {
    /// The error of a step.
    pub(crate) fn failed(self, source: io::Error) -> MoveError {
        MoveError { step: self, source }
    }

    /// A snapshot that can't be moved, and why.
    pub(crate) fn refused(why: &'static str) -> MoveError {
        Self::Snapshot.failed(io::Error::new(io::ErrorKind::InvalidInput, why))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Snapshot => "reading the connection's state",
            Self::Socket => "making a socket",
            Self::Repair => "entering repair mode",
            Self::Configure => "setting the socket's options",
            Self::Bind => "binding to the service's address",
            Self::Sequence => "setting sequence numbers",
            Self::Mss => "setting the MSS",
            Self::Connect => "connecting in repair mode",
            Self::Options => "setting what was negotiated",
            Self::Timestamp => "setting the clock of timestamps",
            Self::Window => "setting the windows",
            Self::SendQueue => "queueing bytes in flight",
            Self::History => "repeating the last acknowledgement",
            Self::Release => "leaving repair mode",
            Self::Unsent => "sending what waited",
        })
    }
}
