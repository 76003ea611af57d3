//! `lb drain` and `lb undrain`: a server that keeps what it has and gets nothing new, as long as the operator wants.
//!
//! Like a weight of 0, but without a restart; and it ends with the daemon, because the next one goes by its file.
//! Not for services that are proxied: there a login belongs to a connection, and what a client asks next must go to the
//! server that knows it. Flows of a drained server stay, whatever `when_server_fails` says: a server that is drained has not failed.

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::Control;

/// What the operator wants.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    /// Name of the service.
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
    /// Whether it takes new connections now.
    pub(crate) up: bool,
    /// Why it does or doesn't.
    pub(crate) reason: String,
}

impl Control {
    /// Does what the operator wants.
    pub(crate) fn drain(&mut self, order: &Order) -> anyhow::Result<Done> {
        let mut services = self.services.iter_mut().enumerate();
        let (position, service) = services
            .find(|(_, service)| service.name == order.service)
            .with_context(|| format!("no service is called {:?}", order.service))?;
        let mut servers = service.servers.iter_mut();
        let server = servers
            .find(|server| {
                server.name == order.server || server.address.to_string() == order.server
            })
            .with_context(|| {
                format!(
                    "service {:?} has no server {:?}",
                    order.service, order.server
                )
            })?;
        anyhow::ensure!(
            server.http.is_none(),
            "service {:?} has mode = \"http\", in which no server can be drained; remove it from the configuration instead",
            order.service
        );
        server.drained = order.drained;
        let done = Done {
            server: server.name.clone(),
            up: server.up(),
            reason: server.explain().to_owned(),
        };
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
