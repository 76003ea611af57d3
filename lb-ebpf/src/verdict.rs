//! What becomes of a packet, and why.
//!
//! Every packet gets exactly one [`Reason`], and every reason is an index of the map `COUNTERS`: the
//! sum of the counters is the number of packets seen. The names are an interface: userspace prints
//! them, and dashboards keep them. Add at the end, never rename.

/// What the program does with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Up to the kernel's stack, unchanged.
    Pass(Reason),
    /// Gone.
    Drop(Reason),
    /// Rewritten, out of the interface it came from.
    Transmit,
    /// Rewritten, out of another interface.
    Redirect {
        /// Kernel index of that interface.
        ifindex: u32,
    },
    /// Unchanged, to the `AF_XDP` socket of a worker; [`without_worker`](Self::without_worker) if there is none.
    Worker {
        /// Slot in map `XSKS`.
        slot: u32,
        /// What becomes of it without that socket.
        part: Part,
    },
    /// Made into an error message to its sender, out of the interface it came from.
    Answer(Reason),
    /// Not decided yet: to another program of ours.
    Continue(Stage),
}

/// What a packet for a worker is. As wide as its neighbour in [`Verdict`]: LLVM copies padding in pieces that the verifier finds
/// misaligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Part {
    /// It asks for a connection.
    Opening,
    /// It is of a connection, or about one.
    Connection,
}

/// A program that takes over by tail call; the slot in map `PROGRAMS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Stage {
    /// Plain IPv6.
    Ipv6,
    /// Answers a packet that does not fit into its tunnel.
    TooBig,
    /// As [`TooBig`](Self::TooBig), over IPv6.
    TooBig6,
    /// Lowers the MSS in a SYN.
    Mss,
    /// As [`Mss`](Self::Mss), over IPv6.
    Mss6,
    /// A packet for us that belongs to no flow: opens one.
    Open,
    /// As [`Open`](Self::Open), over IPv6.
    Open6,
    /// A packet for us while userspace is gone: leaves it to the stack, or sends it back.
    Orphaned,
    /// As [`Orphaned`](Self::Orphaned), over IPv6.
    Orphaned6,
    /// Plain IPv4, where every packet enters.
    Ipv4,
    /// Tags, options, fragments, several buffers.
    Extended,
    /// As [`Extended`](Self::Extended), over IPv6.
    Extended6,
    /// A packet of which is known how it leaves: rewrites it.
    Leave,
    /// As [`Leave`](Self::Leave), over IPv6.
    Leave6,
    /// ICMP: errors go to whom they are about.
    Icmp,
    /// As [`Icmp`](Self::Icmp), over IPv6.
    Icmp6,
    /// Tells a client that there is no way to a server for it.
    Refuse,
    /// As [`Refuse`](Self::Refuse), over IPv6.
    Refuse6,
    /// A plain packet for us that opens a flow, if there is none; leaves to [`Open`](Self::Open) what is not as usual.
    New,
}

impl Stage {
    /// All stages, in the order of their slots.
    pub const ALL: &[Self] = &[
        Self::Ipv6,
        Self::TooBig,
        Self::TooBig6,
        Self::Mss,
        Self::Mss6,
        Self::Open,
        Self::Open6,
        Self::Orphaned,
        Self::Orphaned6,
        Self::Ipv4,
        Self::Extended,
        Self::Extended6,
        Self::Leave,
        Self::Leave6,
        Self::Icmp,
        Self::Icmp6,
        Self::Refuse,
        Self::Refuse6,
        Self::New,
    ];

    /// Name of the program in the object.
    pub const fn program(self) -> &'static str {
        match self {
            Self::Ipv6 => "lb_xdp_ipv6",
            Self::TooBig => "lb_xdp_too_big",
            Self::TooBig6 => "lb_xdp_too_big6",
            Self::Mss => "lb_xdp_mss",
            Self::Mss6 => "lb_xdp_mss6",
            Self::Open => "lb_xdp_open",
            Self::Open6 => "lb_xdp_open6",
            Self::Orphaned => "lb_xdp_orphaned",
            Self::Orphaned6 => "lb_xdp_orphaned6",
            Self::Ipv4 => "lb_xdp",
            Self::Extended => "lb_xdp_extended",
            Self::Extended6 => "lb_xdp_extended6",
            Self::Leave => "lb_xdp_leave",
            Self::Leave6 => "lb_xdp_leave6",
            Self::Icmp => "lb_xdp_icmp",
            Self::Icmp6 => "lb_xdp_icmp6",
            Self::Refuse => "lb_xdp_refuse",
            Self::Refuse6 => "lb_xdp_refuse6",
            Self::New => "lb_xdp_new",
        }
    }

    /// Why a packet is passed if the slot is empty.
    #[inline(always)]
    pub const fn unloaded(self) -> Reason {
        match self {
            Self::Ipv6 => Reason::Ipv6,
            Self::TooBig | Self::TooBig6 => Reason::TooBigUnanswered,
            Self::Icmp | Self::Icmp6 => Reason::Icmp,
            Self::Mss
            | Self::Mss6
            | Self::Open
            | Self::Open6
            | Self::Orphaned
            | Self::Orphaned6
            | Self::Ipv4
            | Self::Extended
            | Self::Extended6
            | Self::Leave
            | Self::Leave6
            | Self::Refuse
            | Self::Refuse6
            | Self::New => Reason::StageMissing,
        }
    }
}

impl Verdict {
    /// The counter of this verdict.
    #[inline(always)]
    pub fn reason(self) -> Reason {
        match self {
            Self::Pass(reason) | Self::Drop(reason) | Self::Answer(reason) => reason,
            Self::Transmit | Self::Redirect { .. } => Reason::Forwarded,
            Self::Worker { .. } => Reason::ToWorker,
            Self::Continue(stage) => stage.unloaded(),
        }
    }

    /// What becomes of a packet for a worker whose socket is gone: it crashed, or its daemon is being replaced. Who asks for a new
    /// connection asks again, and finds the next worker. Any other packet is of a connection that died with the worker: the stack,
    /// which has no such connection, answers with RST, and nobody waits at a silent port.
    #[inline(always)]
    #[must_use]
    pub fn without_worker(self) -> Self {
        match self {
            Self::Worker { part, .. } => match part {
                Part::Opening => Self::Drop(Reason::NoWorker),
                Part::Connection => Self::Pass(Reason::WorkerGone),
            },
            other => other,
        }
    }
}

macro_rules! reasons {
    ($($variant:ident $name:literal $explanation:literal)*) => {
        /// Why a packet got its verdict; also the index of its counter.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u32)]
        pub enum Reason {
            $(#[doc = $explanation] $variant,)*
        }

        impl Reason {
            /// All reasons, in the order of their counters.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The stable name, in snake case.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// One sentence for a person who wonders why the counter rises.
            pub const fn explanation(self) -> &'static str {
                match self { $(Self::$variant => $explanation,)* }
            }
        }
    };
}

reasons! {
    Forwarded "forwarded" "Rewritten and sent on, to a server or back to a client."
    ToWorker "to_worker" "Handed to the worker of the receive queue; dropped by the kernel if its socket is gone."
    NotReady "not_ready" "Passed, because userspace has not written the settings yet."
    Malformed "malformed" "Passed for the stack to reject: a length in a header contradicts another or the frame."
    OtherEthertype "other_ethertype" "Passed: neither IP nor ARP nor a VLAN tag."
    Arp "arp" "Passed: the kernel answers ARP for all addresses, ours included."
    Vlan "vlan" "Passed: of a VLAN that this host has no device for, or with more than two tags."
    Ipv6 "ipv6" "Passed: the program for IPv6 is not loaded."
    Ipv4Options "ipv4_options" "Passed: with a source route, which is for the host's own policy."
    Fragment "fragment" "Passed: a fragment whose first piece has not come by, or was passed itself."
    Icmp "icmp" "Passed: echo, which the stack answers for all addresses, ours included, and errors about no flow of ours."
    Udp "udp" "Passed: a datagram for one of our addresses, but for a port without a UDP service or flow."
    OtherProtocol "other_protocol" "Passed: neither TCP, UDP nor ICMP."
    NotOurs "not_ours" "Passed: the address belongs to no service."
    NoService "no_service" "Passed: TCP for one of our addresses, but for a port without a service or flow."
    NoFlow "no_flow" "Passed for the stack to reset: TCP in mid-connection, of a flow that the table does not hold."
    StackService "stack_service" "Passed: the worker of this service listens on a kernel socket."
    TtlExpired "ttl_expired" "Passed for the stack to answer with ICMP time exceeded: no hop left."
    WorkerFragment "worker_fragment" "Dropped: the first fragment of a segment for a worker, whose TCP does not reassemble."
    NoWorker "no_worker" "Dropped: no worker serves the receive queue of this interface; a client that asks for a connection asks again."
    NoServer "no_server" "Dropped: a new connection to a service of which no server is up."
    ServerUnreachable "server_unreachable" "Dropped: the hardware address of the next hop to the server is not known yet."
    SnatExhausted "snat_exhausted" "Answered with ICMP host unreachable, or dropped if there are too many: no free source port found for a new connection; add source addresses."
    TupleInUse "tuple_in_use" "Dropped: the client has a live flow from the same port to the same server through another service."
    TableFull "table_full" "Dropped: no entry of the flow table may be given up for a new connection."
    Ipv6Extension "ipv6_extension" "Passed: an IPv6 extension header that is not walked over: security, a route still to go, or too many."
    NoHeadroom "no_headroom" "Dropped: the driver leaves no room before the packet for the headers of a tunnel."
    TooBig "too_big" "Answered with ICMP packet too big: with the headers of the tunnel it would not fit into the way to the server."
    TooBigUnanswered "too_big_unanswered" "Passed: too big for its tunnel, and an ICMP error, about which none may be sent, or the program that answers is not loaded."
    StageMissing "stage_missing" "Passed: the program that would have gone on with the packet is not loaded."
    Orphaned "orphaned" "Passed: no daemon has been there for a while, and its service asks for the stack then."
    WorkerHeaders "worker_headers" "Dropped: a segment for a worker with tags, options, extension headers or in several buffers, which its TCP does not read."
    VlanGone "vlan_gone" "Dropped: its way out leads through a VLAN that this host no longer has."
    GueChecksum "gue_checksum" "Passed: a fragment or a packet with extension headers, for which GUE over IPv6 would need a sum over all of it."
    TunnelIcmp "tunnel_icmp" "Passed: an ICMP error about a packet in a tunnel of ours, from the way to its server; a lower MTU there needs a lower one here."
    WorkerIcmp "worker_icmp" "Passed: an ICMP error about a connection of a worker, with tags, options, extension headers or in several buffers, which its TCP does not read."
    IcmpQuote "icmp_quote" "Passed: an ICMP error that quotes too little, or a packet that its receiver has not sent."
    WorkerGone "worker_gone" "Passed: of a connection that ended with its worker; the stack, which has none, resets it."
    Denied "denied" "Dropped: the client's address is kept out by `allow` or `deny` of its service, or of all services."
    StackFlow "stack_flow" "Passed: of a connection that moved from its worker to the host's stack, or begins there."
}

impl Reason {
    /// Number of reasons, and so of counters.
    pub const COUNT: u32 = Self::StackFlow as u32 + 1;
}

const _: () = assert!(Reason::ALL.len() == Reason::COUNT as usize);

#[cfg(test)]
mod tests {
    use super::Reason;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_snake_case_and_explanations_are_sentences() {
        let names: HashSet<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        assert_eq!(names.len(), Reason::ALL.len());
        for (index, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
            let name = reason.name();
            assert!(
                name.chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'),
                "{name}"
            );
            let explanation = reason.explanation();
            assert!(
                explanation.starts_with(char::is_uppercase) && explanation.ends_with('.'),
                "{name}"
            );
        }
    }
}
