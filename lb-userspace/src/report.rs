//! Puts together what the admin socket answers, from the control loop's state, the counters and the
//! flow table.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use lb_config::{Begin, Mode};
use lb_proxy::tls::Shown;
use lb_proxy::{Action, Counters, Feed, Kind, Queue, RelayService, Route, Service, Watcher};
use lb_transport::{Why, af_xdp};
use lb_xsk::{Socket, StatisticsReader};
use tokio::time::Instant;

use crate::admin::{
    Answers, CertificateStatus, Counter, HandoverStatus, InterfaceStatus, ReasonStatus,
    RouteStatus, SeenCertificate, ServerStatus, ServiceStatus, Status,
};
use crate::carrier::{Chosen, Decision};
use crate::compose::{Plan, PlannedService};
use crate::control::drift::Board;
use crate::control::files::Problems;
use crate::control::{Control, Controlled, Done, Order};
use crate::doctor::{self, Diagnosis};
use crate::explain::{self, Outcome, Question};
use crate::flows::{self, Flows, Names, Query};
use crate::worker::{Carrier, Inquiry, Inside, Tally};

/// What doesn't change while the daemon runs, and where to read what does.
pub(crate) struct Reporter {
    started: Instant,
    interfaces: Vec<ReportedInterface>,
    services: Vec<Reported>,
    names: Names,
    drift: Board,
    problems: Problems,
    warnings: Vec<String>,
}

struct ReportedInterface {
    name: String,
    ifindex: u32,
    queues: u32,
    sockets: Vec<StatisticsReader>,
}

impl ReportedInterface {
    fn status(&self) -> anyhow::Result<InterfaceStatus> {
        let mut status = InterfaceStatus {
            name: self.name.clone(),
            queues: self.queues,
            af_xdp_sockets: u32::try_from(self.sockets.len()).unwrap_or(u32::MAX),
            rx_dropped: 0,
            rx_ring_full: 0,
        };
        for socket in &self.sockets {
            // A socket is gone only while the daemon stops.
            let Some(statistics) = socket.read()? else {
                continue;
            };
            status.rx_dropped += statistics.rx_dropped;
            status.rx_ring_full += statistics.rx_ring_full;
        }
        Ok(status)
    }
}

struct Reported {
    mode: &'static str,
    transport_reason: Option<String>,
    http: Option<Arc<Service>>,
    tcp: Option<Arc<RelayService>>,
    tally: Arc<Tally>,
    /// Where connections begin that may move; `None` if they don't.
    begin: Option<Begin>,
    /// Why none can although they should.
    stays: Option<String>,
}

/// What one worker says for the status.
struct Told {
    counters: af_xdp::Counters,
    /// Connections that have moved and are not over, by the address that they were made to.
    moved: HashMap<SocketAddr, Moves>,
}

/// How many, in the order of [`Why::ALL`].
type Moves = [u64; Why::ALL.len()];

impl Told {
    fn by(worker: &Inside) -> Self {
        let mut told = Self {
            counters: worker.engine().counters(),
            moved: HashMap::new(),
        };
        worker.engine().for_each_moved(|key, why, _, _| {
            let by_reason = told.moved.entry(key.local).or_default();
            if let Some(count) = by_reason.get_mut(why as usize) {
                *count += 1;
            }
        });
        told
    }
}

impl Reported {
    fn counters(&self) -> Vec<Counter> {
        let http = self.http.iter().flat_map(|http| counters(&http.counters));
        let tcp = self.tcp.iter().flat_map(|tcp| {
            let bytes = [("bytes_in", &tcp.bytes_in), ("bytes_out", &tcp.bytes_out)];
            let bytes = bytes.map(|(name, counter)| Counter {
                name: name.to_owned(),
                value: counter.get(),
            });
            bytes.into_iter().chain(counters(&tcp.counters))
        });
        http.chain(tcp).collect()
    }

    fn handover(&self, controlled: &Controlled, workers: &[Told]) -> Option<HandoverStatus> {
        let begin = self.begin?;
        let listen = controlled.desired.listen;
        let mut moved = self.tally.moved();
        for moves in workers.iter().filter_map(|told| told.moved.get(&listen)) {
            moved
                .iter_mut()
                .zip(moves)
                .for_each(|(all, more)| *all += more);
        }
        let counter = |(why, value)| Counter {
            name: flows::reason(why).to_owned(),
            value,
        };
        let on_kernel = controlled.desired.begins_on_stack;
        Some(HandoverStatus {
            begins_on: if on_kernel { "kernel" } else { "af_xdp" }.to_owned(),
            adaptive: begin == Begin::Adaptive,
            unfit: self.stays.clone(),
            moved: Why::ALL.into_iter().zip(moved).map(counter).collect(),
            stayed: self.tally.stayed(),
            ended: self.tally.ended(),
            bulk: self.tally.bulk(),
        })
    }

    fn routes(&self, controlled: &Controlled) -> Vec<RouteStatus> {
        let http = self.http.iter().flat_map(|http| &http.routes).map(|taken| {
            let requests = taken.counters.requests.get();
            route(&taken.name, requests, queue(taken), controlled)
        });
        let tcp = self.tcp.iter().map(|tcp| {
            let connections = tcp.counters.client_connections.get();
            route(
                &tcp.name,
                connections,
                Some(&tcp.balancing.queue),
                controlled,
            )
        });
        http.chain(tcp).collect()
    }
}

/// What is done with a service's connections, and how they get here.
pub(crate) fn mode(service: &lb_config::Service, carrier: Option<Carrier>) -> &'static str {
    match (&service.mode, carrier) {
        (Mode::Tcp(_), Some(Carrier::AfXdp | Carrier::Both)) => "tcp/af_xdp",
        (Mode::Tcp(_), Some(Carrier::Kernel)) => "tcp/kernel",
        (_, Some(Carrier::AfXdp | Carrier::Both)) => "http/af_xdp",
        (_, Some(Carrier::Kernel)) => "http/kernel",
        (_, None) => "l4",
    }
}

impl Reporter {
    /// Notes what was decided at the start.
    pub(crate) fn new(plan: &Plan, decision: &Decision) -> Self {
        let interfaces = decision.ports.iter().map(|port| ReportedInterface {
            name: port.name.clone(),
            ifindex: port.ifindex,
            queues: port.queues,
            sockets: port.sockets.iter().map(Socket::statistics).collect(),
        });
        let services = plan
            .services
            .iter()
            .zip(&plan.config.services)
            .zip(&decision.carriers)
            .map(|((planned, service), chosen)| reported(planned, service, chosen.as_ref()));
        Self {
            started: Instant::now(),
            interfaces: interfaces.collect(),
            services: services.collect(),
            drift: Board::default(),
            problems: Problems::default(),
            warnings: plan.warnings(),
            names: Arc::new(
                plan.config
                    .services
                    .iter()
                    .map(|service| (service.listen, service.name.as_str().to_owned()))
                    .collect(),
            ),
        }
    }

    /// What is known of servers' certificates.
    pub(crate) fn drift(&self) -> Board {
        self.drift.clone()
    }

    /// What is wrong with files.
    pub(crate) fn problems(&self) -> Problems {
        self.problems.clone()
    }

    fn servers(&self, position: usize, service: &Controlled) -> Vec<ServerStatus> {
        // Of L4 only, and then one for each server.
        let weights = service.desired.servers.iter().map(|server| server.weight);
        let mut weights = weights.chain(std::iter::repeat(1));
        let servers = service.servers.iter().enumerate();
        let status = servers.map(|(place, server)| ServerStatus {
            name: server.name.clone(),
            route: server.route.clone().filter(|route| *route != service.name),
            address: server.address,
            up: server.up(),
            reason: server.explain().to_owned(),
            weight: match (&server.http, weights.next()) {
                (Some(http), _) => http.weight().get(),
                (None, weight) => weight.unwrap_or(1),
            },
            drained: server.drained,
            backup: server.is_backup(),
            in_use: server.http.as_ref().map(|http| http.load().in_use()),
            max_connections: server
                .http
                .as_ref()
                .and_then(|http| http.limit())
                .map(NonZeroU32::get),
            certificate: self
                .drift
                .get(position, place)
                .map(|drift| SeenCertificate {
                    state: drift.name().to_owned(),
                    detail: drift.explain(),
                }),
        });
        status.collect()
    }

    fn counters(&self, position: usize, reported: &Reported) -> Vec<Counter> {
        let proxy = reported.counters();
        let drifts = self.drift.found(position).map(|value| Counter {
            name: "certificate_drifts".to_owned(),
            value,
        });
        proxy.into_iter().chain(drifts).collect()
    }

    fn status(&self, control: &Control, workers: &[Told]) -> anyhow::Result<Status> {
        let dataplane = control.dataplane();
        let mut services = Vec::new();
        let pairs = self.services.iter().zip(control.services());
        for (position, (reported, controlled)) in pairs.enumerate() {
            let id = control.id(position).context("a service without a number")?;
            let counted = dataplane.service_counters(id)?;
            services.push(ServiceStatus {
                name: controlled.name.clone(),
                listen: controlled.desired.listen,
                mode: reported.mode.to_owned(),
                transport_reason: reported.transport_reason.clone(),
                handover: reported.handover(controlled, workers),
                servers: self.servers(position, controlled),
                packets: counted.packets,
                bytes: counted.bytes,
                flows: counted.flows,
                http: self.counters(position, reported),
                certificates: certificates(reported),
                file_problems: self.problems.of(position),
                routes: reported.routes(controlled),
            });
        }
        let reasons = dataplane
            .reasons()?
            .into_iter()
            .filter(|count| count.packets > 0);
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_seconds: self.started.elapsed().as_secs(),
            interfaces: self
                .interfaces
                .iter()
                .map(ReportedInterface::status)
                .collect::<Result<_, _>>()?,
            services,
            tcp: tcp_counters(workers),
            reasons: reasons
                .map(|count| ReasonStatus {
                    reason: count.reason.name().to_owned(),
                    packets: count.packets,
                    explanation: count.reason.explanation().to_owned(),
                })
                .collect(),
        })
    }
}

/// The answers of a running daemon.
pub(crate) struct Desk {
    /// What doesn't change.
    pub(crate) reporter: Reporter,
    /// What does.
    pub(crate) control: Rc<RefCell<Control>>,
    /// Who knows the connections that end here.
    pub(crate) inquiry: Inquiry,
    /// Where requests are told as they end.
    pub(crate) feed: Feed,
}

impl Answers for Desk {
    fn watch(&self) -> Watcher {
        self.feed.watch()
    }

    async fn status(&self) -> anyhow::Result<Status> {
        let workers = self.inquiry.ask(Told::by).await?;
        self.reporter.status(&self.control.borrow(), &workers)
    }

    async fn doctor(&self) -> anyhow::Result<Diagnosis> {
        Ok(doctor::diagnose(
            &self.status().await?,
            &self.reporter.warnings,
        ))
    }

    async fn flows(&self, query: &Query) -> anyhow::Result<Flows> {
        let (asked, names) = (query.clone(), Arc::clone(&self.reporter.names));
        let question = move |worker: &Inside| flows::terminated(worker, &asked, &names);
        let of_workers = self.inquiry.ask(question).await?;
        flows::list(&self.control.borrow(), query, of_workers)
    }

    fn drain(&self, order: &Order) -> anyhow::Result<Done> {
        self.control.borrow_mut().drain(order)
    }

    fn explain(&self, question: Question) -> anyhow::Result<Vec<Outcome>> {
        let interfaces = self.reporter.interfaces.iter();
        let interfaces = interfaces.map(|interface| (interface.name.as_str(), interface.ifindex));
        explain::answer(&self.control.borrow(), interfaces, question)
    }
}

/// What doesn't change of a service.
fn reported(
    planned: &PlannedService,
    service: &lb_config::Service,
    chosen: Option<&Chosen>,
) -> Reported {
    let begin = service.handover().map(|handover| handover.begin);
    let on_kernel = chosen.is_some_and(|chosen| chosen.carrier == Carrier::Kernel);
    Reported {
        mode: mode(service, chosen.map(|chosen| chosen.carrier)),
        transport_reason: chosen.map(|chosen| chosen.why.clone()),
        http: planned.http.clone(),
        tcp: planned.tcp.clone(),
        tally: Arc::clone(&planned.tally),
        begin: begin.filter(|_| !on_kernel),
        stays: chosen.and_then(|chosen| chosen.stays.clone()),
    }
}

/// The certificates that clients of the service are shown.
fn certificates(reported: &Reported) -> Vec<CertificateStatus> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
    let http = reported.http.as_ref().and_then(|http| http.tls.as_ref());
    let tcp = reported.tcp.as_ref().and_then(|tcp| tcp.tls.as_ref());
    let tls = http.or(tcp);
    let shown = tls.into_iter().flat_map(|tls| tls.shown());
    let status = shown.map(
        |Shown {
             leaf,
             file,
             staged,
             stapled,
             ..
         }| CertificateStatus {
            title: leaf.title().to_owned(),
            sha256: leaf.fingerprint.to_string(),
            days_left: (leaf.not_after - now).div_euclid(24 * 60 * 60),
            subject: leaf.subject,
            names: leaf.names,
            not_after: leaf.not_after_text,
            file: file.display().to_string(),
            staged,
            stapled,
        },
    );
    status.collect()
}

/// What is told of a route, or of all connections of a relay.
fn route(name: &str, requests: u64, queue: Option<&Queue>, controlled: &Controlled) -> RouteStatus {
    let mut minimums = controlled.minimums.iter();
    let minimum = minimums.find(|minimum| minimum.route == name);
    RouteStatus {
        name: name.to_owned(),
        requests,
        waiting: queue.map_or(0, Queue::waiting),
        queued: queue.map_or(0, |queue| queue.queued.get()),
        degraded: minimum.is_some_and(|minimum| minimum.is_missed(&controlled.servers)),
    }
}

fn queue(route: &Route) -> Option<&Queue> {
    match &route.action {
        Action::Forward(forwarding) => Some(&forwarding.balancing.queue),
        Action::Redirect(_) | Action::Respond(_) => None,
    }
}

/// Counters of all workers' TCP together; those that are 0 are left out.
fn tcp_counters(workers: &[Told]) -> Vec<Counter> {
    let mut all: Vec<Counter> = Vec::new();
    let named = workers.iter().map(|told| told.counters.named().enumerate());
    for (place, (name, value)) in named.flatten() {
        match all.get_mut(place) {
            Some(counter) => counter.value += value,
            None => all.push(Counter {
                name: name.to_owned(),
                value,
            }),
        }
    }
    all.retain(|counter| counter.value > 0);
    all
}

fn counters(counters: &Counters) -> Vec<Counter> {
    let named = [
        ("client_connections", &counters.client_connections),
        ("requests", &counters.requests),
        ("upstream_opened", &counters.upstream_opened),
        ("upstream_pinned", &counters.upstream_pinned),
        ("pool_reused", &counters.pool_reused),
        ("persistent_auth_true", &counters.persistent_auth_true),
        ("persistent_auth_false", &counters.persistent_auth_false),
        ("continues_relayed", &counters.continues_relayed),
        ("tunnels", &counters.tunnels),
        ("tunnel_bytes_received", &counters.tunnel_bytes_received),
        ("tunnel_bytes_sent", &counters.tunnel_bytes_sent),
    ];
    let named = named.map(|(name, counter)| (name.to_owned(), counter.get()));
    let classes = (1..=5)
        .filter_map(|class| Some((format!("responses_{class}xx"), counters.responses(class)?)));
    let errors = Kind::ALL
        .iter()
        .map(|&kind| (format!("error_{}", kind.name()), counters.errors(kind)));
    let all = named.into_iter().chain(classes).chain(errors);
    all.map(|(name, value)| Counter { name, value }).collect()
}
