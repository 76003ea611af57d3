//! Flows of services of mode "http" on `af_xdp`: they end in the TCP of a worker, which is asked for them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lb_tcp::{FlowKey, Info, State};
use lb_transport::af_xdp::Handle;

use super::{Flow, Flows, Query, Tcp};

/// Names of services by the address that clients connect to.
pub(crate) type Names = Arc<HashMap<SocketAddr, String>>;

/// The flows of one worker that a query names. Runs on the worker, between its packets.
pub(crate) fn terminated(engine: &Handle, query: &Query, names: &Names) -> Flows {
    let mut listed = Flows::default();
    engine.for_each_flow(|key, info| {
        let flow = flow(key, &info, names);
        if query.matches(&flow) {
            listed.add(flow, query.limit);
        }
    });
    listed
}

fn flow(key: &FlowKey, info: &Info, names: &Names) -> Flow {
    let service = names.get(&key.local).map_or("?", String::as_str);
    let idle = u32::try_from(info.last_recv.as_secs()).unwrap_or(u32::MAX);
    Flow {
        client: key.remote,
        listen: key.local,
        source: key.remote,
        server: None,
        service: service.to_owned(),
        protocol: "tcp".to_owned(),
        forward: "af_xdp".to_owned(),
        state: coarse(info.state).to_owned(),
        idle_seconds: idle,
        packets_in: 0,
        bytes_in: 0,
        packets_out: 0,
        bytes_out: 0,
        tcp: Some(tcp(info)),
    }
}

fn tcp(info: &Info) -> Tcp {
    Tcp {
        state: name(info.state).to_owned(),
        rtt_us: info.rtt.map(micros),
        rttvar_us: micros(info.rttvar),
        min_rtt_us: micros(info.min_rtt),
        rto_ms: u64::try_from(info.rto.as_millis()).unwrap_or(u64::MAX),
        snd_mss: info.snd_mss,
        snd_cwnd: info.snd_cwnd,
        snd_ssthresh: info.snd_ssthresh,
        snd_wnd: info.snd_wnd,
        rcv_wnd: info.rcv_wnd,
        unacked: info.unacked,
        sacked: info.sacked,
        lost: info.lost,
        total_retrans: info.total_retrans,
        notsent_bytes: info.notsent_bytes,
        unread_bytes: info.rcv_unread,
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// The words of the packet path's flow table, so that one filter serves both.
const fn coarse(state: State) -> &'static str {
    match state {
        State::SynSent | State::SynReceived => "half-open",
        State::Established => "established",
        State::Closed => "closed",
        _ => "closing",
    }
}

/// As `ss` prints it.
const fn name(state: State) -> &'static str {
    match state {
        State::SynSent => "SYN-SENT",
        State::SynReceived => "SYN-RECV",
        State::Established => "ESTAB",
        State::FinWait1 => "FIN-WAIT-1",
        State::FinWait2 => "FIN-WAIT-2",
        State::CloseWait => "CLOSE-WAIT",
        State::Closing => "CLOSING",
        State::LastAck => "LAST-ACK",
        State::TimeWait => "TIME-WAIT",
        State::Closed => "CLOSED",
    }
}
