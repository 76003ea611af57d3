//! `lb run`: brings everything up in order, waits, and takes it down in order.
//!
//! Whatever fails before "ready" undoes itself: the data plane detaches when it is dropped, sockets
//! close, threads are joined. The order is explained in `ARCHITECTURE.md`.

mod daemon;
mod notify;
mod signals;

use std::io::IsTerminal as _;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use lb_config::{Forward, Mode, Source};
use lb_ebpf::abi::{
    ABI_VERSION, Interface, MAX_XSKS, SETTINGS_LIMIT_MSS, SETTINGS_MATCH_SOURCE, Settings,
};
use lb_ebpf::flow::initial_core;
use tokio::task::LocalSet;

use crate::carrier::Decision;
use crate::cli::Failure;
use crate::compose::{Plan, PlannedService};
use crate::control::{self, Before, Control, Controlled, InUse, Numbers};
use crate::dataplane::{Dataplane, Resolver, StackFlows, possible_cpus};
use crate::report;
use crate::succession::{KnownServer, Listeners};
use crate::worker::{self, Carrier, ListenerPlan, Served, Sockets};
use crate::{budget, host, keys};

use daemon::{Daemon, End};
use signals::Signals;

/// Balances until SIGTERM or SIGINT.
pub(crate) fn run(plan: &Plan, pin: Option<&Path>) -> Result<(), Failure> {
    init_log();
    for warning in plan.warnings() {
        tracing::warn!("{warning}");
    }
    if let Err(error) = budget::raise_open_files() {
        tracing::warn!(%error, "the daemon has to do with the files that it may have open");
    }
    if pin.is_none() && plan.asks_for_stack() {
        tracing::warn!(
            "when_daemon_gone has no effect without --pin: the program goes with the daemon, and packets to the stack"
        );
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the control thread")?;
    LocalSet::new().block_on(&runtime, balance(plan, pin))?;
    Ok(())
}

/// `LB_LOG` has the syntax of `RUST_LOG`; without it, what an operator wants to see.
fn init_log() {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_env("LB_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
}

async fn balance(plan: &Plan, pin: Option<&Path>) -> anyhow::Result<()> {
    // First, so that a signal during the start is not lost but stops us in order.
    let mut signals = Signals::catch()?;
    let mut daemon = Daemon::start(plan, pin).await?;
    loop {
        let successor = match daemon.serve(&mut signals).await {
            Ok(End::Successor(successor)) => successor,
            ended => {
                daemon.stop();
                return ended.map(drop);
            }
        };
        match daemon.hand_over(&successor).await {
            Ok(()) => return daemon.leave(successor, &mut signals).await,
            Err(error) => {
                tracing::warn!("a successor failed, and this lb goes on: {error:#}");
                successor.refuse(format!("{error:#}")).await;
                daemon.take_back().await?;
            }
        }
    }
}

fn require_local_addresses(plan: &Plan) -> anyhow::Result<()> {
    let config = &plan.config;
    let front = config.interfaces.first().map_or("", |name| name.as_str());
    let back = config.interfaces.last().map_or("", |name| name.as_str());
    for service in &config.services {
        host::require_local(
            &format!("service {:?}", service.name.as_str()),
            service.listen.ip(),
            front,
        )?;
    }
    for &address in &config.nat.addresses {
        host::require_local("nat.addresses", address, back)?;
    }
    Ok(())
}

/// A tag that the interface has taken off is one that the program doesn't know of, and an answer without it goes astray.
async fn warn_of_hidden_tags(plan: &Plan, resolver: &Resolver) -> anyhow::Result<()> {
    let vlans = resolver.vlans().await.context("reading VLANs")?;
    for interface in &plan.config.interfaces {
        let name = interface.as_str();
        let ifindex = lb_xsk::interface_index(name)?;
        let carries = vlans.iter().any(|device| device.vlan.ifindex == ifindex);
        if carries && lb_xsk::strips_tags(name)? {
            tracing::warn!(
                interface = name,
                "takes VLAN tags off before lb sees them: turn that off with `ethtool -K {name} rxvlan off`"
            );
        }
    }
    Ok(())
}

/// Puts every `AF_XDP` socket into its slot and tells the program where the slots are.
fn connect_sockets(dataplane: &mut Dataplane, decision: &Decision) -> anyhow::Result<()> {
    let mut base = 0;
    for port in &decision.ports {
        let queues = u32::try_from(port.sockets.len()).unwrap_or(u32::MAX);
        anyhow::ensure!(
            base + queues <= MAX_XSKS,
            "interface {}: {queues} rx queues are too many; lb has {MAX_XSKS} AF_XDP sockets for all \
             interfaces: lower the number with `ethtool -L {} rx N`, or set transport = \"kernel\"",
            port.name,
            port.name
        );
        for (slot, socket) in (base..).zip(&port.sockets) {
            dataplane.set_xsk(slot, socket)?;
        }
        dataplane.set_interface(
            port.ifindex,
            Interface {
                xsk_base: base,
                queues,
            },
        )?;
        base += queues;
    }
    Ok(())
}

/// One worker per queue number; it takes the socket of that queue of every interface.
fn worker_plans(
    plan: &Plan,
    decision: &mut Decision,
    steering: &StackFlows,
    sockets: &mut Listeners,
) -> anyhow::Result<Vec<worker::Plan>> {
    let workers = decision.ports.iter().map(|port| port.queues).max();
    let workers = workers.unwrap_or(1);
    let moves = decision.carriers().contains(&Some(Carrier::Both));
    let mut plans: Vec<_> = (0..workers)
        .map(|queue| worker::Plan {
            queue,
            sockets: Vec::new(),
            listeners: Vec::new(),
            engine: plan.engine(workers),
            steering: moves.then(|| steering.clone()),
        })
        .collect();
    let services = plan.config.services.iter().zip(&plan.services);
    for ((config, planned), carrier) in services.zip(decision.carriers()) {
        let (Some(carrier), Some(served)) = (carrier, served(planned)) else {
            continue;
        };
        let address = config.listen;
        let mut hands = Vec::new();
        if carrier != Carrier::AfXdp {
            let dealt = sockets.deal(address, plans.len());
            hands = dealt.with_context(|| format!("listening on {address}"))?;
        }
        let mut hands = hands.into_iter();
        for plan in &mut plans {
            plan.listeners.push(ListenerPlan {
                served: served.clone(),
                address,
                carrier,
                sockets: hands.next().unwrap_or_default(),
                tally: Arc::clone(&planned.tally),
            });
        }
    }
    for (plan, sockets) in plans.iter_mut().zip(sockets_by_queue(decision)) {
        plan.sockets = sockets;
    }
    Ok(plans)
}

/// The `AF_XDP` sockets of each worker: those of its queue of every interface.
fn sockets_by_queue(decision: &mut Decision) -> Vec<Sockets> {
    let mut all: Vec<Sockets> = Vec::new();
    for port in &mut decision.ports {
        for (queue, socket) in port.sockets.drain(..).enumerate() {
            if all.len() <= queue {
                all.push(Sockets::new());
            }
            if let Some(sockets) = all.get_mut(queue) {
                sockets.push((socket, port.config));
            }
        }
    }
    all
}

/// What a worker serves; `None` if nothing ends here.
fn served(planned: &PlannedService) -> Option<Served> {
    let http = planned.http.clone().map(Served::Http);
    http.or_else(|| planned.tcp.clone().map(Served::Tcp))
}

/// Fills the maps. From the last write on packets of the services are ours, unless an earlier daemon's program is in the links.
fn start_control(
    plan: &Plan,
    mut dataplane: Dataplane,
    carriers: &[Option<Carrier>],
    known: &[KnownServer],
) -> anyhow::Result<Control> {
    let config = &plan.config;
    dataplane.set_snat_addresses(&config.nat.addresses)?;
    let mut services = plan.controlled(carriers);
    for service in &mut services {
        service.learn(known);
    }
    let keeps_source = |service: &&lb_config::Service| {
        matches!(
            service.mode,
            Mode::L4(lb_config::L4 {
                forward: Forward::Nat(Source::Client),
                ..
            })
        )
    };
    let transparent: Vec<_> = config.services.iter().filter(keeps_source).collect();
    let numbers = numbers(&dataplane, &services)?;
    let ids: Vec<_> = numbers.services.iter().map(|service| service.id).collect();
    for prefix in plan.access(&ids) {
        dataplane.add_access(&prefix)?;
    }
    // Answers to a client whose address was kept are known by the server they come from.
    let pools = transparent.iter().flat_map(|service| service.pools());
    let sources = pools.flat_map(|pool| pool.servers);
    let addresses = config.services.iter().map(|service| service.listen.ip());
    let addresses = addresses
        .chain(config.nat.addresses.iter().copied())
        .chain(sources.map(|server| server.address.ip()))
        .chain(numbers.retired.values().map(|(_, address)| address.ip()));
    let prefilter = control::prefilter(addresses.collect::<Vec<IpAddr>>());
    let mut flags = 0;
    if !transparent.is_empty() {
        flags |= SETTINGS_MATCH_SOURCE;
    }
    if services.iter().any(|service| service.desired.mss != 0) {
        flags |= SETTINGS_LIMIT_MSS;
    }
    let before = dataplane.inherited().map(|before| &before.settings);
    let settings = settings(plan, flags, before)?;
    dataplane.require_keys(&settings.hash_key)?;
    let patience = config.flows.orphaned_after;
    Ok(Control::new(
        dataplane, services, numbers, settings, patience, &prefilter,
    )?)
}

/// Numbers of services and servers: those that the flows of an earlier daemon know them by.
fn numbers(dataplane: &Dataplane, services: &[Controlled]) -> anyhow::Result<Numbers> {
    let services: Vec<_> = services.iter().map(|service| &service.desired).collect();
    let (before, in_use) = match dataplane.inherited() {
        Some(inherited) => (Before::read(inherited), InUse::of(dataplane)),
        None => (Before::default(), InUse::default()),
    };
    let numbers = Numbers::assign(&before, &in_use, &services);
    numbers.map_err(|error| dataplane.incompatible(&error))
}

/// What the program must know. Keys and clock of an earlier daemon go on, because its flows do.
fn settings(plan: &Plan, flags: u32, before: Option<&Settings>) -> anyhow::Result<Settings> {
    let nat = &plan.config.nat;
    Ok(Settings {
        abi_version: ABI_VERSION,
        tick: before.map_or(0, |before| before.tick),
        hash_key: match (&plan.config.flows.hash_key, before) {
            (Some(secret), _) => keys::derived(secret.as_str()),
            (None, Some(before)) => before.hash_key,
            (None, None) => keys::random().context("reading random keys for the flow hash")?,
        },
        flow_set_mask: plan.sizing().flow_sets() - 1,
        flow6_set_mask: plan.sizing().flow6_sets() - 1,
        flow_core: before.map_or(initial_core(plan.sizing().flow_sets()), |before| {
            before.flow_core
        }),
        flow6_core: before.map_or(initial_core(plan.sizing().flow6_sets()), |before| {
            before.flow6_core
        }),
        snat_address_count: u32::try_from(
            nat.addresses
                .iter()
                .filter(|address| address.is_ipv4())
                .count(),
        )?,
        snat6_address_count: u32::try_from(
            nat.addresses
                .iter()
                .filter(|address| address.is_ipv6())
                .count(),
        )?,
        snat_port_first: nat.ports.first(),
        snat_port_count: nat.ports.count(),
        snat_partition_bits: possible_cpus()?.next_power_of_two().ilog2(),
        flags,
        ..Settings::default()
    })
}

fn log_ready(plan: &Plan, decision: &Decision) {
    for (service, carrier) in plan.config.services.iter().zip(&decision.carriers) {
        let carrier = carrier.as_ref();
        let mode = report::mode(service, carrier.map(|chosen| chosen.carrier));
        let why = carrier.map_or("", |chosen| chosen.why.as_str());
        let stays = carrier.and_then(|chosen| chosen.stays.as_ref());
        if let Some(reason) = stays {
            tracing::warn!(
                service = service.name.as_str(),
                reason,
                "big connections stay on af_xdp"
            );
        }
        tracing::info!(service = service.name.as_str(), listen = %service.listen, mode, why, "serving");
    }
    tracing::info!("ready");
}
