//! From how a configuration spreads requests to how a proxy does.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use lb_config::{BalanceMethod, Symptom as Failure};
use lb_proxy::{
    Balancing, Cookie, CookieKey, Load, Method, Passive, Persistence, Queue, Role, Server, Sources,
    Symptom,
};

/// What the routes of one service have in common.
pub(super) struct Common {
    /// A machine has one load, whichever routes it serves.
    loads: RefCell<BTreeMap<SocketAddr, Arc<Load>>>,
    cookie_key: CookieKey,
    /// Of cookies that clients get.
    attributes: &'static str,
}

impl Common {
    /// Of a service whose clients come over TLS, or don't.
    pub(super) fn new(cookie_key: CookieKey, tls: Option<&lb_config::Tls>) -> Self {
        Self {
            loads: RefCell::default(),
            cookie_key,
            attributes: if tls.is_some() { "; Secure" } else { "" },
        }
    }

    /// The servers of a route.
    pub(super) fn servers(&self, servers: &[lb_config::Server]) -> Vec<Arc<Server>> {
        let mut loads = self.loads.borrow_mut();
        let server = |server: &lb_config::Server| {
            // Checked: only servers of L4 may have no weight.
            let weight = NonZeroU16::new(server.weight).unwrap_or(NonZeroU16::MIN);
            let role = if server.is_backup {
                Role::Backup
            } else {
                Role::Primary
            };
            let load = Arc::clone(loads.entry(server.address).or_default());
            let server = Server::new(server.name.as_str(), server.address, weight)
                .with_role(role)
                .with_limit(server.max_connections)
                .with_load(load);
            Arc::new(server)
        };
        servers.iter().map(server).collect()
    }

    /// How requests are spread over `servers`.
    pub(super) fn balancing(
        &self,
        rules: &lb_config::Balancing,
        servers: &[Arc<Server>],
    ) -> Balancing {
        let persistence = rules.persistence.as_ref().and_then(|persistence| {
            Some(match persistence {
                lb_config::Persistence::Source(timeout) => {
                    Persistence::Source(Sources::new(*timeout))
                }
                // Checked: the name is a token.
                lb_config::Persistence::Cookie(name) => Persistence::Cookie(Cookie::new(
                    name,
                    self.attributes,
                    self.cookie_key,
                    servers,
                )?),
            })
        });
        Balancing {
            method: match &rules.method {
                BalanceMethod::RoundRobin => Method::RoundRobin,
                BalanceMethod::LeastConnections => Method::LeastConnections,
                BalanceMethod::SourceHash => Method::SourceHash,
                BalanceMethod::HeaderHash(name) => Method::HeaderHash(name.clone()),
            },
            persistence,
            queue: Queue::new(rules.queue.length, rules.queue.timeout),
            passive: rules.passive.as_ref().map(passive),
            slow_start: rules.slow_start,
            retries: rules.retries,
        }
    }
}

fn passive(rules: &lb_config::Passive) -> Passive {
    let on = rules.on.iter().map(|failure| match failure {
        Failure::Connect => Symptom::Connect,
        Failure::Reset => Symptom::Reset,
        Failure::Timeout => Symptom::Timeout,
        Failure::Gateway => Symptom::Gateway,
    });
    Passive {
        failures: rules.failures,
        on: on.collect(),
    }
}
