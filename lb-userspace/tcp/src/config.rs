//! The rules of an endpoint, with the RFC or the Linux value behind each.

use core::time::Duration;

/// The rules of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Connections at most, half-open ones included. A SYN above that is ignored. 1,048,576.
    pub max_flows: usize,
    /// Connections of one listener that nobody accepted yet. A SYN above half of it is answered with a
    /// cookie, which keeps no state; a connection above it isn't opened. 1024.
    pub backlog: usize,
    /// Bytes of all buffers together at most: see [`Pressure`](crate::Pressure). 256 MiB.
    pub memory: usize,
    /// Receive window at first, per connection. 64 KiB: Linux' initial window is about that.
    pub receive_window: usize,
    /// Receive window at most, to which it grows as the reader keeps up. 4 MiB; Linux' `tcp_rmem` says 6.
    pub max_receive_window: usize,
    /// Bytes written and not yet acknowledged at most, per connection. It grows with the congestion
    /// window up to this. 4 MiB, as Linux' `tcp_wmem`.
    pub max_send_buffer: usize,
    /// Shift count that we offer (RFC 7323 §2.2). 10, as Linux with its default `tcp_rmem`, so that a
    /// connection can move to a kernel socket, which can't change it later.
    pub window_scale: u8,
    /// Whether SACK is offered. True.
    pub sack: bool,
    /// Whether timestamps are offered. True.
    pub timestamps: bool,
    /// Initial congestion window in segments. 10 (RFC 6928).
    pub initial_window: u32,
    /// Whether segments leave at the pace of the congestion window, not in bursts. False: below 1 ms
    /// of round trip the timer costs more than bursts do.
    pub pacing: bool,
    /// Retransmission timeout before a round trip was measured. 1 s (RFC 6298 §2.1).
    pub initial_rto: Duration,
    /// Retransmission timeout at least. 200 ms as on Linux; RFC 6298 §2.4 says 1 s, for clocks of 1988.
    pub min_rto: Duration,
    /// Retransmission timeout at most. 120 s as on Linux (RFC 6298 §2.5: at least 60 s).
    pub max_rto: Duration,
    /// An acknowledgement waits that long for data to go with. 40 ms as on Linux (RFC 9293 §3.8.6.3:
    /// below 500 ms).
    pub delayed_ack: Duration,
    /// SYN-ACKs sent before a half-open connection is forgotten. 5 retransmissions, as `tcp_synack_retries`.
    pub syn_ack_retries: u32,
    /// An idle peer is probed after this time, and then at [`keepalive_interval`](Self::keepalive_interval).
    /// 2 h, as `tcp_keepalive_time` (RFC 9293 §3.8.4, MUST-28); zero switches probes off.
    pub keepalive: Duration,
    /// Time between probes of an idle peer. 75 s.
    pub keepalive_interval: Duration,
    /// Probes without an answer before an idle peer is given up. 9.
    pub keepalive_probes: u32,
    /// A peer that owes an acknowledgement for so long is given up (RFC 9293 §3.8.3, RFC 5482). 5 min.
    pub user_timeout: Duration,
    /// A connection that its user has released is reset when its peer has neither acknowledged anything nor finished it in this
    /// time: however long the rest of an answer takes, it may. 60 s, as `tcp_fin_timeout`, which ends FIN-WAIT-2 only: before
    /// that state, Linux gives an orphan up by `tcp_orphan_retries`, about as early.
    pub orphan_timeout: Duration,
    /// TIME-WAIT. 60 s, as `TCP_TIMEWAIT_LEN`; RFC 9293 §3.4.2 says four minutes.
    pub time_wait: Duration,
    /// TIME-WAIT records at most; above that the oldest go. 262,144, as `tcp_max_tw_buckets` on a large host.
    pub max_time_wait: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_flows: 1 << 20,
            backlog: 1024,
            memory: 256 << 20,
            receive_window: 64 << 10,
            max_receive_window: 4 << 20,
            max_send_buffer: 4 << 20,
            window_scale: 10,
            sack: true,
            timestamps: true,
            initial_window: 10,
            pacing: false,
            initial_rto: Duration::from_secs(1),
            min_rto: Duration::from_millis(200),
            max_rto: Duration::from_mins(2),
            delayed_ack: Duration::from_millis(40),
            syn_ack_retries: 5,
            keepalive: Duration::from_hours(2),
            keepalive_interval: Duration::from_secs(75),
            keepalive_probes: 9,
            user_timeout: Duration::from_mins(5),
            orphan_timeout: Duration::from_mins(1),
            time_wait: Duration::from_mins(1),
            max_time_wait: 1 << 18,
        }
    }
}
