//! From a configuration to what runs: the only place that knows both `lb-config` and `lb-proxy`.
//!
//! [`load`] reads the file and every file it names, so that `lb check` and `lb run` find the same
//! mistakes, all of them at once, before anything on the host is changed.

mod admission;
mod balance;
mod controlled;
mod handover;
mod relay;
mod routes;
mod rules;
mod tls;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use lb_config::{Check, Config, Health, Http, Mode, PoolOf, WhenDaemonGone};
use lb_ebpf::abi::{
    ACCESS_GLOBAL, AccessPrefix, SERVICE_FLAG_LISTED, SERVICE_FLAG_LISTED_GLOBALLY,
};
use lb_proxy::tls::{Alpn, Error};
use lb_proxy::{ClientTimeouts, CookieKey, Counters, Entrance, Feed, RelayService, Service};

pub(crate) use admission::Lists;

use crate::cli::Failure;
use crate::control::drift::Watch;
use crate::control::files::Watched;
use crate::control::health::{Probe, Target};
use crate::control::{Controlled, DesiredService};
use crate::dataplane::Sizing;
use crate::keys;
use crate::worker::{Carrier, Tally};

/// A configuration with everything that it names read in.
pub(crate) struct Plan {
    path: PathBuf,
    /// The configuration.
    pub(crate) config: Config,
    /// One for each service of the configuration, in its order.
    pub(crate) services: Vec<PlannedService>,
    /// Who may connect to any of them.
    pub(crate) lists: Lists,
    /// Where the requests of all of them are told.
    pub(crate) feed: Feed,
}

/// What a service needs besides its configuration.
pub(crate) struct PlannedService {
    /// The proxy's service; `None` unless its mode is "http".
    pub(crate) http: Option<Arc<Service>>,
    /// The relay's; `None` unless its mode is "tcp".
    pub(crate) tcp: Option<Arc<RelayService>>,
    /// Who may connect to it.
    pub(crate) lists: Lists,
    /// What becomes of its connections.
    pub(crate) tally: Arc<Tally>,
    /// Of each of its pools.
    probes: Vec<Option<Probe>>,
}

impl PlannedService {
    /// The servers of a service that is proxied or relayed, of one pool after the other.
    fn proxied(&self) -> impl Iterator<Item = Arc<lb_proxy::Server>> {
        let http = self.http.iter().flat_map(|http| routes::servers(http));
        let tcp = self.tcp.iter().flat_map(|tcp| &tcp.servers);
        http.chain(tcp.map(Arc::clone))
    }
}

/// Reads the configuration and the files it names.
pub(crate) fn load(path: &Path) -> Result<Plan, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::Config(format!(
            "lb: {}: {error}; `--config` names the file",
            path.display()
        ))
    })?;
    plan(path, &text)
}

/// As [`load`], of a file with this text.
pub(crate) fn plan(path: &Path, text: &str) -> Result<Plan, Failure> {
    let config = lb_config::parse(text).map_err(|errors| {
        Failure::Config(errors.in_file(&path.display().to_string()).to_string())
    })?;
    let directory = path.parent().unwrap_or(Path::new(""));
    let secret = config.flows.hash_key.as_ref();
    let cookie_key = keys::cookie(secret.map(lb_config::HashKey::as_str))
        .context("reading a random key for cookies")?;
    let cookie_key = CookieKey(cookie_key);
    let mut services = Vec::new();
    let mut errors = String::new();
    let lists = Lists::load(&config.access, directory).unwrap_or_else(|error| {
        let _ = writeln!(errors, "{}: {error}", path.display());
        Lists::default()
    });
    let access = Arc::new(lists.access());
    let feed = Feed::default();
    for service in &config.services {
        match planned(service, &access, directory, cookie_key, &feed) {
            Ok(planned) => services.push(planned),
            // Each file is named in its own error; the service says where to look in the configuration.
            Err(error) => {
                let _ = writeln!(
                    errors,
                    "{}: service {:?}: {error}",
                    path.display(),
                    service.name.as_str()
                );
            }
        }
    }
    if errors.is_empty() {
        Ok(Plan {
            path: path.to_owned(),
            config,
            services,
            lists,
            feed,
        })
    } else {
        Err(Failure::Config(errors))
    }
}

/// Why a file that the configuration names can't be used.
#[derive(Debug, thiserror::Error)]
enum Unreadable {
    #[error(transparent)]
    Tls(#[from] Error),
    #[error(transparent)]
    Page(#[from] rules::BadPage),
    #[error("deny_file: {0}")]
    Lists(String),
}

fn planned(
    service: &lb_config::Service,
    access: &Arc<lb_proxy::Access>,
    directory: &Path,
    cookie_key: CookieKey,
    feed: &Feed,
) -> Result<PlannedService, Unreadable> {
    let lists = Lists::load(&service.access, directory).map_err(Unreadable::Lists)?;
    let own = Arc::new(lists.access());
    let entrance = |limits| admission::entrance(service, limits, [access, &own]);
    let (mut http, mut tcp) = (None, None);
    match &service.mode {
        Mode::Http(settings) => {
            let entrance = entrance(&settings.limits);
            http = Some(Arc::new(http_service(
                service, settings, entrance, directory, cookie_key, feed,
            )?));
        }
        Mode::Tcp(settings) => {
            let entrance = entrance(&settings.limits);
            tcp = Some(Arc::new(relay::service(
                service, settings, entrance, directory, cookie_key,
            )?));
        }
        Mode::L4(_) => {}
    }
    let pools = service.pools();
    let probes = pools.iter().map(|pool| probe(pool.health, directory));
    Ok(PlannedService {
        http,
        tcp,
        lists,
        tally: Arc::default(),
        probes: probes.collect::<Result<_, _>>()?,
    })
}

/// What the checks of a pool do; `None` if it has none.
fn probe(health: &Health, directory: &Path) -> Result<Option<Probe>, Error> {
    let Health::Checked { check, .. } = health else {
        return Ok(None);
    };
    Ok(Some(match check {
        Check::Tcp => Probe::Tcp,
        Check::Http(get) => Probe::Http(get.clone()),
        Check::Https(get, tls) => Probe::Https(get.clone(), tls::upstream_tls(tls, directory)?),
        Check::Greeting(greeting, None) => Probe::Greeting(greeting.clone(), None),
        Check::Greeting(greeting, Some(tls)) => {
            let tls = tls::upstream_with(tls, Alpn::Nothing, directory)?;
            Probe::Greeting(greeting.clone(), Some(tls))
        }
    }))
}

fn http_service(
    service: &lb_config::Service,
    http: &Http,
    entrance: Entrance,
    directory: &Path,
    cookie_key: CookieKey,
    feed: &Feed,
) -> Result<Service, Unreadable> {
    let tls = match &http.tls {
        Some(tls) => {
            let alpn = if tls.http2 { Alpn::Http2 } else { Alpn::Http1 };
            Some(tls::server_tls(tls, alpn, directory)?)
        }
        None => None,
    };
    let common = balance::Common::new(cookie_key, http.tls.as_ref());
    let routes = http
        .routes
        .iter()
        .map(|route| routes::route(service, route, &common, directory));
    let (limits, default) = (&http.limits, ClientTimeouts::default());
    Ok(Service {
        name: service.name.as_str().to_owned(),
        routes: routes.collect::<Result<_, _>>()?,
        tls,
        timeouts: ClientTimeouts {
            idle: http.idle_timeout,
            request_head: limits.request_head.unwrap_or(default.request_head),
            tls_handshake: limits.tls_handshake.unwrap_or(default.tls_handshake),
        },
        counters: Arc::new(Counters::default()),
        entrance,
        max_headers: limits
            .headers
            .and_then(|max| usize::try_from(max.get()).ok()),
        max_header_bytes: limits
            .header_bytes
            .and_then(|max| usize::try_from(max.get()).ok()),
        requests: admission::requests(&limits.requests),
        hsts: http.hsts.as_ref().map(rules::hsts),
        error_pages: rules::error_pages(&http.error_pages, directory)?,
        bulk: http.handover.map(handover::bulk),
        feed: Feed::clone(feed),
    })
}

impl Plan {
    /// How large the tables must be.
    pub(crate) fn sizing(&self) -> Sizing {
        Sizing {
            flows: self.config.flows.max.get(),
            flows6: if self.has_ipv6_flows() {
                self.config.flows.max.get()
            } else {
                0
            },
            services: u32::try_from(self.config.services.len()).unwrap_or(u32::MAX),
        }
    }

    /// Whether a service of mode "l4" shall be left to the stack when the daemon is gone.
    pub(crate) fn asks_for_stack(&self) -> bool {
        let mut services = self.config.services.iter();
        services.any(|service| match &service.mode {
            Mode::L4(l4) => l4.when_daemon_gone == WhenDaemonGone::Pass,
            Mode::Http(_) | Mode::Tcp(_) => false,
        })
    }

    /// Whether there are flows of IPv6: what is proxied has none.
    fn has_ipv6_flows(&self) -> bool {
        let mut services = self.config.services.iter();
        services.any(|service| matches!(service.mode, Mode::L4(_)) && service.listen.is_ipv6())
    }

    /// Every service as the control loop starts with it. `carriers` holds the transport of each
    /// HTTP service, in the order of the configuration, and `None` for L4.
    pub(crate) fn controlled(&self, carriers: &[Option<Carrier>]) -> Vec<Controlled> {
        let services = self
            .config
            .services
            .iter()
            .zip(&self.services)
            .zip(carriers);
        services
            .map(|((service, planned), carrier)| Controlled {
                name: service.name.as_str().to_owned(),
                desired: self.listed(service, planned, controlled::desired(service, *carrier)),
                ending: controlled::ending(service),
                servers: controlled::servers(service, planned),
                minimums: controlled::minimums(service),
            })
            .collect()
    }

    /// With the lists that the program holds.
    fn listed(
        &self,
        service: &lb_config::Service,
        planned: &PlannedService,
        mut desired: DesiredService,
    ) -> DesiredService {
        // Behind another balancer the program sees nothing but that one.
        if service.accept_proxy_protocol().is_empty() {
            if !self.lists.is_empty() {
                desired.flags |= SERVICE_FLAG_LISTED_GLOBALLY;
            }
            if !planned.lists.is_empty() {
                desired.flags |= SERVICE_FLAG_LISTED;
            }
        }
        desired
    }

    /// The networks that the program holds against clients of the services with these numbers, which are in the order of the
    /// configuration.
    pub(crate) fn access(&self, numbers: &[u16]) -> impl Iterator<Item = AccessPrefix> {
        let own = self.services.iter().zip(numbers);
        let own = own.flat_map(|(service, &number)| service.lists.elements(number.into()));
        self.lists.elements(ACCESS_GLOBAL).chain(own)
    }

    /// What the health monitor shall probe. A server is known by its place among those of all pools of its service.
    pub(crate) fn targets(&self) -> Vec<Target> {
        let mut targets = Vec::new();
        for (id, (service, planned)) in self.config.services.iter().zip(&self.services).enumerate()
        {
            let proxied: Vec<_> = planned.proxied().collect();
            let mut first = 0;
            for (pool, probe) in service.pools().iter().zip(&planned.probes) {
                let servers = pool.servers.iter().enumerate();
                if let (Health::Checked { schedule, .. }, Some(probe)) = (pool.health, probe) {
                    targets.extend(servers.map(|(index, server)| Target {
                        service: id,
                        server: first + index,
                        label: label(service, pool, server),
                        address: server.address,
                        probe: probe.clone(),
                        schedule: *schedule,
                        proxied: proxied.get(first + index).map(Arc::clone),
                        introduction: introduction(pool.proxy_protocol),
                    }));
                }
                first += pool.servers.len();
            }
        }
        targets
    }

    /// What is legal but costs something, a line each.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let file = self.config.warnings.iter().map(ToString::to_string);
        let services = self.config.services.iter().zip(&self.services);
        let of_tls = services.flat_map(|(service, planned)| tls::warnings(service, planned));
        file.chain(of_tls).chain(self.few_files()).collect()
    }

    /// Everything that is made anew when files change.
    pub(crate) fn watched_files(&self) -> Vec<Watched> {
        let services = self.config.services.iter().zip(&self.services);
        let watched = services
            .enumerate()
            .flat_map(|(position, (service, planned))| {
                let label = service.name.as_str().to_owned();
                tls::reloads(planned).into_iter().map(move |made| Watched {
                    service: position,
                    label: label.clone(),
                    made,
                })
            });
        watched.collect()
    }

    /// The servers whose certificates are compared with ours.
    pub(crate) fn drift_watches(&self) -> Vec<Watch> {
        let services = self.config.services.iter().zip(&self.services);
        let watches = services
            .enumerate()
            .flat_map(|(position, (service, planned))| {
                tls::drift_watches(position, service, planned)
            });
        watches.collect()
    }

    /// What `lb check` prints: that all is well, what it will cost, and what is legal but unwise.
    pub(crate) fn describe(&self) -> String {
        let mut text = format!("{}: no mistakes\n", self.path.display());
        for service in &self.config.services {
            let mode = match &service.mode {
                Mode::Http(_) => "http".to_owned(),
                Mode::Tcp(_) => "tcp".to_owned(),
                Mode::L4(l4) => format!("l4/{} {}", l4.forward.name(), service.protocol),
            };
            let (name, listen, pools) = (&service.name, service.listen, service.pools());
            let servers: usize = pools.iter().map(|pool| pool.servers.len()).sum();
            let _ = writeln!(text, "service {name} {listen} {mode}, {servers} servers");
            if let Mode::Http(http) = &service.mode {
                routes::describe(&mut text, service, http);
            }
        }
        let (flows, megabytes) = (self.config.flows.max, self.sizing().bytes() >> 20);
        let families = if self.has_ipv6_flows() {
            " of each family"
        } else {
            ""
        };
        let _ = writeln!(text, "flow table: {flows} flows{families}, {megabytes} MiB");
        for warning in self.warnings() {
            let _ = writeln!(text, "warning: {}:{warning}", self.path.display());
        }
        text
    }
}

/// What a probe has to say first.
fn introduction(proxy_protocol: Option<lb_config::ProxyProtocol>) -> Vec<u8> {
    let version = proxy_protocol.map(admission::proxy_protocol);
    version.map_or_else(Vec::new, |version| lb_proxy::proxy_header(version, None))
}

/// How a server is called in the log: `service/server`, or `service/route/server`.
fn label(service: &lb_config::Service, pool: &PoolOf<'_>, server: &lb_config::Server) -> String {
    match pool.route {
        // A service without routes has one that is called as it is.
        Some(route) if *route != service.name => {
            format!("{}/{route}/{}", service.name, server.name)
        }
        _ => format!("{}/{}", service.name, server.name),
    }
}
