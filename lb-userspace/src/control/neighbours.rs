//! Follows the way to each L4 server: route, interface, VLAN, hardware addresses.

use std::cell::RefCell;
use std::net::IpAddr;
use std::time::Duration;

use super::Control;
use crate::dataplane::{MapAccessError, Resolver};

/// Pause while some server has no next hop: ARP answers within milliseconds of being asked.
const UNRESOLVED_PAUSE: Duration = Duration::from_millis(200);

/// Pause when all are known: how long a replaced network card or a changed route goes unnoticed.
/// The kernel itself confirms a neighbour in use every 15 to 45 s (`base_reachable_time`).
const RESOLVED_PAUSE: Duration = Duration::from_secs(5);

/// Asks for ever; returns only on error.
pub(crate) async fn follow(
    control: &RefCell<Control>,
    resolver: &Resolver,
) -> Result<(), MapAccessError> {
    let servers = l4_servers(&control.borrow());
    if servers.is_empty() {
        std::future::pending::<()>().await;
    }
    loop {
        let mut pause = RESOLVED_PAUSE;
        match resolver.vlans().await {
            Ok(found) => control.borrow_mut().vlans_found(&found)?,
            Err(error) => tracing::warn!(%error, "the kernel's VLANs can't be read"),
        }
        for &(service, server, address) in &servers {
            let next_hop = resolver.resolve(address).await;
            if next_hop.is_err() {
                pause = UNRESOLVED_PAUSE;
            }
            control
                .borrow_mut()
                .next_hop_resolved(service, server, next_hop)?;
        }
        tokio::time::sleep(pause).await;
    }
}

fn l4_servers(control: &Control) -> Vec<(usize, usize, IpAddr)> {
    let mut servers = Vec::new();
    for (service, controlled) in control.services().iter().enumerate() {
        for (server, desired) in controlled.desired.servers.iter().enumerate() {
            servers.push((service, server, desired.address.ip()));
        }
    }
    servers
}
