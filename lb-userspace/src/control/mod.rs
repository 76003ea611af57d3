//! The control loop: what health checks and the kernel say becomes what the program and the proxy do.
//!
//! Runs on the main thread. State is in [`Control`], which never waits for anything; the tasks that
//! wait (`health`, `neighbours`, the clock) tell it what they learnt. An error from it means that a
//! map could not be written, and stops the daemon: traffic would otherwise follow a stale decision.

pub(crate) mod begin;
mod drain;
pub(crate) mod drift;
pub(crate) mod files;
pub(crate) mod health;
#[cfg(test)]
mod hosts;
mod minimum;
mod neighbours;
mod numbers;
mod reconcile;
mod server;
mod succession;
mod vlans;

use std::cell::RefCell;
use std::mem;
use std::net::SocketAddr;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};

use lb_ebpf::abi::{CORE_FIRST, CORE_SPREAD, SERVICE_FLAG_PASS_IF_ORPHANED, Settings};
use lb_ebpf::family::Family;
use lb_ebpf::flow::{Fate, FlowSnapshot, Table, Timeouts, core_is_crowded};
use lb_ebpf::mapped::MappedFlows;
use lb_ebpf::rewrite::Mode;

use crate::dataplane::{Dataplane, MapAccessError, NextHop, NoNextHop, VlanDevice};

pub(crate) use drain::{Done, Order};
pub(crate) use minimum::Minimum;
pub(crate) use neighbours::follow as follow_neighbours;
pub(crate) use numbers::{Before, InUse, Numbers};
pub(crate) use reconcile::{DesiredServer, DesiredService, prefilter};

pub(crate) use server::ControlledServer;

use reconcile::Reconciler;
use vlans::{Change, Vlans};

/// Each tick sweeps this part of the flow table, so that one tick stays below a few milliseconds for a
/// million flows. A flow ends that many seconds late at most.
const SWEEP_PARTS: usize = 16;

/// When flows of a service end without a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    timeouts: Timeouts,
    cut_failed: bool,
}

impl Ending {
    /// Of a service whose flows may be silent for `idle` seconds; `cut_failed` says whether those of a failed server
    /// end at once.
    pub(crate) fn new(idle: u32, cut_failed: bool) -> Self {
        Self {
            timeouts: Timeouts {
                // Five retransmissions of a SYN take 63 s.
                half_open: 64,
                established: idle,
                // RFC 5382 REQ-5: at least four minutes for a connection that is half closed.
                closing: 240,
                // Linux' own TIME_WAIT: a late segment of the old connection must not reach another client's.
                closed: 60,
                datagrams: idle,
            },
            cut_failed,
        }
    }
}

/// Of a service that has no flows.
impl Default for Ending {
    fn default() -> Self {
        Self::new(0, false)
    }
}

/// One service under control.
pub(crate) struct Controlled {
    /// For the log.
    pub(crate) name: String,
    /// What the maps should say.
    pub(crate) desired: DesiredService,
    /// When its flows end.
    pub(crate) ending: Ending,
    /// Its servers in the order of the configuration; those of a proxied one route by route.
    pub(crate) servers: Vec<ControlledServer>,
    /// What routes want to be warned of.
    pub(crate) minimums: Vec<Minimum>,
}

/// What is desired, and the data plane that shall do it.
pub(crate) struct Control {
    dataplane: Dataplane,
    reconciler: Reconciler,
    vlans: Vlans,
    services: Vec<Controlled>,
    settings: Settings,
    /// How long the program takes the daemon for alive after its last tick; `None` if no service asks.
    orphaned_after: Option<Duration>,
}

impl Control {
    /// Takes over a data plane whose maps hold no service yet, and writes the first state.
    pub(crate) fn new(
        mut dataplane: Dataplane,
        services: Vec<Controlled>,
        numbers: Numbers,
        settings: Settings,
        orphaned_after: Duration,
        prefilter: &[u32],
    ) -> Result<Self, MapAccessError> {
        let mut flags = services.iter().map(|service| service.desired.flags);
        let asked = flags.any(|flags| flags & SERVICE_FLAG_PASS_IF_ORPHANED != 0);
        let reconciler = Reconciler::new(numbers);
        let vlans = dataplane.inherited().map(|before| before.vlans.clone());
        for write in reconciler.retired() {
            write.apply(&mut dataplane)?;
        }
        let mut control = Self {
            vlans: Vlans::inherited(vlans.into_iter().flatten()),
            dataplane,
            reconciler,
            services,
            settings,
            orphaned_after: asked.then_some(orphaned_after),
        };
        control.write_settings()?;
        let vlans: Vec<_> = control.vlans.all().collect();
        control.write_vlans(&vlans)?;
        for position in 0..control.services.len() {
            control.reconcile(position)?;
        }
        // Last: without its bits the program doesn't even look.
        control.dataplane.set_prefilter(prefilter)?;
        Ok(control)
    }

    /// The data plane, for reading.
    pub(crate) fn dataplane(&self) -> &Dataplane {
        &self.dataplane
    }

    /// The data plane, for replacing an earlier one.
    pub(crate) const fn dataplane_mut(&mut self) -> &mut Dataplane {
        &mut self.dataplane
    }

    /// Services in the order of the configuration.
    pub(crate) fn services(&self) -> &[Controlled] {
        &self.services
    }

    /// The service of a flow.
    pub(crate) fn service_of(&self, service: u8) -> Option<&Controlled> {
        self.services.get(self.reconciler.position(service.into())?)
    }

    /// The number of a service, by which its flows and its counters know it.
    pub(crate) fn id(&self, position: usize) -> Option<u16> {
        self.reconciler.id(position)
    }

    /// Address of the server of a flow.
    pub(crate) fn server_of(&self, service: u8, backend: u16) -> Option<SocketAddr> {
        let known = self.known_server(service, backend);
        known
            .map(|server| server.address)
            .or_else(|| self.reconciler.retired_server(backend))
    }

    /// The server of a flow, if the configuration still names it.
    fn known_server(&self, service: u8, backend: u16) -> Option<&ControlledServer> {
        let service = self.reconciler.position(service.into())?;
        let server = self.reconciler.server(service, backend)?;
        self.services.get(service)?.servers.get(server)
    }

    /// Advances the coarse clock to `tick` seconds, and sweeps the part of the flow table whose turn
    /// it is.
    fn tick(&mut self, tick: u32) -> Result<(), MapAccessError> {
        self.settings.tick = tick;
        self.spread();
        self.write_settings()?;
        for (position, service) in self.services.iter().enumerate() {
            let write = self
                .reconciler
                .forget_previous(position, &service.desired, tick);
            if let Some(write) = write {
                write.apply(&mut self.dataplane)?;
            }
        }
        for service in &mut self.services {
            for minimum in &mut service.minimums {
                minimum.look(&service.name, &service.servers);
            }
        }
        let ended = self.sweep(self.dataplane.flows()) + self.sweep(self.dataplane.flows6());
        if ended > 0 {
            tracing::debug!(entries = ended, "idle flows ended");
        }
        Ok(())
    }

    /// Gives up the core of a flow table that has become too small for its flows.
    fn spread(&mut self) {
        let Settings {
            flow_core,
            flow6_core,
            ..
        } = &mut self.settings;
        if *flow_core == CORE_FIRST && core_is_crowded(self.dataplane.flows()) {
            *flow_core = CORE_SPREAD;
        }
        if *flow6_core == CORE_FIRST && core_is_crowded(self.dataplane.flows6()) {
            *flow6_core = CORE_SPREAD;
        }
    }

    /// Writes the settings, and with them that the daemon is alive.
    fn write_settings(&mut self) -> Result<(), MapAccessError> {
        self.settings.alive_until = self.orphaned_after.map_or(0, alive_until);
        self.dataplane.set_settings(&self.settings)
    }

    /// Ends the flows that are due in the part of a table whose turn it is; the number of entries that are free now.
    fn sweep<F: Family>(&self, flows: &MappedFlows<F>) -> u32 {
        let table = Table::new(flows, &self.settings);
        let due = flows
            .chunks(flows.len().div_ceil(SWEEP_PARTS))
            .nth(self.settings.tick as usize % SWEEP_PARTS);
        let sets = due.into_iter().flatten();
        sets.map(|set| table.sweep(set, |flow| self.fate(flow)))
            .sum()
    }

    /// What is to become of a flow.
    fn fate<F: Family>(&self, flow: &FlowSnapshot<F>) -> Fate<'_> {
        // Of a flow of nobody, which an earlier configuration opened, nobody can say when it ends.
        let Some(service) = self.service_of(flow.service) else {
            return Fate::End;
        };
        let server = self.known_server(flow.service, flow.backend);
        let failed = server.is_some_and(ControlledServer::failed);
        if failed && service.ending.cut_failed {
            Fate::End
        } else {
            Fate::Age(&service.ending.timeouts)
        }
    }

    /// Takes a server's new health. The health monitor has logged the change.
    pub(crate) fn health_changed(
        &mut self,
        service: usize,
        server: usize,
        health: health::Health,
    ) -> Result<(), MapAccessError> {
        let Some(server) = self.server_mut(service, server) else {
            return Ok(());
        };
        server.healthy = health.up;
        server.reason = health.reason;
        if let Some(http) = &server.http {
            http.set_up(health.up);
        }
        self.reconcile(service)
    }

    /// Takes what the kernel said about the way to an L4 server.
    pub(crate) fn next_hop_resolved(
        &mut self,
        service: usize,
        server: usize,
        next_hop: Result<NextHop, NoNextHop>,
    ) -> Result<(), MapAccessError> {
        let Some(entry) = self.services.get_mut(service) else {
            return Ok(());
        };
        let (Some(desired), Some(known)) = (
            entry.desired.servers.get_mut(server),
            entry.servers.get_mut(server),
        ) else {
            return Ok(());
        };
        let next_hop = match next_hop {
            Ok(hop)
                if entry.desired.forward == Mode::Dsr && hop.neighbour != known.address.ip() =>
            {
                Err(NoNextHop::NotOnLink(known.address.ip(), hop.neighbour))
            }
            found => found,
        };
        let next_hop = next_hop.map(|hop| NextHop {
            link: self.vlans.link(hop.link),
            ..hop
        });
        let unreachable = next_hop.as_ref().err().map(ToString::to_string);
        if unreachable == known.unreachable && next_hop.as_ref().ok() == desired.next_hop.as_ref() {
            return Ok(());
        }
        let (service_name, server_name) = (&entry.name, &known.name);
        if let Some(why) = &unreachable {
            tracing::warn!(service = service_name, server = server_name, %why, "no way to the server");
        } else {
            tracing::info!(
                service = service_name,
                server = server_name,
                "way to the server known"
            );
        }
        desired.next_hop = next_hop.ok();
        known.unreachable = unreachable;
        self.reconcile(service)
    }

    /// Takes the host's VLAN devices.
    pub(crate) fn vlans_found(&mut self, found: &[VlanDevice]) -> Result<(), MapAccessError> {
        let (changes, left_out) = self.vlans.update(found);
        if left_out > 0 && !changes.is_empty() {
            tracing::warn!(
                left_out,
                "more VLANs than lb knows; their packets are passed"
            );
        }
        self.write_vlans(&changes)
    }

    fn write_vlans(&mut self, changes: &[Change]) -> Result<(), MapAccessError> {
        for change in changes {
            match change {
                Change::Set(index, vlan) => self.dataplane.set_vlan(*index, vlan)?,
                Change::Clear(index, key) => self.dataplane.clear_vlan(*index, key)?,
            }
        }
        Ok(())
    }

    /// Where new connections of a worker's service begin: on the host's stack, or with the worker.
    pub(crate) fn begin_on_stack(
        &mut self,
        position: usize,
        begins_on_stack: bool,
    ) -> Result<bool, MapAccessError> {
        let mut before = begins_on_stack;
        if let Some(service) = self.services.get_mut(position) {
            before = mem::replace(&mut service.desired.begins_on_stack, begins_on_stack);
        }
        self.reconcile(position)?;
        Ok(before)
    }

    fn server_mut(&mut self, service: usize, server: usize) -> Option<&mut ControlledServer> {
        self.services.get_mut(service)?.servers.get_mut(server)
    }

    fn reconcile(&mut self, position: usize) -> Result<(), MapAccessError> {
        let Some(service) = self.services.get_mut(position) else {
            return Ok(());
        };
        for (desired, server) in service.desired.servers.iter_mut().zip(&service.servers) {
            desired.up = server.healthy && !server.drained;
        }
        let tick = self.settings.tick;
        for write in self.reconciler.diff(position, &service.desired, tick) {
            write.apply(&mut self.dataplane)?;
        }
        Ok(())
    }
}

/// When a daemon that shows no sign of life from now on has been gone for `patience`, by the clock that the program reads.
fn alive_until(patience: Duration) -> u64 {
    // Every Linux has this clock; without it services go on, which is what they do by default.
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).map_or(Duration::MAX, Duration::from);
    let until = now.saturating_add(patience).as_nanos();
    u64::try_from(until).unwrap_or(u64::MAX)
}

/// The program's clock: one tick a second, and with each a part of the sweep. Returns only on error.
pub(crate) async fn tick(control: &RefCell<Control>) -> Result<(), MapAccessError> {
    let start = Instant::now();
    // Not zero if the flows of an earlier daemon were taken over, which counted before.
    let first = control.borrow().settings.tick;
    let mut seconds = interval(Duration::from_secs(1));
    // The clock may skip after a pause, but must never run fast to catch up.
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        seconds.tick().await;
        // 136 years; and what is compared is differences, which survive a wrap.
        #[expect(
            clippy::cast_possible_truncation,
            reason = "wraps after 136 years, harmlessly"
        )]
        let elapsed = start.elapsed().as_secs() as u32;
        control.borrow_mut().tick(first.wrapping_add(elapsed))?;
    }
}

/// Takes changes from the health monitor. Returns only on error, or when the monitor is gone.
pub(crate) async fn follow_health(
    control: &RefCell<Control>,
    mut changes: mpsc::Receiver<health::Change>,
) -> Result<(), MapAccessError> {
    while let Some(health::Change {
        service,
        server,
        health,
    }) = changes.recv().await
    {
        control
            .borrow_mut()
            .health_changed(service, server, health)?;
    }
    Ok(())
}
