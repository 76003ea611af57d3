//! What is counted, under the names of Linux (`/proc/net/snmp`, `/proc/net/netstat`) where it counts the same.

macro_rules! counters {
    ($($(#[$doc:meta])+ $field:ident = $name:literal,)+) => {
        /// What an endpoint has done since it began.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counters {
            $($(#[$doc])+ pub $field: u64,)+
        }

        impl Counters {
            /// Every counter by its name.
            pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$(($name, self.$field)),+].into_iter()
            }
        }
    };
}

counters! {
    /// Segments received.
    in_segs = "TcpInSegs",
    /// Segments sent, retransmissions included.
    out_segs = "TcpOutSegs",
    /// Segments sent again.
    retrans_segs = "TcpRetransSegs",
    /// Connections that a peer opened.
    passive_opens = "TcpPassiveOpens",
    /// Connections that we opened.
    active_opens = "TcpActiveOpens",
    /// Connections that ended before they were established.
    attempt_fails = "TcpAttemptFails",
    /// Established connections that ended by RST, ours or the peer's.
    estab_resets = "TcpEstabResets",
    /// RST segments sent.
    out_rsts = "TcpOutRsts",
    /// Retransmission timeouts.
    timeouts = "TcpExtTCPTimeouts",
    /// Tail loss probes sent (RFC 8985 §7).
    loss_probes = "TcpExtTCPLossProbes",
    /// Recoveries that a tail loss probe began or made needless.
    loss_probe_recovery = "TcpExtTCPLossProbeRecovery",
    /// Segments that SACK or RACK found lost.
    lost_retransmit = "TcpExtTCPLostRetransmit",
    /// Segments sent again in fast recovery.
    fast_retrans = "TcpExtTCPFastRetrans",
    /// Recoveries begun by SACK.
    sack_recovery = "TcpExtTCPSackRecovery",
    /// Recoveries begun by duplicate acknowledgements alone.
    reno_recovery = "TcpExtTCPRenoRecovery",
    /// Congestion responses taken back, since nothing had been lost.
    undo = "TcpExtTCPFullUndo",
    /// Duplicate segments told to the peer (RFC 2883).
    dsack_sent = "TcpExtTCPDSACKOldSent",
    /// Duplicate segments that the peer told of.
    dsack_received = "TcpExtTCPDSACKRecv",
    /// Acknowledgements sent because their time had come.
    delayed_acks = "TcpExtDelayedACKs",
    /// Segments put in line behind a gap.
    ofo_queue = "TcpExtTCPOFOQueue",
    /// Segments dropped because they would have left one gap too many.
    ofo_drop = "TcpExtTCPOFODrop",
    /// Segments dropped for want of memory.
    rcvq_drop = "TcpExtTCPRcvQDrop",
    /// Segments dropped by PAWS (RFC 7323 §5).
    paws_estab = "TcpExtPAWSEstab",
    /// Challenge acknowledgements (RFC 5961).
    challenge_acks = "TcpExtTCPChallengeACK",
    /// SYNs on an established connection.
    syn_challenge = "TcpExtTCPSYNChallenge",
    /// Zero-window probes sent.
    win_probes = "TcpExtTCPWinProbe",
    /// Keepalive probes sent.
    keepalives = "TcpExtTCPKeepAlive",
    /// Windows closed to zero.
    to_zero_window = "TcpExtTCPToZeroWindowAdv",
    /// Connections given up because the peer was silent.
    abort_on_timeout = "TcpExtTCPAbortOnTimeout",
    /// Connections reset because unread bytes were thrown away.
    abort_on_close = "TcpExtTCPAbortOnClose",
    /// Connections reset because the peer sent after we had closed.
    abort_on_data = "TcpExtTCPAbortOnData",
    /// Connections reset because their peer did not finish in time.
    abort_on_linger = "TcpExtTCPAbortOnLinger",
    /// SYNs answered with a cookie.
    syncookies_sent = "TcpExtSyncookiesSent",
    /// Cookies that came back.
    syncookies_received = "TcpExtSyncookiesRecv",
    /// Acknowledgements that were no cookie of ours.
    syncookies_failed = "TcpExtSyncookiesFailed",
    /// Connections not opened because the listener's backlog was full.
    listen_overflows = "TcpExtListenOverflows",
    /// SYNs ignored, for whatever reason.
    listen_drops = "TcpExtListenDrops",
    /// SYNs ignored for want of memory or room for flows.
    memory_drops = "LbMemoryDrops",
    /// Segments for addresses that nobody listens on.
    no_listener = "LbNoListener",
    /// TIME-WAIT records that ended in time.
    time_wait = "TcpExtTW",
    /// TIME-WAIT records used again by a new connection.
    time_wait_recycled = "TcpExtTWRecycled",
    /// TIME-WAIT records that gave way to younger ones.
    time_wait_overflow = "TcpExtTCPTimeWaitOverflow",
    /// ICMP errors that changed a path MTU.
    path_mtu_changes = "LbPathMtuChanges",
    /// ICMP errors that were about no segment in flight, so not believed (RFC 5927 §4).
    icmp_ignored = "TcpExtOutOfWindowIcmps",
}
