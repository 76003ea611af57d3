//! One server as the control loop has it: what its checks, the operator and the workers say of it.

use std::net::SocketAddr;
use std::sync::Arc;

use lb_proxy::Role;

/// One server under control.
pub(crate) struct ControlledServer {
    /// For the log and `lb status`.
    pub(crate) name: String,
    /// The route that it serves; `None` for L4.
    pub(crate) route: Option<String>,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// The proxy's view of it; `None` for L4.
    pub(crate) http: Option<Arc<lb_proxy::Server>>,
    /// What its checks said last.
    pub(crate) healthy: bool,
    /// Why.
    pub(crate) reason: String,
    /// Why no frame can be sent to it; L4 only.
    pub(crate) unreachable: Option<String>,
    /// The operator wants it to get no new connections.
    pub(crate) drained: bool,
}

impl ControlledServer {
    /// Whether it takes new connections.
    pub(crate) fn up(&self) -> bool {
        !self.drained && !self.failed() && !self.is_ejected()
    }

    /// Whether workers have taken it out.
    pub(super) fn is_ejected(&self) -> bool {
        self.http.as_ref().is_some_and(|http| http.is_ejected())
    }

    /// Whether it is used only while no other is up.
    pub(crate) fn is_backup(&self) -> bool {
        let role = self.http.as_ref().map(|http| http.role());
        role == Some(Role::Backup)
    }

    /// Takes the operator's word.
    pub(super) fn set_drained(&mut self, drained: bool) {
        self.drained = drained;
        if let Some(http) = &self.http {
            http.set_drained(drained);
        }
    }

    /// Whether it can't serve those that it has, either.
    pub(super) fn failed(&self) -> bool {
        !self.healthy || self.unreachable.is_some()
    }

    /// Why it does or doesn't.
    pub(crate) fn explain(&self) -> &str {
        match &self.unreachable {
            Some(unreachable) if self.healthy => unreachable,
            _ if self.healthy && self.drained => {
                "drained: `lb undrain` gives it new connections again"
            }
            _ if self.healthy && self.is_ejected() => {
                "requests failed: it gets new ones again after its next good probe"
            }
            _ => &self.reason,
        }
    }
}
