//! Why connections of a service can't live on the kernel's TCP, in words for an operator: what is wrong, and what helps.

use std::io;
use std::net::{IpAddr, SocketAddr};

use super::SelfTest;
use super::kernel::{self, Drops};
use crate::MoveError;
use crate::error::Step;

/// Why connections of a service can't live on the kernel's TCP.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    /// The service's address is not one of this host.
    #[error(
        "{0} is not an address of this host, so its TCP can't have it: add it to an interface, or `ip route add local {0} dev lo`"
    )]
    NotLocal(IpAddr),
    /// A capability is missing.
    #[error(
        "{what} is not permitted: connections can move with CAP_NET_ADMIN, CAP_NET_RAW and CAP_BPF"
    )]
    NotPermitted {
        /// What was tried.
        what: String,
    },
    /// Reverse path filtering dropped the segment.
    #[error(
        "reverse path filtering drops packets for {listen} that come in by {interface} (rp_filter is {of_all} for all interfaces and \
         {of_interface} for this one): the route to clients leaves by another interface; set both to 2 or 0"
    )]
    ReversePath {
        /// The service's address.
        listen: SocketAddr,
        /// Where its packets come in.
        interface: String,
        /// `net.ipv4.conf.all.rp_filter`.
        of_all: String,
        /// `net.ipv4.conf.INTERFACE.rp_filter`.
        of_interface: String,
    },
    /// Connection tracking did not see the connection begin, and a rule drops it for that.
    #[error(
        "connection tracking takes the moved connection for invalid, which it has not seen begin (nf_conntrack_tcp_loose is 0), and a \
         rule drops it: exempt the service, `{family} daddr {ip} tcp dport {port} notrack` in a prerouting chain and `{family} saddr {ip} tcp \
         sport {port} notrack` in an output chain, both of priority raw; or set net.netfilter.nf_conntrack_tcp_loose to 1",
        ip = listen.ip(),
        port = listen.port(),
        family = if listen.is_ipv4() { "ip" } else { "ip6" },
    )]
    ConntrackStrict {
        /// The service's address.
        listen: SocketAddr,
    },
    /// Something else dropped the segment.
    #[error(
        "packets for {listen} that come in by {interface} don't reach this host's TCP: look for a rule of netfilter (ingress, prerouting, \
         input) or of tc that drops them"
    )]
    Dropped {
        /// The service's address.
        listen: SocketAddr,
        /// Where its packets come in.
        interface: String,
    },
    /// A segment that was given back to the kernel is dropped on its way.
    #[error(
        "packets for {listen} that lb gives back to the kernel don't reach its TCP: they pass netfilter's output, and prerouting and input of \
         lo, from the client's address; look for a rule there that drops them"
    )]
    NotReinjected {
        /// The service's address.
        listen: SocketAddr,
    },
    /// The kernel can't be made to receive a frame.
    #[error("this kernel can't receive a test frame (BPF_F_TEST_XDP_LIVE_FRAMES, Linux 5.18): {0}")]
    NoLiveFrames(io::Error),
    /// The interface has no Ethernet address, or is gone.
    #[error("{interface} has no Ethernet address")]
    NotEthernet {
        /// Its name.
        interface: String,
    },
    /// The host's addresses or routes could not be read, or a packet not be given to it.
    #[error("the host's network: {0}")]
    Network(io::Error),
    /// A socket in repair could not be made.
    #[error(transparent)]
    Move(MoveError),
}

impl Reason {
    pub(super) fn of_move(test: &SelfTest, error: MoveError) -> Self {
        match (error.step, error.source.raw_os_error()) {
            (Step::Bind, Some(libc::EADDRNOTAVAIL)) => Self::NotLocal(test.listen.ip()),
            (_, Some(libc::EPERM | libc::EACCES)) => Self::NotPermitted {
                what: error.step.to_string(),
            },
            _ => Self::Move(error),
        }
    }

    pub(super) fn of_raw_socket(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::NotPermitted {
                what: "opening a raw socket".to_owned(),
            },
            _ => Self::Network(error),
        }
    }

    pub(super) fn of_injection(test: &SelfTest, error: io::Error) -> Self {
        match error.raw_os_error() {
            // Netfilter's verdict on output, as the sender sees it.
            Some(libc::EPERM) => Self::NotReinjected {
                listen: test.listen,
            },
            _ => Self::Network(error),
        }
    }

    pub(super) fn of_bpf(error: io::Error, doing: &str) -> Self {
        match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::NotPermitted {
                what: format!("{doing} a BPF program"),
            },
            _ => Self::NoLiveFrames(error),
        }
    }

    /// The segment did not arrive; what the kernel has counted meanwhile says why.
    pub(super) fn of_drops(test: &SelfTest, before: &Drops, after: &Drops) -> Self {
        let listen = test.listen;
        let interface = test.interface_name.clone();
        if after.by_reverse_path > before.by_reverse_path {
            return Self::ReversePath {
                listen,
                of_all: kernel::rp_filter("all"),
                of_interface: kernel::rp_filter(&interface),
                interface,
            };
        }
        // Where the kernel doesn't count them, that it may is enough.
        let counted = before.invalid.zip(after.invalid);
        if kernel::conntrack_is_strict() && counted.is_none_or(|(before, after)| after > before) {
            return Self::ConntrackStrict { listen };
        }
        Self::Dropped { listen, interface }
    }
}
