//! Puts together what the admin socket answers, from the control loop's state, the counters and the
//! flow table.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use lb_proxy::tls::Shown;
use lb_proxy::{Counters, Kind, Service};
use lb_transport::af_xdp::{self, Handle};
use lb_xsk::{Socket, StatisticsReader};
use tokio::time::Instant;

use crate::admin::{
    Answers, CertificateStatus, Counter, InterfaceStatus, ReasonStatus, SeenCertificate,
    ServerStatus, ServiceStatus, Status,
};
use crate::carrier::Decision;
use crate::compose::Plan;
use crate::control::drift::Board;
use crate::control::files::Problems;
use crate::control::{Control, Controlled, Done, Order};
use crate::doctor::{self, Diagnosis};
use crate::explain::{self, Outcome, Question};
use crate::flows::{self, Flows, Names, Query};
use crate::worker::{Carrier, Inquiry};

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
            .zip(&decision.carriers)
            .map(|(planned, carrier)| Reported {
                mode: match carrier {
                    Some((Carrier::AfXdp, _)) => "http/af_xdp",
                    Some((Carrier::Kernel, _)) => "http/kernel",
                    None => "l4",
                },
                transport_reason: carrier.as_ref().map(|(_, why)| why.clone()),
                http: planned.http.clone(),
            });
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
        let servers = service.servers.iter().enumerate();
        let status = servers.map(|(place, server)| ServerStatus {
            name: server.name.clone(),
            route: server.route.clone().filter(|route| *route != service.name),
            address: server.address,
            up: server.up(),
            reason: server.explain().to_owned(),
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
        let proxy = reported.http.iter();
        let proxy = proxy.flat_map(|http| counters(&http.counters));
        let drifts = self.drift.found(position).map(|value| Counter {
            name: "certificate_drifts".to_owned(),
            value,
        });
        proxy.chain(drifts).collect()
    }

    fn status(&self, control: &Control, workers: &[af_xdp::Counters]) -> anyhow::Result<Status> {
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
                servers: self.servers(position, controlled),
                packets: counted.packets,
                bytes: counted.bytes,
                flows: counted.flows,
                http: self.counters(position, reported),
                certificates: certificates(reported),
                file_problems: self.problems.of(position),
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
}

impl Answers for Desk {
    async fn status(&self) -> anyhow::Result<Status> {
        let workers = self.inquiry.ask(Handle::counters).await?;
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
        let question = move |engine: &Handle| flows::terminated(engine, &asked, &names);
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

/// The certificates that clients of the service are shown.
fn certificates(reported: &Reported) -> Vec<CertificateStatus> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
    let tls = reported.http.as_ref().and_then(|http| http.tls.as_ref());
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

/// Counters of all workers' TCP together; those that are 0 are left out.
fn tcp_counters(workers: &[af_xdp::Counters]) -> Vec<Counter> {
    let mut all: Vec<Counter> = Vec::new();
    for (place, (name, value)) in workers.iter().flat_map(|worker| worker.named().enumerate()) {
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
