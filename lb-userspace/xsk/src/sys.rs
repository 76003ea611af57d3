//! The system calls of `AF_XDP`, and of the packet socket beside it, with Rust types: nothing here knows about frames or rings' contents.
//!
//! JUSTIFICATION, of each block in here: a system call of which `std` has no safe form. `nix` and `rustix` have some, but none
//! of `SOL_XDP`, of an ioctl of ethtool, or of an empty message; half of the calls by them would save no unsafe module.
//!
//! Called by `socket`, `gso` and `interface`.
#![expect(
    unsafe_code,
    reason = "system calls that libc offers only as unsafe functions"
)]

use std::ffi::CStr;
use std::io::{self, IoSlice};
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

/// A new unbound socket of family `AF_XDP`.
pub(crate) fn socket() -> io::Result<OwnedFd> {
    // JUSTIFICATION: as this module says.
    // SAFETY: no pointers.
    let fd = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // JUSTIFICATION: as this module says.
    // SAFETY: a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Option values: `repr(C)` types made of integers.
///
/// # Safety
/// Every bit pattern, all zeroes too, must be a valid value.
pub(crate) unsafe trait OptionValue: Copy {}
// JUSTIFICATION, of this and the next: `get` makes values out of what the kernel wrote, which only their implementer can allow.
// SAFETY: integers.
unsafe impl OptionValue for u32 {}
// SAFETY: a `repr(C)` struct of integers.
unsafe impl OptionValue for libc::xdp_umem_reg {}
// SAFETY: a `repr(C)` struct of integers.
unsafe impl OptionValue for libc::xdp_mmap_offsets {}
// SAFETY: a `repr(C)` struct of integers.
unsafe impl OptionValue for libc::xdp_statistics {}
// SAFETY: a `repr(C)` struct of integers.
unsafe impl OptionValue for libc::xdp_options {}

/// `setsockopt(SOL_XDP)`.
pub(crate) fn set<T: OptionValue>(fd: BorrowedFd<'_>, option: i32, value: &T) -> io::Result<()> {
    set_at(fd, libc::SOL_XDP, option, value)
}

/// `setsockopt`.
pub(crate) fn set_at<T: OptionValue>(
    fd: BorrowedFd<'_>,
    level: i32,
    option: i32,
    value: &T,
) -> io::Result<()> {
    // JUSTIFICATION: as this module says.
    // SAFETY: the kernel reads `size_of::<T>()` bytes from a valid reference.
    check(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            option,
            ptr::from_ref(value).cast(),
            socklen::<T>(),
        )
    })
}

/// `getsockopt(SOL_XDP)`. Fields that an older kernel doesn't know are zero.
pub(crate) fn get<T: OptionValue>(fd: BorrowedFd<'_>, option: i32) -> io::Result<T> {
    let mut value = MaybeUninit::<T>::zeroed();
    let mut len = socklen::<T>();
    // JUSTIFICATION: as this module says.
    // SAFETY: the kernel writes at most `len` bytes, which is the size of `value`.
    check(unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_XDP,
            option,
            value.as_mut_ptr().cast(),
            &raw mut len,
        )
    })?;
    // JUSTIFICATION: as this module says.
    // SAFETY: zeroed, then written by the kernel; valid by the contract of `OptionValue`.
    Ok(unsafe { value.assume_init() })
}

/// Registers frame memory. `umem.addr` must lead to memory that outlives the socket's use of it.
pub(crate) fn register(fd: BorrowedFd<'_>, umem: &libc::xdp_umem_reg) -> io::Result<()> {
    set(fd, libc::XDP_UMEM_REG, umem)
}

/// `XDP_MAX_TX_SKB_BUDGET` (Linux 6.18): packets that one call sends at most in copy mode. libc does not have it yet.
pub(crate) const TX_BUDGET: i32 = 9;

/// `bind` to one queue.
pub(crate) fn bind(fd: BorrowedFd<'_>, ifindex: u32, queue: u32, flags: u16) -> io::Result<()> {
    let address = libc::sockaddr_xdp {
        sxdp_family: FAMILY,
        sxdp_flags: flags,
        sxdp_ifindex: ifindex,
        sxdp_queue_id: queue,
        sxdp_shared_umem_fd: 0,
    };
    let len = socklen::<libc::sockaddr_xdp>();
    // JUSTIFICATION: as this module says.
    // SAFETY: the kernel reads `len` bytes from a valid address structure.
    check(unsafe { libc::bind(fd.as_raw_fd(), ptr::from_ref(&address).cast(), len) })
}

/// A new packet socket that receives nothing.
pub(crate) fn packet_socket() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // JUSTIFICATION: as this module says.
    // SAFETY: no pointers.
    let fd = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // JUSTIFICATION: as this module says.
    // SAFETY: a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `bind` of a packet socket to one interface, and to no protocol.
pub(crate) fn bind_packet(fd: BorrowedFd<'_>, ifindex: u32) -> io::Result<()> {
    // JUSTIFICATION: as this module says.
    // SAFETY: all-zero bytes are a valid `sockaddr_ll`.
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    address.sll_family = PACKET_FAMILY;
    address.sll_ifindex = ifindex.cast_signed();
    let len = socklen::<libc::sockaddr_ll>();
    // JUSTIFICATION: as this module says.
    // SAFETY: the kernel reads `len` bytes from a valid address structure.
    check(unsafe { libc::bind(fd.as_raw_fd(), ptr::from_ref(&address).cast(), len) })
}

/// Sends one message, whole or not at all.
pub(crate) fn send_message(fd: BorrowedFd<'_>, parts: &[IoSlice<'_>]) -> io::Result<()> {
    // JUSTIFICATION: as this module says.
    // SAFETY: all-zero bytes are a valid `msghdr`: no name, no control data, no parts.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    // An `IoSlice` has the layout of `iovec` (std promises it); the kernel only reads through this pointer.
    message.msg_iov = parts.as_ptr().cast::<libc::iovec>().cast_mut();
    message.msg_iovlen = parts.len();
    // JUSTIFICATION: as this module says.
    // SAFETY: the parts live, and are only read, until the call returns.
    let sent = unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const message, libc::MSG_DONTWAIT) };
    if sent < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Asks the kernel to work on the tx ring.
pub(crate) fn kick_tx(fd: BorrowedFd<'_>) -> io::Result<()> {
    // JUSTIFICATION: as this module says.
    // SAFETY: an empty message: no memory is read.
    let sent = unsafe {
        libc::sendto(
            fd.as_raw_fd(),
            ptr::null(),
            0,
            libc::MSG_DONTWAIT,
            ptr::null(),
            0,
        )
    };
    if sent < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Asks the driver to take frames from the fill ring.
pub(crate) fn kick_rx(fd: BorrowedFd<'_>) -> io::Result<()> {
    // JUSTIFICATION: as this module says.
    // SAFETY: an empty buffer: no memory is written.
    let got = unsafe {
        libc::recvfrom(
            fd.as_raw_fd(),
            ptr::null_mut(),
            0,
            libc::MSG_DONTWAIT,
            ptr::null_mut(),
            ptr::null_mut(),
        )
    };
    if got < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// `if_nametoindex`.
pub(crate) fn name_to_index(name: &CStr) -> io::Result<u32> {
    // JUSTIFICATION: as this module says.
    // SAFETY: a valid C string.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}

/// `struct ethtool_channels` of `linux/ethtool.h`.
#[repr(C)]
#[derive(Default)]
pub(crate) struct Channels {
    cmd: u32,
    max_rx: u32,
    max_tx: u32,
    max_other: u32,
    max_combined: u32,
    pub(crate) rx: u32,
    tx: u32,
    other: u32,
    pub(crate) combined: u32,
}

/// `ETHTOOL_GCHANNELS`.
pub(crate) fn channels(name: &CStr) -> io::Result<Channels> {
    let mut channels = Channels {
        cmd: 0x3c,
        ..Channels::default()
    };
    ethtool(name, &mut channels)?;
    Ok(channels)
}

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    cmd: u32,
    data: u32,
}

/// `ETHTOOL_GFLAGS`: bits `ETH_FLAG_*`.
pub(crate) fn flags(name: &CStr) -> io::Result<u32> {
    let mut flags = Value { cmd: 0x25, data: 0 };
    ethtool(name, &mut flags)?;
    Ok(flags.data)
}

/// What an ethtool command reads and writes: starts with its number, and is all integers.
trait Command {}
impl Command for Channels {}
impl Command for Value {}

fn ethtool(name: &CStr, command: &mut impl Command) -> io::Result<()> {
    const SIOCETHTOOL: libc::Ioctl = 0x8946;
    // JUSTIFICATION: as this module says.
    // SAFETY: no pointers.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // JUSTIFICATION: as this module says.
    // SAFETY: a new descriptor that nobody else owns.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // JUSTIFICATION: as this module says.
    // SAFETY: all-zero bytes are a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    // One byte stays zero, so that the name ends; `zip` stops at the shorter one.
    let room = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name[..room].iter_mut().zip(name.to_bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_data = ptr::from_mut(command).cast();
    // JUSTIFICATION: as this module says.
    // SAFETY: the kernel reads and writes one structure of the command's behind `ifru_data`; each type that implements
    // `Command` is made by this module with the number of the command that it belongs to.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), SIOCETHTOOL, &raw mut request) })
}

fn check(result: i32) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the constant is 44")]
const FAMILY: libc::sa_family_t = libc::AF_XDP as libc::sa_family_t;

#[expect(clippy::cast_possible_truncation, reason = "the constant is 17")]
const PACKET_FAMILY: libc::sa_family_t = libc::AF_PACKET as libc::sa_family_t;

#[expect(
    clippy::cast_possible_truncation,
    reason = "the types here are below 100 bytes"
)]
fn socklen<T>() -> libc::socklen_t {
    size_of::<T>() as libc::socklen_t
}
