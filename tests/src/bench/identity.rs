//! `cargo xtask bench identity`: through whom does a user get answers as someone else?
//!
//! Two users with connections of three kinds (NTLM, NTLM in SPNEGO, one leg) ask a page that says who they are, among
//! anonymous requests and strangers: `tests/python/identities.py`. On IIS a login belongs to the connection, so a
//! balancer that lends a connection to the next client lends the login as well.
//!
//! Invariants: every proxy gets the same requests in the same order, in front of one server and of several; a run that
//! fails is in the result, never left out. Nothing here depends on how fast anything is.
//! The one-leg login is the pool's stand-in for a Kerberos ticket (`crate::pool`), the NTLM logins are real.
//!
//! | module | job |
//! |---|---|
//! | `proxy` | who is tested, how it is configured and started |
//! | `report` | what the runs come to: claims, words, JSON, table |
//!
//! Called by the binary `lb-bench`.

mod proxy;
mod report;

pub use self::{
    proxy::Proxy,
    report::{Failure, Report, Sample, Settings},
};

use std::net::SocketAddrV4;

use anyhow::Result;

use self::proxy::Running;
use super::machine::Machine;
use crate::{
    address::VIP_HTTP,
    client,
    guard::Interrupts,
    pool::{
        HTTP_PORT, Server, USERS, User,
        journal::{Entry, Event},
    },
    world::World,
};

/// Sizes of the pool. With one server a login that needs two requests can complete on a borrowed connection, with
/// several it can break.
pub const POOLS: [u8; 2] = [1, 3];

const LARGEST_POOL: u8 = 3;

/// Users; each has three connections.
const TEST_USERS: [User; 2] = [USERS[0], USERS[1]];

/// Runs everybody with `requests` users' requests each; `progress` gets one line per run.
///
/// Fails when the lab can't be made or the run is interrupted. A proxy that doesn't start or a run that breaks is a
/// [`Failure`] in the report.
pub fn run(requests: u32, interrupts: &Interrupts, progress: &dyn Fn(&str)) -> Result<Report> {
    let machine = Machine::here()?;
    let world = World::start(LARGEST_POOL)?;
    let mut samples = Vec::new();
    let mut failures = Vec::new();
    for servers in POOLS {
        for proxy in Proxy::ALL {
            interrupts.check()?;
            let line = match sample(&world, proxy, servers, requests) {
                Ok(sample) => {
                    let line = sample.to_string();
                    samples.push(sample);
                    line
                }
                Err(error) => {
                    interrupts.check()?;
                    let failure = Failure::new(proxy, servers, &error);
                    let line = failure.to_string();
                    failures.push(failure);
                    line
                }
            };
            progress(&line);
        }
    }
    let settings = Settings {
        requests,
        users: TEST_USERS.len(),
        pools: POOLS.into(),
    };
    Ok(Report::new(machine, settings, samples, failures))
}

fn sample(world: &World, proxy: Proxy, servers: u8, requests: u32) -> Result<Sample> {
    let running = Running::start(world, proxy, servers)?;
    // What it took to see that it serves is not part of the run.
    world.forget()?;
    let address = SocketAddrV4::new(VIP_HTTP, HTTP_PORT);
    let found = client::identities(address, requests, &TEST_USERS);
    // Also after a failure: the next one needs the address.
    running.stop()?;
    let connections = world
        .servers()
        .iter()
        .map(|server| Ok(connections(&Server::seen(server)?)))
        .sum::<Result<usize>>()?;
    Ok(Sample::new(proxy, servers, &found?, connections))
}

/// Connections that carried a request.
fn connections(journal: &[Entry]) -> usize {
    let mut ids: Vec<u64> = journal
        .iter()
        .filter(|entry| matches!(entry.event, Event::Request(_)))
        .map(|entry| entry.connection)
        .collect();
    ids.sort_unstable();
    ids.dedup();
    ids.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::journal::{AuthLeg, Request};

    #[test]
    fn a_connection_counts_once_and_only_if_used() {
        let entry = |connection, event| Entry {
            time: 0,
            connection,
            event,
        };
        let request = || {
            Event::Request(Request {
                method: "GET".to_owned(),
                path: "/whoami".to_owned(),
                leg: AuthLeg::None,
                user: None,
                status: 401,
                headers: Vec::new(),
                head: String::new(),
            })
        };
        let peer = SocketAddrV4::new(VIP_HTTP, 1).into();
        let journal = [
            entry(1, Event::Open { peer }),
            entry(2, request()),
            entry(3, request()),
            entry(2, request()),
            entry(4, Event::Close),
        ];
        assert_eq!(connections(&journal), 2);
        assert_eq!(connections(&[]), 0);
    }

    #[test]
    fn every_pool_fits_the_lab() {
        assert_eq!(POOLS.into_iter().max(), Some(LARGEST_POOL));
    }
}
