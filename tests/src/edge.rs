//! A pool of Exchange servers behind `lb` as an operator sets it up: what `lb template exchange` prints, and TLS on both
//! sides with the certificate of the servers.
//!
//! Invariants: the configuration is the template's text; only names of files, addresses and the pace of health checks are
//! replaced, which a test can't wait for. Several services run in one daemon, on both transports, so that a test sees both
//! in one lab.

use std::{net::SocketAddrV4, path::PathBuf, process::Command};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{
    address::{VIP_HTTP, VIP_SMTP, server},
    binaries,
    certs::{self, Files},
    client::{self, Connection, Endpoint, Fetched},
    lab::Namespace,
    world::{Balancer, World},
};

/// One service: what clients find at one port.
#[derive(Clone, Debug)]
pub struct Front {
    /// Its transport.
    pub transport: &'static str,
    /// Where it is; clients trust its authority.
    pub endpoint: Endpoint,
}

/// A world with a balancer in it.
#[derive(Debug)]
pub struct Edge {
    /// The balancer; ends first.
    pub balancer: Balancer,
    /// Servers and network.
    pub world: World,
    /// Services: one on each transport, for each setting.
    pub fronts: Vec<Front>,
}

/// How a pair of services, one on each transport, differs from the template.
#[derive(Clone, Copy, Debug, Default)]
pub struct Setting<'a> {
    /// Lines added to the service.
    pub lines: &'a str,
    /// What clients are shown in place of the servers' certificate.
    pub certificate: Option<&'a Files>,
}

impl Edge {
    /// The template's service on both transports, in front of `servers` servers.
    pub fn start(servers: u8) -> Result<Self> {
        Self::with(World::start(servers)?, &[Setting::default()])
    }

    /// The same in front of one server, by a daemon whose memory is measured ([`World::balance_measured`]).
    pub fn start_measured() -> Result<Self> {
        let world = World::start(1)?;
        Self::up(world, &[Setting::default()], World::balance_measured)
    }

    /// A pair of services for each setting, in front of the world's servers; returns once all of them are up.
    pub fn with(world: World, settings: &[Setting<'_>]) -> Result<Self> {
        Self::up(world, settings, World::balance)
    }

    fn up(
        world: World,
        settings: &[Setting<'_>],
        balance: impl FnOnce(&World, &str) -> Result<Balancer>,
    ) -> Result<Self> {
        let (text, fronts) = configuration(&world, settings)?;
        let mut balancer = balance(&world, &text)?;
        balancer.eventually("everything is up", || Ok(fronts.iter().all(Front::is_open)))?;
        let edge = Self {
            balancer,
            world,
            fronts,
        };
        edge.until("all servers are up", |status| {
            servers(status).all(|server| server["up"] == true)
        })?;
        Ok(edge)
    }

    /// Runs `lb` against the daemon's admin socket: whether it succeeded, and what it said.
    pub fn lb(&self, arguments: &[&str]) -> Result<(bool, String)> {
        let mut command = Namespace::edge().command(binaries::lb()?);
        command
            .args(arguments)
            .arg("--admin")
            .arg(self.balancer.admin());
        let output = command.output()?;
        let told = [output.stdout, output.stderr].concat();
        Ok((output.status.success(), String::from_utf8(told)?))
    }

    /// What `lb status --json` says.
    pub fn status(&self) -> Result<Value> {
        let (_, text) = self.lb(&["status", "--json"])?;
        serde_json::from_str(&text).context("the status")
    }

    /// Waits until the status is so.
    pub fn until(&self, what: &str, mut so: impl FnMut(&Value) -> bool) -> Result<()> {
        crate::world::eventually(what, || Ok(self.status().is_ok_and(|status| so(&status))))
    }

    /// A counter of the proxy, over all services.
    pub fn counter(&self, name: &str) -> Result<u64> {
        let status = self.status()?;
        let services = status["services"].as_array().context("no services")?;
        let counters = services
            .iter()
            .filter_map(|service| service["http"].as_array());
        let values = counters.flatten().filter(|counter| counter["name"] == name);
        Ok(values.filter_map(|counter| counter["value"].as_u64()).sum())
    }
}

/// All servers of all services and routes in a status.
pub fn servers(status: &Value) -> impl Iterator<Item = &Value> {
    let services = status["services"].as_array().into_iter().flatten();
    services.flat_map(|service| service["servers"].as_array().into_iter().flatten())
}

impl Front {
    /// Name of the service.
    pub fn service(&self) -> String {
        format!("exchange-{}", self.endpoint.address.port())
    }

    /// URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!(
            "https://{}:{}{path}",
            certs::NAME,
            self.endpoint.address.port()
        )
    }

    /// A connection, byte by byte.
    pub fn open(&self) -> Result<Connection> {
        self.endpoint.open()
    }

    /// The file of its authority's certificate.
    pub fn ca(&self) -> PathBuf {
        self.endpoint.ca.clone().unwrap_or_default()
    }

    /// Options with which curl finds and trusts it.
    pub fn curl_options(&self) -> [String; 4] {
        let address = self.endpoint.address;
        [
            "--cacert".to_owned(),
            self.ca().display().to_string(),
            "--resolve".to_owned(),
            format!("{}:{}:{}", certs::NAME, address.port(), address.ip()),
        ]
    }

    /// Fetches paths one after the other with one curl.
    pub fn curl(&self, options: &[&str], paths: &[&str]) -> Result<Vec<Fetched>> {
        let own = self.curl_options();
        let options: Vec<&str> = own
            .iter()
            .map(String::as_str)
            .chain(options.iter().copied())
            .collect();
        let urls: Vec<String> = paths.iter().map(|path| self.url(path)).collect();
        client::curl(&options, &urls)
    }

    /// Fetches a page with one curl: status and body.
    pub fn fetch(&self, options: &[&str], path: &str) -> Result<(u16, String)> {
        let own = self.curl_options();
        let options: Vec<&str> = own
            .iter()
            .map(String::as_str)
            .chain(options.iter().copied())
            .collect();
        let (status, body) = client::fetch(&options, &self.url(path))?;
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }

    fn is_open(&self) -> bool {
        self.fetch(&[], "/owa/healthcheck.htm")
            .is_ok_and(|(status, _)| status == 200)
    }
}

/// The configuration for a pair of services for each setting, and where those are.
pub fn configuration(world: &World, settings: &[Setting<'_>]) -> Result<(String, Vec<Front>)> {
    let template = template(world)?;
    let (mut text, mut fronts) = (String::new(), Vec::new());
    for (number, setting) in (0_u16..).zip(settings) {
        for (offset, transport) in (0_u16..).zip(TRANSPORTS) {
            let port = 443 + 1000 * (2 * number + offset);
            let address = SocketAddrV4::new(VIP_HTTP, port);
            text.push_str(&service(&template, world, address, transport, *setting));
            let files = setting.certificate.unwrap_or(world.certs());
            let ca = Some(files.ca.clone());
            let endpoint = Endpoint { address, ca };
            fronts.push(Front {
                transport,
                endpoint,
            });
        }
    }
    text.push_str(&smtp(&template)?);
    Ok((text, fronts))
}

/// What `lb template exchange` prints for these servers.
fn template(world: &World) -> Result<String> {
    let mut command = Command::new(binaries::lb()?);
    command.args(["template", "exchange", "--domain", certs::NAME]);
    command.args(["--listen", &VIP_HTTP.to_string()]);
    for known in world.servers() {
        command.args(["--server", &server(known.number()).to_string()]);
    }
    let output = command.output()?;
    ensure!(output.status.success(), "lb template: {}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

/// The service called `name` in the template, with its routes.
fn part<'a>(template: &'a str, name: &str) -> Result<&'a str> {
    let mut services = template.split("\n[[service]]\n");
    let found = services.find(|text| text.starts_with(&format!("name = \"{name}\"\n")));
    found.with_context(|| format!("the template has no service {name:?}:\n{template}"))
}

fn service(
    template: &str,
    world: &World,
    address: SocketAddrV4,
    transport: &str,
    setting: Setting<'_>,
) -> String {
    let files = setting.certificate.unwrap_or(world.certs());
    let replacements = [
        (
            "name = \"exchange\"",
            format!("name = \"exchange-{}\"", address.port()),
        ),
        ("10.203.1.100:443", address.to_string()),
        (
            "profile = \"exchange\"",
            format!(
                "transport = \"{transport}\"\n{}\nprofile = \"exchange\"",
                setting.lines
            ),
        ),
        ("mail.lab.test.pem", files.certificate.display().to_string()),
        ("mail.lab.test.key", files.key.display().to_string()),
        ("\"ca.pem\"", format!("\"{}\"", world.certs().ca.display())),
        (
            "interval = \"10s\", rise = 2, fall = 2",
            "interval = \"1s\", timeout = \"1s\", rise = 1, fall = 2".to_owned(),
        ),
    ];
    let text = part(template, "exchange").unwrap_or_default();
    let text = replacements
        .iter()
        .fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
    format!("[[service]]\n{text}\n")
}

/// Mail from other hosts, on an address of its own.
fn smtp(template: &str) -> Result<String> {
    let text = part(template, "smtp")?.replace("10.203.1.100", &VIP_SMTP.to_string());
    Ok(format!("[[service]]\n{text}\n"))
}

const TRANSPORTS: [&str; 2] = ["af_xdp", "kernel"];
