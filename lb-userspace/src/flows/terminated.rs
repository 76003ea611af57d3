//! Flows of services of mode "http" on `af_xdp`: they end in the TCP of a worker, which is asked for them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use lb_transport::af_xdp::{FlowInfo, Handle, State};

use super::{Flow, Flows, Query, Tcp};

/// Names of services by the address that clients connect to.
pub(super) type Names = Arc<HashMap<SocketAddr, String>>;

/// The flows of one worker that a query names. Runs on the worker, between its packets.
pub(super) fn list(engine: &Handle, query: &Query, names: &Names) -> Flows {
    let mut listed = Flows::default();
    engine.for_each_flow(|info| {
        let flow = flow(info, names);
        if query.matches(&flow) {
            listed.push(flow, query.limit);
        }
    });
    listed
}

fn flow(info: &FlowInfo, names: &Names) -> Flow {
    let FlowInfo { key, tcp } = info;
    Flow {
        client: key.remote,
        listen: key.local,
        source: key.remote,
        server: None,
        service: names.get(&key.local).map_or("?", String::as_str).to_owned(),
        protocol: "tcp".to_owned(),
        forward: "af_xdp".to_owned(),
        state: coarse(tcp.state).to_owned(),
        tcp: Some(Tcp::from(tcp)),
    }
}

/// The words of the flow table, so that one filter serves both.
fn coarse(state: State) -> &'static str {
    match state {
        State::SynSent | State::SynReceived => "half-open",
        State::Established => "established",
        State::Closed => "closed",
        _ => "closing",
    }
}
