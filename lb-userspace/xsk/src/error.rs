//! What can go wrong between a configuration and a bound socket. Called by everything in this package.

use std::io;

/// A system call failed while a socket was made or asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The interface name is empty, longer than 15 bytes, or has a zero byte.
    #[error("interface name {0:?} is not valid: expected 1 to 15 bytes without NUL")]
    InterfaceName(String),
    /// There is no interface of that name in this network namespace.
    #[error("interface {name:?} not found in this network namespace: {source}")]
    InterfaceMissing {
        /// Name as asked for.
        name: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// Frame memory could not be reserved or registered.
    #[error(
        "cannot {step} {bytes} bytes of frame memory: {source}; \
         give the process CAP_IPC_LOCK or LimitMEMLOCK=infinity, or configure fewer frames"
    )]
    Memory {
        /// `map` or `register`.
        step: &'static str,
        /// Size asked for.
        bytes: usize,
        /// What the kernel said.
        source: io::Error,
    },
    /// `socket(AF_XDP)` failed.
    #[error(
        "cannot create an AF_XDP socket: {0}; needs CAP_NET_RAW and a kernel with CONFIG_XDP_SOCKETS"
    )]
    Create(io::Error),
    /// A ring could not be made.
    #[error("cannot {step}: {source}")]
    Ring {
        /// The step that failed.
        step: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// `bind` failed.
    #[error(
        "cannot bind an AF_XDP socket to interface {ifindex} queue {queue}: {source} ({})",
        bind_hint(source)
    )]
    Bind {
        /// Interface index.
        ifindex: u32,
        /// Rx queue.
        queue: u32,
        /// What the kernel said.
        source: io::Error,
    },
    /// The socket for segments that the kernel cuts could not be made.
    #[error("cannot {step} a packet socket: {source}; needs CAP_NET_RAW and CAP_NET_ADMIN")]
    Packet {
        /// The step that failed.
        step: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// A socket option could not be read.
    #[error("cannot read {option}: {source}")]
    Option {
        /// Name of the option.
        option: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

fn bind_hint(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::EINVAL) => "the queue does not exist, or its MTU does not fit a frame",
        Some(libc::EBUSY) => "another AF_XDP socket has this queue: stop the program that holds it",
        Some(libc::EOPNOTSUPP) => "the driver has no zero-copy; use copy or automatic mode",
        Some(libc::ENETDOWN) => "the interface is down",
        _ => "see bind(2)",
    }
}

/// A ring size that the kernel does not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("ring size {0} is not a power of two between 64 and 32768")]
pub struct RingSizeError(pub u32);
