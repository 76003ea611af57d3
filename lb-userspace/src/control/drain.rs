//! `lb drain` and `lb undrain`: a server that keeps what it has and gets nothing new, as long as the operator wants.
//!
//! Like a weight of 0, but without a restart; and it ends with the daemon, because the next one goes by its file. In a service
//! that is proxied, what a server has is requests under way and pinned connections: those go on, with all that their clients ask
//! on them, until the clients close them. Flows of a drained server stay, whatever `when_server_fails` says: a server
//! that is drained has not failed.

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::{Control, Controlled, ControlledServer};

/// What the operator wants.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    /// Name of the service, for the server in all of its routes; or `service/route`, for that route alone.
    pub(crate) service: String,
    /// Name of the server, or its address and port.
    pub(crate) server: String,
    /// Whether it gets no new connections.
    pub(crate) drained: bool,
}

/// What was done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Done {
    /// The server, by its name.
    pub(crate) server: String,
    /// The routes in which it was done; empty for a service without routes.
    #[serde(default)]
    pub(crate) routes: Vec<String>,
    /// Whether it takes new connections now, in one of them at least.
    pub(crate) up: bool,
    /// Why it does or doesn't.
    pub(crate) reason: String,
}

impl Control {
    /// Does what the operator wants.
    pub(crate) fn drain(&mut self, order: &Order) -> anyhow::Result<Done> {
        let (name, route) = match order.service.split_once('/') {
            Some((name, route)) => (name, Some(route)),
            None => (&order.service[..], None),
        };
        let mut services = self.services.iter_mut().enumerate();
        let (position, service) = services
            .find(|(_, service)| service.name == name)
            .with_context(|| format!("no service is called {name:?}"))?;
        let done = obey(service, route, order)?;
        tracing::info!(
            service = order.service,
            server = done.server,
            drained = order.drained,
            "told by the operator"
        );
        self.reconcile(position)?;
        Ok(done)
    }
}

/// Changes the servers that an order is for.
fn obey(service: &mut Controlled, route: Option<&str>, order: &Order) -> anyhow::Result<Done> {
    let meant = |server: &ControlledServer| {
        let named = server.name == order.server || server.address.to_string() == order.server;
        named && route.is_none_or(|route| server.route.as_deref() == Some(route))
    };
    let mut done: Option<Done> = None;
    for server in service.servers.iter_mut().filter(|server| meant(server)) {
        server.set_drained(order.drained);
        let up = server.up();
        let done = done.get_or_insert_with(|| Done {
            server: server.name.clone(),
            routes: Vec::new(),
            up,
            reason: server.explain().to_owned(),
        });
        if up && !done.up {
            done.up = true;
            server.explain().clone_into(&mut done.reason);
        }
        let route = server.route.clone();
        done.routes
            .extend(route.filter(|route| *route != service.name));
    }
    done.with_context(|| match route {
        Some(route) => format!(
            "route {route:?} of service {:?} has no server {:?}",
            service.name, order.server
        ),
        None => format!(
            "service {:?} has no server {:?}",
            service.name, order.server
        ),
    })
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
        servers = [{ address = "10.0.0.1:80", name = "ex1" }, { address = "10.0.0.2:80", name = "ex2" }]
        [[service.route]]
        name = "owa"
        path = ["/owa"]
        [[service.route]]
        name = "ews"
        path = ["/ews"]
        servers = ["10.0.0.1:80"]
        [[service]]
        name = "plain"
        listen = "192.0.2.1:81"
        mode = "http"
        servers = ["10.0.0.1:80"]
    "#;

    fn services() -> Vec<Controlled> {
        let plan = compose::plan(Path::new("lb.toml"), FILE).unwrap();
        plan.controlled(&vec![None; plan.services.len()])
    }

    fn order(
        service: &mut Controlled,
        route: Option<&str>,
        server: &str,
        drained: bool,
    ) -> Result<Done, String> {
        let order = Order {
            service: "web".to_owned(),
            server: server.to_owned(),
            drained,
        };
        obey(service, route, &order).map_err(|error| error.to_string())
    }

    /// Which servers workers give nothing new.
    fn drained(service: &Controlled) -> Vec<bool> {
        let http = service.servers.iter().map(|server| server.http.as_ref());
        http.map(|http| http.is_some_and(|http| http.is_drained() && !http.is_up()))
            .collect()
    }

    #[test]
    fn a_server_is_drained_in_all_routes_or_in_one() {
        let web = &mut services()[0];
        let done = order(web, None, "10.0.0.1:80", true).unwrap();
        assert_eq!((&done.server[..], done.up), ("ex1", false));
        assert_eq!(done.routes, ["owa", "ews"]);
        assert_eq!(drained(web), [true, false, true]);
        let reason = "drained: `lb undrain` gives it new connections again";
        assert_eq!((&done.reason[..], web.servers[0].healthy), (reason, true));
        // One route again.
        let done = order(web, Some("ews"), "10.0.0.1:80", false).unwrap();
        assert_eq!((done.routes, done.up), (vec!["ews".to_owned()], true));
        assert_eq!(drained(web), [true, false, false]);
        // A name is that of the routes that have it.
        assert_eq!(order(web, None, "ex1", false).unwrap().routes, ["owa"]);
        assert_eq!(drained(web), [false; 3]);
    }

    #[test]
    fn what_is_not_there_is_named() {
        let web = &mut services()[0];
        let error = order(web, None, "ex3", true).unwrap_err();
        assert_eq!(error, "service \"web\" has no server \"ex3\"");
        let error = order(web, Some("ews"), "ex2", true).unwrap_err();
        assert_eq!(
            error,
            "route \"ews\" of service \"web\" has no server \"ex2\""
        );
        let plain = &mut services()[1];
        let done = order(plain, None, "10.0.0.1:80", true).unwrap();
        assert_eq!(done.routes, [""; 0]);
    }
}
