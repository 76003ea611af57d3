//! System calls of the repair mode and of the self-test, with Rust types; nothing here knows what a connection is.
//!
//! JUSTIFICATION, of each block in here: options that neither `std` nor `socket2` have a safe form of.
//!
//! Called by `repaired` and `selftest`.
#![expect(
    unsafe_code,
    reason = "system calls that libc offers only as unsafe functions"
)]

pub(crate) mod bpf;

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use crate::plan::{Negotiated, Windows};

/// Values of `TCP_REPAIR`.
#[derive(Clone, Copy, Debug)]
#[repr(i32)]
pub(crate) enum Repair {
    /// Out of repair, and nobody is asked (`TCP_REPAIR_OFF_NO_WP`, Linux 4.19).
    OffQuietly = -1,
    /// Out of repair: the peer is asked for its window.
    Off = 0,
    /// Into repair: nothing leaves.
    On = 1,
}

/// Values of `TCP_REPAIR_QUEUE`.
#[derive(Clone, Copy, Debug)]
#[repr(i32)]
pub(crate) enum Queue {
    /// Neither.
    None = 0,
    /// What was received.
    Receive = 1,
    /// What is sent.
    Send = 2,
}

/// `TCP_REPAIR`.
pub(crate) fn repair(fd: BorrowedFd<'_>, repair: Repair) -> io::Result<()> {
    set(fd, libc::IPPROTO_TCP, libc::TCP_REPAIR, &(repair as i32))
}

/// `TCP_REPAIR_QUEUE`: which one is meant from now on.
pub(crate) fn choose(fd: BorrowedFd<'_>, queue: Queue) -> io::Result<()> {
    let queue = queue as i32;
    set(fd, libc::IPPROTO_TCP, libc::TCP_REPAIR_QUEUE, &queue)
}

/// `TCP_QUEUE_SEQ` of the chosen queue: the number that comes next.
pub(crate) fn queue_seq(fd: BorrowedFd<'_>, seq: u32) -> io::Result<()> {
    set(fd, libc::IPPROTO_TCP, libc::TCP_QUEUE_SEQ, &seq)
}

/// `TCP_TIMESTAMP`: what our clock shows now.
pub(crate) fn timestamp(fd: BorrowedFd<'_>, clock: u32) -> io::Result<()> {
    set(fd, libc::IPPROTO_TCP, libc::TCP_TIMESTAMP, &clock)
}

/// `TCP_REPAIR_WINDOW`.
pub(crate) fn windows(fd: BorrowedFd<'_>, windows: &Windows) -> io::Result<()> {
    set(fd, libc::IPPROTO_TCP, libc::TCP_REPAIR_WINDOW, windows)
}

/// `TCP_REPAIR_OPTIONS`.
pub(crate) fn options(fd: BorrowedFd<'_>, negotiated: Negotiated) -> io::Result<()> {
    // Kinds of options as on the wire, with values of the kernel's own.
    const MSS: u32 = 2;
    const WINDOW: u32 = 3;
    const SACK_PERMITTED: u32 = 4;
    const TIMESTAMP: u32 = 8;
    let (send, receive) = negotiated.shifts;
    let mut options = vec![
        RepairOption::new(MSS, negotiated.mss.into()),
        RepairOption::new(WINDOW, u32::from(send) | u32::from(receive) << 16),
    ];
    if negotiated.sack {
        options.push(RepairOption::new(SACK_PERMITTED, 0));
    }
    if negotiated.timestamps {
        options.push(RepairOption::new(TIMESTAMP, 0));
    }
    set(
        fd,
        libc::IPPROTO_TCP,
        libc::TCP_REPAIR_OPTIONS,
        options.as_slice(),
    )
}

/// `struct tcp_repair_opt`.
#[repr(C)]
#[derive(Clone, Copy)]
struct RepairOption {
    code: u32,
    value: u32,
}

impl RepairOption {
    const fn new(code: u32, value: u32) -> Self {
        Self { code, value }
    }
}

/// `SO_SNDBUFFORCE`: room for so many bytes, and as much again for what they cost, whatever `wmem_max` says.
pub(crate) fn force_send_buffer(fd: BorrowedFd<'_>, bytes: u32) -> io::Result<()> {
    set(fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &bytes)
}

/// `SO_BUF_LOCK` of nothing: the kernel adapts both buffers again, which a size that was set had ended.
pub(crate) fn unlock_buffers(fd: BorrowedFd<'_>) -> io::Result<()> {
    set(fd, libc::SOL_SOCKET, SO_BUF_LOCK, &0_u32)
}

/// Linux 5.14; libc does not have it for this target.
const SO_BUF_LOCK: i32 = 72;

/// Segments that a connection has received (`tcpi_segs_in` of `TCP_INFO`).
pub(crate) fn segments_in(fd: BorrowedFd<'_>) -> io::Result<u32> {
    // libc's `tcp_info` ends before this field of it, which is its last one here.
    const AT: usize = 140;
    let mut info = [0_u8; AT + 4];
    let mut len = socklen(&info);
    // JUSTIFICATION: as this module says.
    // SAFETY: the kernel writes at most `len` bytes, the length of `info`.
    check(unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut len,
        )
    })?;
    let [.., a, b, c, d] = info;
    Ok(u32::from_ne_bytes([a, b, c, d]))
}

/// `setsockopt` of a value that is made of integers.
fn set<T: Integers + ?Sized>(
    fd: BorrowedFd<'_>,
    level: i32,
    option: i32,
    value: &T,
) -> io::Result<()> {
    let len = socklen(value);
    let value: *const T = value;
    // JUSTIFICATION: as this module says.
    // SAFETY: the kernel reads `len` bytes, the size of what the reference leads to.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, value.cast(), len) })
}

fn check(result: i32) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

fn socklen<T: ?Sized>(value: &T) -> libc::socklen_t {
    // Values here have less than a hundred bytes, and a `TCP_INFO` not many more.
    libc::socklen_t::try_from(size_of_val(value)).unwrap_or(0)
}

/// Types without padding, so that no byte of them is undefined to the kernel that reads them.
trait Integers {}
impl Integers for i32 {}
impl Integers for u32 {}
impl Integers for Windows {}
impl Integers for [RepairOption] {}
