//! Connections of services that are proxied or relayed: they end here, in the TCP of a worker or in the kernel's. The workers are asked
//! for both; of the latter they know who, and why it is there.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lb_tcp::{FlowKey, Info, State};
use lb_transport::Why;

use super::{Flow, Flows, Moved, Query, Tcp};
use crate::worker::Inside;

/// Names of services by the address that clients connect to.
pub(crate) type Names = Arc<HashMap<SocketAddr, String>>;

/// The flows of one worker that a query names. Runs on the worker, between its packets.
pub(crate) fn terminated(worker: &Inside, query: &Query, names: &Names) -> Flows {
    let mut listed = Flows::default();
    let mut list = |flow| {
        if query.matches(&flow) {
            listed.add(flow, query.limit);
        }
    };
    let engine = worker.engine();
    engine.for_each_flow(|key, info| list(in_engine(key, &info, names)));
    engine.for_each_moved(|key, why, ago, _socket| {
        let moved = Moved {
            why: reason(why).to_owned(),
            seconds: ago.as_secs(),
        };
        list(Flow {
            moved: Some(moved),
            ..on_kernel(key.remote, key.local, names)
        });
    });
    worker
        .begun
        .for_each(|ends| list(on_kernel(ends.peer, ends.local, names)));
    listed
}

/// A connection in the worker's TCP.
fn in_engine(key: &FlowKey, info: &Info, names: &Names) -> Flow {
    let idle = u32::try_from(info.last_recv.as_secs()).unwrap_or(u32::MAX);
    Flow {
        forward: "af_xdp".to_owned(),
        state: coarse(info.state).to_owned(),
        idle_seconds: Some(idle),
        tcp: Some(tcp(info)),
        ..on_kernel(key.remote, key.local, names)
    }
}

/// A connection in the kernel's TCP, of which a worker has the socket.
fn on_kernel(client: SocketAddr, listen: SocketAddr, names: &Names) -> Flow {
    let service = names.get(&listen).map_or("?", String::as_str);
    Flow {
        client,
        listen,
        source: client,
        server: None,
        service: service.to_owned(),
        protocol: "tcp".to_owned(),
        forward: "kernel".to_owned(),
        state: "established".to_owned(),
        idle_seconds: None,
        packets_in: 0,
        bytes_in: 0,
        packets_out: 0,
        bytes_out: 0,
        moved: None,
        tcp: None,
    }
}

/// A reason in a word.
pub(crate) const fn reason(why: Why) -> &'static str {
    match why {
        Why::Response => "response",
        Why::Upload => "upload",
        Why::Streamed => "streamed",
        Why::Repeated => "repeated",
        Why::Tunnel => "tunnel",
        Why::Stop => "stop",
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
