//! Messages between two daemons: JSON, bytes behind it, and one descriptor at most, over a pair of `SOCK_SEQPACKET` sockets.
//!
//! Invariant: a message arrives as a whole with its descriptor, or not at all (unix(7): packets keep their bounds, and
//! `SCM_RIGHTS` goes with the packet). Not here: what is said.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Bytes of a message at most. A packet must fit the sender's buffer as a whole, which has 208 KiB by default.
const MAX_MESSAGE: usize = 96 << 10;

/// Bytes before the JSON: its length.
const PREFIX: usize = 4;

/// One end of a channel that no runtime knows yet, and that may go to another thread or process.
#[derive(Debug)]
pub(crate) struct Way(OwnedFd);

impl Way {
    /// Both ends of a new channel.
    pub(super) fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )?;
        Ok((Self(one), Self(other)))
    }

    /// A descriptor that came as a message.
    pub(super) const fn of(socket: OwnedFd) -> Self {
        Self(socket)
    }

    /// Another descriptor of this end, with a runtime that watches it.
    pub(crate) fn open(&self) -> io::Result<Channel> {
        Channel::new(Self(self.0.try_clone()?))
    }
}

impl AsFd for Way {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// One end of a channel.
#[derive(Debug)]
pub(crate) struct Channel(AsyncFd<OwnedFd>);

/// A message as it came.
#[derive(Debug)]
pub(super) struct Letter<M> {
    pub(super) message: M,
    pub(super) tail: Vec<u8>,
    pub(super) descriptor: Option<OwnedFd>,
}

impl Channel {
    /// Needs a tokio runtime with I/O on this thread.
    #[expect(
        deprecated,
        reason = "its successor is unsafe; the contract holds: a descriptor that is owned stays the same until it is dropped"
    )]
    pub(super) fn new(end: Way) -> io::Result<Self> {
        let both = Interest::READABLE | Interest::WRITABLE;
        AsyncFd::with_interest(end.0, both).map(Self)
    }

    /// The end, for another process.
    pub(super) fn end(&self) -> BorrowedFd<'_> {
        self.0.get_ref().as_fd()
    }

    /// The end, for another thread.
    pub(super) fn into_way(self) -> Way {
        Way(self.0.into_inner())
    }

    /// Sends a message; waits for room.
    pub(super) async fn send(
        &self,
        message: &impl Serialize,
        tail: &[u8],
        descriptor: Option<BorrowedFd<'_>>,
    ) -> io::Result<()> {
        let json = serde_json::to_vec(message)?;
        let length = u32::try_from(json.len()).map_err(io::Error::other)?;
        if PREFIX + json.len() + tail.len() > MAX_MESSAGE {
            return Err(io::Error::other("a message that is too long"));
        }
        let length = length.to_ne_bytes();
        let parts = [
            IoSlice::new(&length),
            IoSlice::new(&json),
            IoSlice::new(tail),
        ];
        let send = |end: &OwnedFd| transmit(end.as_fd(), &parts, descriptor);
        self.0.async_io(Interest::WRITABLE, send).await
    }

    /// The next message; `None` when the other side is gone.
    pub(super) async fn receive<M: DeserializeOwned>(&self) -> io::Result<Option<Letter<M>>> {
        let mut packet = vec![0; MAX_MESSAGE];
        let receive = |end: &OwnedFd| receive(end.as_fd(), &mut packet);
        let (count, descriptor) = match self.0.async_io(Interest::READABLE, receive).await {
            Ok(received) => received,
            // The peer was killed with unread messages of ours.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
            Err(error) => return Err(error),
        };
        packet.truncate(count);
        if packet.is_empty() {
            return Ok(None);
        }
        let broken = || io::Error::new(io::ErrorKind::InvalidData, "a message without its length");
        let (length, rest) = packet.split_first_chunk::<PREFIX>().ok_or_else(broken)?;
        let (json, tail) = rest
            .split_at_checked(u32::from_ne_bytes(*length) as usize)
            .ok_or_else(broken)?;
        Ok(Some(Letter {
            message: serde_json::from_slice(json)?,
            tail: tail.to_vec(),
            descriptor,
        }))
    }
}

/// Sends bytes and perhaps a descriptor on any Unix socket.
pub(super) fn transmit(
    socket: BorrowedFd<'_>,
    parts: &[IoSlice<'_>],
    descriptor: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = descriptor.map(|descriptor| [descriptor]);
    if let Some(descriptors) = &descriptors {
        control.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    sendmsg(socket, parts, &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives bytes, and the descriptor if one came with them.
pub(super) fn receive(
    socket: BorrowedFd<'_>,
    bytes: &mut [u8],
) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(
        socket,
        &mut [IoSliceMut::new(bytes)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let mut descriptor = None;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut descriptors) = message {
            descriptor = descriptors.next();
        }
    }
    Ok((received.bytes, descriptor))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[tokio::test]
    async fn a_message_comes_with_its_bytes_and_its_descriptor() {
        let (one, other) = Way::pair().unwrap();
        let (one, other) = (Channel::new(one).unwrap(), Channel::new(other).unwrap());
        let (mut near, mut far) = UnixStream::pair().unwrap();
        one.send(&"first", b"tail", Some(far.as_fd()))
            .await
            .unwrap();
        one.send(&"second", b"", None).await.unwrap();
        far.write_all(b"x").unwrap();

        let first: Letter<String> = other.receive().await.unwrap().unwrap();
        assert_eq!(
            (&first.message[..], &first.tail[..]),
            ("first", &b"tail"[..])
        );
        let second: Letter<String> = other.receive().await.unwrap().unwrap();
        assert_eq!(
            (&second.message[..], second.descriptor.is_none()),
            ("second", true)
        );

        // The copy is the same socket.
        drop(far);
        let mut copy = UnixStream::from(first.descriptor.unwrap());
        copy.write_all(b"y").unwrap();
        let mut both = [0; 2];
        near.read_exact(&mut both).unwrap();
        assert_eq!(&both, b"xy");

        drop(one);
        assert!(other.receive::<String>().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_full_channel_makes_the_sender_wait_and_loses_nothing() {
        let (one, other) = Way::pair().unwrap();
        let (one, other) = (Channel::new(one).unwrap(), Channel::new(other).unwrap());
        let tail = vec![7; MAX_EARLY_HERE];
        let send = async {
            for number in 0..100_u32 {
                one.send(&number, &tail, None).await.unwrap();
            }
        };
        let receive = async {
            for number in 0..100_u32 {
                let letter: Letter<u32> = other.receive().await.unwrap().unwrap();
                assert_eq!((letter.message, letter.tail.len()), (number, tail.len()));
            }
        };
        tokio::join!(send, receive);
    }

    const MAX_EARLY_HERE: usize = super::super::MAX_EARLY;
}
