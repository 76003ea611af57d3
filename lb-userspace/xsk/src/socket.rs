//! Making, binding and flushing a socket.
//!
//! Order matters to the kernel: frame memory, ring sizes, mappings, frames into the fill ring, and `bind` last.
//! Called by the control plane (`bind`, statistics) and by the worker that owns the socket (everything else).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use crate::error::{Error, RingSizeError};
use crate::gso::{Cut, Cutter};
use crate::mapping::Mapping;
use crate::receive::Receiver;
use crate::ring::{BadLayout, Consumer, Entry, Offsets, Producer};
use crate::sys;
use crate::transmit::Transmitter;
use crate::{CHUNK_SIZE, FRAME_SIZE};

/// Entries of a ring, and frames that circulate on it: a power of two from 64 to 32768.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingSize(u32);

impl RingSize {
    /// 4096 entries: 8 MiB of frames, 3.3 ms of minimal packets at 1.2 million a second.
    pub const DEFAULT: Self = Self(4096);

    /// Number of entries.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for RingSize {
    type Error = RingSizeError;

    fn try_from(size: u32) -> Result<Self, RingSizeError> {
        if size.is_power_of_two() && (64..=32768).contains(&size) {
            Ok(Self(size))
        } else {
            Err(RingSizeError(size))
        }
    }
}

/// What to ask the driver for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BindMode {
    /// Zero-copy if the driver has it, else copy. [`Socket::data_path`] says which.
    #[default]
    Auto,
    /// Copy mode, even if the driver could do better.
    Copy,
    /// Zero-copy, or an error.
    ZeroCopy,
}

/// How frames move between the driver and us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataPath {
    /// The kernel copies each packet. The only way on virtual Ethernet pairs.
    Copy,
    /// The device reads and writes our frames.
    ZeroCopy,
}

/// Where and how to bind.
#[derive(Clone, Copy, Debug)]
pub struct SocketConfig {
    /// Index from [`interface_index`](crate::interface_index).
    pub ifindex: u32,
    /// Rx queue, below [`queue_count`](crate::queue_count).
    pub queue: u32,
    /// Frames for receiving.
    pub rx: RingSize,
    /// Frames for sending.
    pub tx: RingSize,
    /// Copy or zero-copy.
    pub mode: BindMode,
    /// Whether a packet socket stands beside, for segments that the kernel cuts. False: it sends by a tx queue of the kernel's choice,
    /// and there are devices that let a flow's next frames arrive by the queue of that number, where `queue`'s owner never sees them.
    pub cuts: bool,
}

impl SocketConfig {
    /// Default sizes and mode for one queue.
    pub fn new(ifindex: u32, queue: u32) -> Self {
        let (rx, tx) = (RingSize::DEFAULT, RingSize::DEFAULT);
        Self {
            ifindex,
            queue,
            rx,
            tx,
            mode: BindMode::Auto,
            cuts: false,
        }
    }
}

/// Result of [`Socket::flush`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "packets may wait for another flush"]
pub enum Flushed {
    /// The kernel has taken everything, or will without being asked again.
    Done,
    /// The kernel was busy. Nothing is lost: flush again in a moment (a millisecond is fine).
    Later,
}

/// `XDP_STATISTICS`: packets that the kernel could not give us or take from us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Received packets dropped for other reasons (too large for a frame, for example).
    pub rx_dropped: u64,
    /// Received packets dropped because the rx ring was full.
    pub rx_ring_full: u64,
    /// Times the driver found the fill ring empty.
    pub rx_fill_ring_empty: u64,
    /// Descriptors from us that the kernel refused while receiving.
    pub rx_invalid: u64,
    /// Descriptors from us that the kernel refused while sending.
    pub tx_invalid: u64,
    /// Times the kernel found the tx ring empty.
    pub tx_ring_empty: u64,
}

/// An `AF_XDP` socket bound to one queue of one interface.
///
/// `Send`, so that the control plane can bind and a worker thread can use it.
#[derive(Debug)]
pub struct Socket {
    // Fields drop in this order; the socket closes before the frame memory goes.
    fd: Arc<OwnedFd>,
    receiver: Receiver,
    transmitter: Transmitter,
    ifindex: u32,
    queue: u32,
    data_path: DataPath,
    tx_budget: u32,
    tx_calls: u64,
    cutter: Option<Cutter>,
}

impl Socket {
    /// Makes a socket with its own frame memory and binds it.
    ///
    /// Waits up to half a second for a queue that is busy, because a socket that has just closed frees its
    /// own only then.
    ///
    /// No packet arrives before the descriptor is in the `XSKMAP` of the interface's XDP program.
    pub fn bind(config: &SocketConfig) -> Result<Self, Error> {
        let fd = Arc::new(sys::socket().map_err(Error::Create)?);
        let (rx, tx) = (config.rx.get(), config.tx.get());
        let frames = Arc::new(register_frames(fd.as_fd(), rx + tx)?);
        // Twice the frames: the kernel shows what it received before it says which entries of the fill ring it has taken
        // (`xsk_flush`), so a frame can come back while its old entry still counts.
        let fill = 2 * rx;
        let sizes = [
            ("set the fill ring's size", libc::XDP_UMEM_FILL_RING, fill),
            (
                "set the completion ring's size",
                libc::XDP_UMEM_COMPLETION_RING,
                tx,
            ),
            ("set the rx ring's size", libc::XDP_RX_RING, rx),
            ("set the tx ring's size", libc::XDP_TX_RING, tx),
        ];
        for (step, option, size) in sizes {
            sys::set(fd.as_fd(), option, &size).map_err(|source| Error::Ring { step, source })?;
        }
        let tx_budget = raise_tx_budget(fd.as_fd(), tx);
        let at: libc::xdp_mmap_offsets =
            option(fd.as_fd(), "XDP_MMAP_OFFSETS", libc::XDP_MMAP_OFFSETS)?;
        let fill_at = (&at.fr, libc::XDP_UMEM_PGOFF_FILL_RING);
        let completion_at = (&at.cr, libc::XDP_UMEM_PGOFF_COMPLETION_RING);
        let rx_at = (&at.rx, libc::XDP_PGOFF_RX_RING.cast_unsigned());
        let tx_at = (&at.tx, libc::XDP_PGOFF_TX_RING.cast_unsigned());
        let mut receiver = Receiver::new(
            map_ring::<u64, _>(fd.as_fd(), fill_at, fill, Producer::new)?,
            map_ring::<libc::xdp_desc, _>(fd.as_fd(), rx_at, rx, Consumer::new)?,
            Arc::clone(&frames),
            rx,
        );
        let transmitter = Transmitter::new(
            map_ring::<libc::xdp_desc, _>(fd.as_fd(), tx_at, tx, Producer::new)?,
            map_ring::<u64, _>(fd.as_fd(), completion_at, tx, Consumer::new)?,
            frames,
            rx,
            tx,
        );
        let data_path = bind(fd.as_fd(), config)?;
        if data_path == DataPath::Copy {
            receiver.economize();
        }
        let cutter = config
            .cuts
            .then(|| Cutter::open(config.ifindex))
            .transpose()?;
        let (ifindex, queue) = (config.ifindex, config.queue);
        Ok(Self {
            fd,
            receiver,
            transmitter,
            ifindex,
            queue,
            data_path,
            tx_budget,
            tx_calls: 0,
            cutter,
        })
    }

    /// Both halves, to send while a received packet is still borrowed.
    pub fn split(&mut self) -> (&mut Receiver, &mut Transmitter) {
        (&mut self.receiver, &mut self.transmitter)
    }

    /// Makes everything visible to the kernel: sent packets, freed rx frames; takes back sent frames.
    /// Once per burst is right: in copy mode each call with queued packets is at least one system call.
    ///
    /// # Errors
    /// Only what another try can't mend, `ENETDOWN` or `ENXIO` for example.
    pub fn flush(&mut self) -> io::Result<Flushed> {
        self.receiver.commit();
        if self.receiver.fill.needs_wakeup() {
            sys::kick_rx(self.fd.as_fd()).or_else(ignore_busy)?;
        }
        self.transmitter.tx.publish();
        let result = self.kick();
        self.transmitter.reap();
        result
    }

    /// Copy mode sends its budget a call and then says `EAGAIN`, so as long as calls make progress they
    /// are repeated. A driver that sends by itself (zero-copy) needs one call at most.
    fn kick(&mut self) -> io::Result<Flushed> {
        loop {
            let pending = self.transmitter.tx.pending();
            if pending == 0 || !self.transmitter.tx.needs_wakeup() {
                return Ok(Flushed::Done);
            }
            self.tx_calls += 1;
            match sys::kick_tx(self.fd.as_fd()) {
                Ok(()) if self.data_path == DataPath::ZeroCopy => return Ok(Flushed::Done),
                Ok(()) => {}
                Err(error) => ignore_busy(error)?,
            }
            if self.transmitter.tx.pending() == pending {
                return Ok(Flushed::Later);
            }
        }
    }

    /// Whether [`send_cut`](Self::send_cut) has a way.
    pub fn cuts(&self) -> bool {
        self.cutter.is_some()
    }

    /// Sends a frame that is too large for the wire, for the kernel to cut: `head` is all of its headers, the TCP checksum being the sum
    /// of the pseudo-header. If it is [`Flushed::Later`], nothing was sent. It overtakes what was not flushed yet.
    ///
    /// # Errors
    /// What another try can't mend, and `Unsupported` if the socket was bound without that way.
    pub fn send_cut(&self, head: &[u8], payload: &[u8], cut: Cut) -> io::Result<Flushed> {
        match &self.cutter {
            Some(cutter) => cutter.send(head, payload, cut),
            None => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// How frames move, as the kernel decided at bind.
    pub fn data_path(&self) -> DataPath {
        self.data_path
    }

    /// Packets that one call to the kernel sends at most, in copy mode.
    pub fn tx_budget(&self) -> u32 {
        self.tx_budget
    }

    /// Calls to the kernel that asked it to send, since bind.
    pub fn tx_calls(&self) -> u64 {
        self.tx_calls
    }

    /// Interface that the socket is bound to.
    pub fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// Rx queue that the socket is bound to.
    pub fn queue(&self) -> u32 {
        self.queue
    }

    /// Access to the statistics from another thread, while this one works with the socket.
    pub fn statistics(&self) -> StatisticsReader {
        StatisticsReader {
            fd: Arc::downgrade(&self.fd),
            ifindex: self.ifindex,
            queue: self.queue,
        }
    }
}

/// Reads the statistics of a [`Socket`] without keeping it open.
#[derive(Clone, Debug)]
pub struct StatisticsReader {
    fd: Weak<OwnedFd>,
    ifindex: u32,
    queue: u32,
}

impl StatisticsReader {
    /// What the kernel dropped since bind; `None` after the socket was closed.
    pub fn read(&self) -> Result<Option<Statistics>, Error> {
        let Some(fd) = self.fd.upgrade() else {
            return Ok(None);
        };
        let raw: libc::xdp_statistics = option(fd.as_fd(), "XDP_STATISTICS", libc::XDP_STATISTICS)?;
        Ok(Some(Statistics {
            rx_dropped: raw.rx_dropped,
            rx_ring_full: raw.rx_ring_full,
            rx_fill_ring_empty: raw.rx_fill_ring_empty_descs,
            rx_invalid: raw.rx_invalid_descs,
            tx_invalid: raw.tx_invalid_descs,
            tx_ring_empty: raw.tx_ring_empty_descs,
        }))
    }

    /// Interface of the socket.
    pub fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// Rx queue of the socket.
    pub fn queue(&self) -> u32 {
        self.queue
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

fn register_frames(fd: BorrowedFd<'_>, count: u32) -> Result<Mapping, Error> {
    let bytes = count as usize * FRAME_SIZE;
    let memory = |step| {
        move |source| Error::Memory {
            step,
            bytes,
            source,
        }
    };
    let frames = Mapping::anonymous(bytes).map_err(memory("map"))?;
    let umem = libc::xdp_umem_reg {
        addr: frames.start().as_ptr().addr() as u64,
        len: bytes as u64,
        chunk_size: CHUNK_SIZE,
        headroom: 0,
        flags: 0,
        tx_metadata_len: 0,
    };
    sys::register(fd, &umem).map_err(memory("register"))?;
    Ok(frames)
}

/// Packets a call, where nothing else was asked for (`TX_BATCH_SIZE` in `net/xdp/xsk.c`).
const TX_BUDGET_DEFAULT: u32 = 32;

/// Lets one call send all that the ring can hold. A kernel that doesn't know the option, or finds the number too high,
/// keeps its default, with which the same packets take more calls.
fn raise_tx_budget(fd: BorrowedFd<'_>, tx: u32) -> u32 {
    match sys::set(fd, sys::TX_BUDGET, &tx) {
        Ok(()) => tx,
        Err(_) => TX_BUDGET_DEFAULT,
    }
}

/// The kernel frees the queue of a closed socket in the background (`xp_release_deferred`), so a daemon
/// that restarts at once may find it taken by its predecessor. Half a second in all.
const BUSY_TRIES: u32 = 25;
const BUSY_PAUSE: Duration = Duration::from_millis(20);

fn bind(fd: BorrowedFd<'_>, config: &SocketConfig) -> Result<DataPath, Error> {
    let mode = match config.mode {
        BindMode::Auto => 0,
        BindMode::Copy => libc::XDP_COPY,
        BindMode::ZeroCopy => libc::XDP_ZEROCOPY,
    };
    let (ifindex, queue) = (config.ifindex, config.queue);
    let bind = || sys::bind(fd, ifindex, queue, mode | libc::XDP_USE_NEED_WAKEUP);
    let is_busy = |error: &io::Error| error.raw_os_error() == Some(libc::EBUSY);
    let mut result = bind();
    for _ in 0..BUSY_TRIES {
        if !result.as_ref().is_err_and(is_busy) {
            break;
        }
        thread::sleep(BUSY_PAUSE);
        result = bind();
    }
    result.map_err(|source| Error::Bind {
        ifindex,
        queue,
        source,
    })?;
    // Without a mode flag the kernel falls back to copying silently, so ask what it did.
    let options: libc::xdp_options = option(fd, "XDP_OPTIONS", libc::XDP_OPTIONS)?;
    let zero_copy = options.flags & libc::XDP_OPTIONS_ZEROCOPY != 0;
    Ok(if zero_copy {
        DataPath::ZeroCopy
    } else {
        DataPath::Copy
    })
}

/// Maps a ring of entries `T` and makes it our side's view, [`Producer::new`] or [`Consumer::new`].
fn map_ring<T: Entry, R>(
    fd: BorrowedFd<'_>,
    (at, page): (&libc::xdp_ring_offset, u64),
    size: u32,
    view: fn(Arc<Mapping>, Offsets, u32) -> Result<R, BadLayout>,
) -> Result<R, Error> {
    let error = |source| Error::Ring {
        step: "map a ring",
        source,
    };
    let index = |offset: u64| usize::try_from(offset).map_err(|e| error(io::Error::other(e)));
    let at = Offsets {
        producer: index(at.producer)?,
        consumer: index(at.consumer)?,
        flags: index(at.flags)?,
        entries: index(at.desc)?,
    };
    let len = at.entries + size as usize * size_of::<T>();
    let mapping = Mapping::ring(fd, len, page.cast_signed()).map_err(error)?;
    view(Arc::new(mapping), at, size)
        .map_err(|BadLayout| error(io::Error::other("the kernel's ring offsets make no sense")))
}

fn option<T: sys::OptionValue>(
    fd: BorrowedFd<'_>,
    option: &'static str,
    number: i32,
) -> Result<T, Error> {
    sys::get(fd, number).map_err(|source| Error::Option { option, source })
}

/// Not an error of the socket: the budget of a call is used up or the device's queue is full (`EAGAIN`), memory is
/// short (`ENOBUFS`), and the packets are still in the ring; or the device dropped one as networks do (`EBUSY`), and
/// those behind it are still there.
fn ignore_busy(error: io::Error) -> io::Result<()> {
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::EBUSY | libc::ENOBUFS) => Ok(()),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ring_sizes_are_powers_of_two_within_bounds() {
        for size in [64, 128, 4096, 32768] {
            assert_eq!(RingSize::try_from(size).map(RingSize::get), Ok(size));
        }
        for size in [0, 1, 32, 65, 4095, 65536, u32::MAX] {
            assert_eq!(RingSize::try_from(size), Err(RingSizeError(size)));
        }
    }

    #[test]
    fn only_busy_errors_are_retried() {
        let check = |errno, ignored| {
            let result = ignore_busy(io::Error::from_raw_os_error(errno));
            assert_eq!(result.is_ok(), ignored, "{errno}");
        };
        check(libc::EAGAIN, true);
        check(libc::EBUSY, true);
        check(libc::ENOBUFS, true);
        check(libc::ENETDOWN, false);
        check(libc::EINVAL, false);
    }
}
