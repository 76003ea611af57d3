//! Flows of services of mode "l4", read in place from the live flow table.

use std::net::{IpAddr, SocketAddr};

use lb_ebpf::abi::Settings;
use lb_ebpf::family::{Family, V4, V6};
use lb_ebpf::flow::{FlowEntry, FlowSet, FlowSnapshot, Key, Table};
use lb_ebpf::mapped::MappedFlows;
use lb_ebpf::rewrite::Mode;
use lb_ebpf::tcp::Direction;
use lb_ebpf::wire::PROTOCOL_UDP;

use super::Flow;
use crate::control::Control;

/// Every flow of both tables, as it is read.
pub(super) fn forwarded<'a>(
    control: &'a Control,
    settings: &'a Settings,
) -> impl Iterator<Item = Flow> + 'a {
    let dataplane = control.dataplane();
    flows_of(control, dataplane.flows(), settings).chain(flows_of(
        control,
        dataplane.flows6(),
        settings,
    ))
}

fn flows_of<'a, F: Addressed>(
    control: &'a Control,
    sets: &'a MappedFlows<F>,
    settings: &'a Settings,
) -> impl Iterator<Item = Flow> + 'a {
    let table = Table::new(sets, settings);
    let entries = sets.iter().flat_map(FlowSet::entries);
    entries
        .filter_map(FlowEntry::snapshot)
        .filter(|entry| entry.direction == Direction::Forward)
        .map(move |entry| {
            let answers = entry
                .peer()
                .and_then(|peer| table.find_cold(&peer))
                .and_then(FlowEntry::snapshot);
            flow(control, &entry, answers.as_ref(), settings.tick)
        })
}

fn flow<F: Addressed>(
    control: &Control,
    entry: &FlowSnapshot<F>,
    answers: Option<&FlowSnapshot<F>>,
    tick: u32,
) -> Flow {
    let idle = |entry: &FlowSnapshot<F>| tick.saturating_sub(entry.last_tick);
    let (client, listen) = tuple(&entry.key);
    // Where nothing but the way to the server changes, it sees what the client has sent.
    let (source, server) = match entry.mode {
        Mode::Nat => tuple(&entry.rewritten),
        Mode::Dsr | Mode::Ipip | Mode::Gue => {
            let server = control.server_of(entry.service, entry.backend);
            (client, server.unwrap_or(listen))
        }
    };
    let service = control.service_of(entry.service);
    Flow {
        client,
        listen,
        source,
        server: Some(server),
        // A flow that outlived the configuration it was opened under.
        service: service.map_or("?", |service| &service.name).to_owned(),
        protocol: protocol(entry.key.protocol).to_owned(),
        forward: forward(entry.mode).to_owned(),
        state: entry.state.name().to_owned(),
        idle_seconds: Some(answers.map_or(idle(entry), |answers| idle(entry).min(idle(answers)))),
        packets_in: entry.packets,
        bytes_in: entry.bytes,
        packets_out: answers.map_or(0, |answers| answers.packets),
        bytes_out: answers.map_or(0, |answers| answers.bytes),
        moved: None,
        tcp: None,
    }
}

const fn protocol(number: u8) -> &'static str {
    match number {
        PROTOCOL_UDP => "udp",
        _ => "tcp",
    }
}

const fn forward(mode: Mode) -> &'static str {
    match mode {
        Mode::Nat => "nat",
        Mode::Dsr => "dsr",
        Mode::Ipip => "ipip",
        Mode::Gue => "gue",
    }
}

/// A family whose addresses userspace can name.
pub(crate) trait Addressed: Family {
    /// The address as the standard library has it.
    fn ip(address: Self::Address) -> IpAddr;
}

impl Addressed for V4 {
    fn ip(address: [u8; 4]) -> IpAddr {
        address.into()
    }
}

impl Addressed for V6 {
    fn ip(address: [u8; 16]) -> IpAddr {
        address.into()
    }
}

/// Source and destination of a key.
pub(crate) fn tuple<F: Addressed>(key: &Key<F>) -> (SocketAddr, SocketAddr) {
    let endpoint = |(address, port): (F::Address, u16)| SocketAddr::new(F::ip(address), port);
    (endpoint(key.source()), endpoint(key.destination()))
}
