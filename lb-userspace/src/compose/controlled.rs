//! From a service of a configuration to what the control loop starts with.

use std::num::NonZeroU16;

use lb_config::{
    Affinity, Begin, Forward, Health, L4, Mode, Protocol, Source, WhenDaemonGone, WhenServerFails,
};
use lb_ebpf::abi::{
    SERVICE_FLAG_AFFINITY, SERVICE_FLAG_KEEP_SOURCE, SERVICE_FLAG_PASS_IF_ORPHANED,
    SERVICE_KIND_L4, SERVICE_KIND_STACK, SERVICE_KIND_WORKER,
};
use lb_ebpf::rewrite::Mode as Forwarding;
use lb_ebpf::wire::{PROTOCOL_TCP, PROTOCOL_UDP};

use super::PlannedService;
use crate::control::{ControlledServer, DesiredServer, DesiredService, Ending, Minimum, health};
use crate::worker::Carrier;

pub(super) fn desired(service: &lb_config::Service, carrier: Option<Carrier>) -> DesiredService {
    let kind = match carrier {
        Some(Carrier::AfXdp | Carrier::Both) => SERVICE_KIND_WORKER,
        Some(Carrier::Kernel) => SERVICE_KIND_STACK,
        None => SERVICE_KIND_L4,
    };
    let server = |server: &lb_config::Server| DesiredServer {
        address: server.address,
        weight: server.weight,
        up: true,
        next_hop: None,
    };
    let (flags, forward, servers) = match &service.mode {
        // Without a worker nobody answers: better the stack, which resets, than silence. Not at once, for the next daemon
        // may be on its way, and a SYN that is lost is sent again.
        Mode::Http(_) | Mode::Tcp(_) => {
            (SERVICE_FLAG_PASS_IF_ORPHANED, Forwarding::Nat, Vec::new())
        }
        Mode::L4(l4) => {
            let (flags, forward) = forwarding(l4);
            let servers = l4.servers.iter().map(server).collect();
            (flags, forward, servers)
        }
    };
    let mss = match &service.mode {
        Mode::L4(l4) => l4.mss.map_or(0, NonZeroU16::get),
        Mode::Http(_) | Mode::Tcp(_) => 0,
    };
    DesiredService {
        mss,
        listen: service.listen,
        protocol: match service.protocol {
            Protocol::Tcp => PROTOCOL_TCP,
            Protocol::Udp => PROTOCOL_UDP,
        },
        kind,
        flags,
        moves: carrier == Some(Carrier::Both),
        begins_on_stack: carrier == Some(Carrier::Both)
            && service
                .handover()
                .is_some_and(|handover| handover.begin == Begin::Kernel),
        forward,
        servers,
    }
}

/// Flags and mode of a service in the program's words.
fn forwarding(l4: &L4) -> (u8, Forwarding) {
    let affinity = match l4.affinity {
        Affinity::None => 0,
        Affinity::Client => SERVICE_FLAG_AFFINITY,
    };
    let (source, forward) = match l4.forward {
        Forward::Nat(Source::Nat) => (0, Forwarding::Nat),
        Forward::Nat(Source::Client) => (SERVICE_FLAG_KEEP_SOURCE, Forwarding::Nat),
        Forward::Dsr => (0, Forwarding::Dsr),
        Forward::Ipip => (0, Forwarding::Ipip),
        Forward::Gue => (0, Forwarding::Gue),
    };
    let gone = match l4.when_daemon_gone {
        WhenDaemonGone::Forward => 0,
        WhenDaemonGone::Pass => SERVICE_FLAG_PASS_IF_ORPHANED,
    };
    (affinity | source | gone, forward)
}

/// How flows of the service end without a word.
pub(super) fn ending(service: &lb_config::Service) -> Ending {
    let Mode::L4(l4) = &service.mode else {
        return Ending::default();
    };
    // An hour has 3,600 of the program's ticks, and no timeout is longer than a day.
    let idle = u32::try_from(l4.idle_timeout.as_secs()).unwrap_or(u32::MAX);
    Ending::new(idle, l4.when_server_fails == WhenServerFails::Cut)
}

/// The servers of all pools of a service, one pool after the other.
pub(super) fn servers(
    service: &lb_config::Service,
    planned: &PlannedService,
) -> Vec<ControlledServer> {
    let mut proxied = planned.proxied().map(Some).chain(std::iter::repeat(None));
    let mut all = Vec::new();
    for pool in service.pools() {
        let start = match pool.health {
            Health::Unchecked => health::unchecked(),
            Health::Checked { .. } => health::probation(),
        };
        let servers = pool.servers.iter().zip(&mut proxied);
        all.extend(servers.map(|(server, http)| ControlledServer {
            name: server.name.as_str().to_owned(),
            route: pool.route.map(ToString::to_string),
            address: server.address,
            http,
            healthy: start.up,
            reason: start.reason.clone(),
            unreachable: None,
            drained: false,
        }));
    }
    all
}

/// What the routes of a service want to be warned of.
pub(super) fn minimums(service: &lb_config::Service) -> Vec<Minimum> {
    let mut first = 0;
    let pools = service.pools().into_iter().filter_map(|pool| {
        let servers = first..first + pool.servers.len();
        first = servers.end;
        let route = pool.route.unwrap_or(&service.name).to_string();
        Some(Minimum::new(route, servers, pool.minimum_healthy?))
    });
    pools.collect()
}
