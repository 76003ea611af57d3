//! Routes that have fewer servers up than their operator wants (`minimum_healthy`): a warning, told once each way.
//!
//! As with LoadMaster's setting, nothing else changes: to answer nobody because only some can be answered helps nobody.

use std::num::NonZeroU16;
use std::ops::Range;

use super::ControlledServer;

/// What one route wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Minimum {
    /// Name of the route.
    pub(crate) route: String,
    /// Its servers' places in their service.
    pub(crate) servers: Range<usize>,
    /// How many of them should be up, backups not counted.
    pub(crate) wanted: NonZeroU16,
    /// Whether it was said that there are fewer.
    below: bool,
}

impl Minimum {
    /// Of a route that has not been looked at.
    pub(crate) fn new(route: String, servers: Range<usize>, wanted: NonZeroU16) -> Self {
        Self {
            route,
            servers,
            wanted,
            below: false,
        }
    }

    /// How many of its servers are up, among those of the service.
    pub(crate) fn up(&self, servers: &[ControlledServer]) -> usize {
        let own = servers.get(self.servers.clone()).into_iter().flatten();
        own.filter(|server| server.up() && !server.is_backup())
            .count()
    }

    /// Whether that is too few.
    pub(crate) fn is_missed(&self, servers: &[ControlledServer]) -> bool {
        self.up(servers) < usize::from(self.wanted.get())
    }

    /// Says it when it has changed.
    pub(super) fn look(&mut self, service: &str, servers: &[ControlledServer]) {
        if self.is_missed(servers) == self.below {
            return;
        }
        self.below = !self.below;
        let (route, wanted, up) = (&self.route, self.wanted, self.up(servers));
        if self.below {
            tracing::warn!(
                service,
                route,
                up,
                wanted,
                "fewer servers are up than minimum_healthy"
            );
        } else {
            tracing::info!(service, route, up, wanted, "enough servers are up again");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use lb_proxy::{Role, Server};

    use super::*;

    fn server(role: Role) -> ControlledServer {
        let http = Server::new("s", ([10, 0, 0, 1], 443).into(), NonZeroU16::MIN).with_role(role);
        ControlledServer {
            name: "s".to_owned(),
            route: Some("r".to_owned()),
            address: http.address(),
            http: Some(Arc::new(http)),
            healthy: true,
            reason: String::new(),
            unreachable: None,
            drained: false,
        }
    }

    #[test]
    fn what_counts_is_primaries_of_the_route_that_take_requests() {
        use Role::{Backup, Primary};
        // The first and the last are another route's.
        let mut servers = [Primary, Primary, Primary, Backup, Primary].map(server);
        let mut minimum = Minimum::new("r".to_owned(), 1..4, NonZeroU16::new(2).unwrap());
        assert!(!minimum.is_missed(&servers));
        minimum.look("s", &servers);
        assert!(!minimum.below);
        servers[1].healthy = false;
        assert_eq!(
            (minimum.up(&servers), minimum.is_missed(&servers)),
            (1, true)
        );
        minimum.look("s", &servers);
        assert!(minimum.below, "it was said");
        servers[1].healthy = true;
        minimum.look("s", &servers);
        assert!(!minimum.below);
        servers[2].drained = true;
        assert!(minimum.is_missed(&servers));
    }
}
