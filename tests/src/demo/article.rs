//! The article both ways. The client is `tests/python/mac_mail.py`, which logs a connection in once and then trusts it.

use std::{net::SocketAddrV4, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use super::{Stage, say};
use crate::{
    address::{VIP_HTTP, server},
    binaries, client,
    pool::{
        USERS, User,
        journal::AuthLeg::{self, First, Later, None as Bare},
    },
    world::{Balancer, World},
};

const ALICE: User = USERS[0];
const VIP: SocketAddrV4 = SocketAddrV4::new(VIP_HTTP, 80);
const PROBE: &str = "http://10.203.1.100/owa/healthcheck.htm";

/// LoadMaster's default of 2015: a client that trusts its login ends in 400.
pub(super) fn with_old_default(stage: &mut Stage<'_>, world: &World) -> Result<()> {
    stage.step("The article: LoadMaster's old default, X-ClientSide and Via")?;
    let balancer = balance(world, "x-clientside+via")?;
    for warning in warnings(world.directory())? {
        say(&format!("`lb check` says: {warning}"));
    }
    let seen = client::mac_mail(VIP, &ALICE)?;
    say(&format!(
        "status codes, request by request: {}",
        sequence(&seen)
    ));
    stage.outcome(
        "a client that trusts its NTLM login fails: 401, 401, 400",
        &seen,
        &vec![vec![401, 200], vec![401, 401, 400]],
    );
    let forgotten = counter(&balancer, "persistent_auth_false")?;
    say(&format!(
        "`lb status` counts the cause: the servers said Persistent-Auth: false {forgotten} time(s)"
    ));
    stage.outcome("lb has seen the cause", &(forgotten > 0), &true);
    end(balancer)
}

/// The Exchange profile: nothing is added, and the login stays on its connection.
pub(super) fn with_exchange_profile(stage: &mut Stage<'_>, world: &World) -> Result<()> {
    stage.step("The same client with profile = \"exchange\" as it comes")?;
    world.forget()?;
    let balancer = balance(world, "none")?;
    let seen = client::mac_mail(VIP, &ALICE)?;
    say(&format!(
        "status codes, request by request: {}",
        sequence(&seen)
    ));
    stage.outcome(
        "every request is answered: 200, 200, 200",
        &seen,
        &vec![vec![401, 200], vec![200], vec![200]],
    );
    let journal = world.seen()?;
    stage.outcome(
        "the servers saw one connection",
        &journal.connections("/whoami"),
        &1,
    );
    let wanted: Vec<AuthLeg> = vec![First, Later, Bare, Bare];
    stage.outcome(
        "and one login: two NTLM messages, then requests without credentials",
        &journal.legs("/whoami"),
        &wanted,
    );
    let identities = client::identities(VIP, IDENTITY_REQUESTS, &USERS[..2])?;
    stage.outcome(
        &format!(
            "{} requests of two users, interleaved: nobody was served as someone else",
            identities.requests
        ),
        &identities.wrong,
        &Vec::new(),
    );
    stage.outcome(
        &format!(
            "{} requests of strangers between them: none was let in",
            identities.strangers
        ),
        &identities.stranger_served,
        &Vec::new(),
    );
    end(balancer)
}

fn balance(world: &World, headers: &str) -> Result<Balancer> {
    let servers: Vec<String> = world
        .servers()
        .iter()
        .map(|known| format!("{}:80", server(known.number())))
        .collect();
    let mut balancer = world.balance(&format!(
        "[[service]]\nname = \"exchange\"\nlisten = \"{VIP}\"\nmode = \"http\"\nprofile = \"exchange\"\n\
         headers = \"{headers}\"\nservers = {servers:?}\n\
         health = {{ kind = \"http\", path = \"/owa/healthcheck.htm\", host = \"mail.lab.test\", \
         expect = \"200 OK\", interval = \"1s\", timeout = \"1s\", rise = 1, fall = 2 }}\n"
    ))?;
    balancer.until_served(PROBE)?;
    Ok(balancer)
}

/// In order, so that the next one finds no sockets of this one.
fn end(balancer: Balancer) -> Result<()> {
    let status = balancer.stop()?;
    ensure!(status.success(), "lb didn't end well: {status}");
    Ok(())
}

/// What `lb check` warns of in the configuration that runs.
fn warnings(directory: &Path) -> Result<Vec<String>> {
    let output = Command::new(binaries::lb()?)
        .args(["check", "--config", "lb.toml"])
        .current_dir(directory)
        .output()
        .context("starting lb check")?;
    ensure!(output.status.success(), "lb check: {}", output.status);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let warnings = text
        .lines()
        .filter_map(|line| line.strip_prefix("warning: "));
    Ok(warnings.map(str::to_owned).collect())
}

/// A counter of the only service, as `lb status` has it.
fn counter(balancer: &Balancer, name: &str) -> Result<u64> {
    let output = Command::new(binaries::lb()?)
        .args(["status", "--json", "--admin"])
        .arg(balancer.admin())
        .output()
        .context("starting lb status")?;
    ensure!(output.status.success(), "lb status: {}", output.status);
    let status: Status = serde_json::from_slice(&output.stdout).context("reading lb status")?;
    let service = status
        .services
        .first()
        .context("lb status shows no service")?;
    let counter = service.http.iter().find(|counter| counter.name == name);
    Ok(counter
        .with_context(|| format!("lb status has no {name}"))?
        .value)
}

#[derive(Deserialize)]
struct Status {
    services: Vec<Service>,
}

#[derive(Deserialize)]
struct Service {
    http: Vec<Counter>,
}

#[derive(Deserialize)]
struct Counter {
    name: String,
    value: u64,
}

/// `401 200 | 200 | 200`.
fn sequence(requests: &[Vec<u16>]) -> String {
    let request = |statuses: &Vec<u16>| {
        let words: Vec<String> = statuses.iter().map(u16::to_string).collect();
        words.join(" ")
    };
    requests.iter().map(request).collect::<Vec<_>>().join(" | ")
}

/// Enough for every user to come back on every server many times.
const IDENTITY_REQUESTS: u32 = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_stand_beside_their_request() {
        assert_eq!(sequence(&[]), "");
        assert_eq!(
            sequence(&[vec![401, 200], vec![401, 401, 400]]),
            "401 200 | 401 401 400"
        );
    }
}
