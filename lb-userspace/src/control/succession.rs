//! What a control loop does for the one after it, and what that one begins with.
//!
//! Invariant: after [`Control::fall_silent`] nothing is written here until the loop goes on, so that two daemons never write.

use std::time::Duration;

use super::{Control, Controlled, ControlledServer, alive_until, health};
use crate::dataplane::MapAccessError;
use crate::succession::KnownServer;

impl Control {
    /// Says for so long that the daemon is alive, and writes nothing more: another one takes over, or this one goes on.
    pub(crate) fn fall_silent(&mut self, patience: Duration) -> Result<(), MapAccessError> {
        let alive = self.orphaned_after.map(|after| after + patience);
        self.settings.alive_until = alive.map_or(0, alive_until);
        self.dataplane.set_settings(&self.settings)
    }

    /// What the next daemon needn't find out about servers.
    pub(crate) fn known_servers(&self) -> Vec<KnownServer> {
        let services = self.services.iter();
        let servers = services.flat_map(|service| {
            let servers = service.servers.iter();
            servers.map(|server| KnownServer {
                service: service.name.clone(),
                route: server.route.clone(),
                address: server.address,
                healthy: server.healthy,
                reason: server.reason.clone(),
                drained: server.drained,
            })
        });
        servers.collect()
    }
}

impl Controlled {
    /// Begins with what an earlier daemon knew of its servers. The next result of a check counts as the first.
    pub(crate) fn learn(&mut self, known: &[KnownServer]) {
        let of_service = known.iter().filter(|known| known.service == self.name);
        for known in of_service {
            let is_meant = |server: &&mut ControlledServer| {
                server.address == known.address && server.route == known.route
            };
            for server in self.servers.iter_mut().filter(is_meant) {
                server.set_drained(known.drained);
                if server.reason == health::unchecked().reason {
                    // Nobody would ever find out that it is well again.
                    continue;
                }
                server.healthy = known.healthy;
                server.reason.clone_from(&known.reason);
                if let Some(http) = &server.http {
                    http.set_up(known.healthy);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::compose;

    const FILE: &str = r#"
        interfaces = ["eth0"]
        [[service]]
        name = "web"
        listen = "192.0.2.1:80"
        mode = "http"
        servers = ["10.0.0.1:80", "10.0.0.2:80"]
        [[service]]
        name = "unchecked"
        listen = "192.0.2.1:81"
        mode = "http"
        servers = ["10.0.0.1:80"]
        health = { kind = "none" }
    "#;

    /// Whether each server takes new connections, by the daemon's word and by the proxy's.
    fn up(services: &[Controlled]) -> Vec<[bool; 2]> {
        let servers = services.iter().flat_map(|service| &service.servers);
        let both = servers.map(|server| {
            let http = server.http.as_ref();
            [server.up(), http.is_some_and(|http| http.is_up())]
        });
        both.collect()
    }

    #[test]
    fn a_daemon_begins_with_what_the_last_one_knew_of_its_servers() {
        let plan = compose::plan(Path::new("lb.toml"), FILE).unwrap();
        let mut services = plan.controlled(&vec![None; plan.services.len()]);
        assert_eq!(up(&services), [[true; 2]; 3]);
        let route = services[0].servers[0].route.clone();
        let known = |service: &str, last, healthy, drained| KnownServer {
            service: service.to_owned(),
            route: route
                .clone()
                .filter(|_| service == "web")
                .or(Some(service.to_owned())),
            address: ([10, 0, 0, last], 80).into(),
            healthy,
            reason: "connect: refused".to_owned(),
            drained,
        };
        let known = [
            known("web", 1, false, false),
            known("web", 2, true, true),
            // Nobody would ever find out that it is well again.
            known("unchecked", 1, false, false),
            known("gone", 1, false, true),
        ];
        for service in &mut services {
            service.learn(&known);
        }
        assert_eq!(up(&services), [[false; 2], [false; 2], [true; 2]]);
        assert_eq!(services[0].servers[0].reason, "connect: refused");
    }
}
