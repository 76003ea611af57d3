//! Who is tested: `lb` on both transports, nginx and HAProxy as people run them and as they would have to.
//!
//! Invariant: all have the same servers, one worker per queue, plain HTTP on both sides, no health checks and no logs.
//! Not here: the requests (`super`). The configurations are in `tests/assets/identity-*`.

use std::{
    fmt,
    fs::{self, File},
    path::PathBuf,
};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use crate::{
    address::{VIP_HTTP, server},
    binaries, client,
    lab::Process,
    pool::HTTP_PORT,
    world::{World, eventually},
};

/// Somebody between users and servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Proxy {
    /// `lb` with `transport = "af_xdp"`.
    LbAfXdp,
    /// `lb` with `transport = "kernel"`.
    LbKernel,
    /// nginx that keeps connections to servers, as its manual and every guide to speed recommend.
    NginxKeepalive,
    /// nginx that doesn't, its default.
    NginxPlain,
    /// HAProxy with its default, `http-reuse safe`.
    HaproxyDefault,
    /// HAProxy with `http-reuse never`, which its maintainers advise.
    HaproxyNever,
    /// HAProxy with `option prefer-last-server` as well: after a login without a 401 it goes on with the same server.
    HaproxyNeverSticky,
}

impl Proxy {
    /// In the order of the table.
    pub const ALL: [Self; 7] = [
        Self::LbAfXdp,
        Self::LbKernel,
        Self::NginxKeepalive,
        Self::NginxPlain,
        Self::HaproxyDefault,
        Self::HaproxyNever,
        Self::HaproxyNeverSticky,
    ];

    /// Ours, about which claims are made.
    pub const OURS: [Self; 2] = [Self::LbAfXdp, Self::LbKernel];

    /// Those that are known to leak: if none does, the requests were not dangerous enough.
    pub const LEAKY: [Self; 2] = [Self::NginxKeepalive, Self::HaproxyDefault];

    /// For people.
    pub const fn title(self) -> &'static str {
        match self {
            Self::LbAfXdp => "lb af_xdp",
            Self::LbKernel => "lb kernel",
            Self::NginxKeepalive => "nginx, keepalive",
            Self::NginxPlain => "nginx, no keepalive",
            Self::HaproxyDefault => "HAProxy, default",
            Self::HaproxyNever => "HAProxy, http-reuse never",
            Self::HaproxyNeverSticky => "HAProxy, never + last server",
        }
    }

    /// Its configuration, in which directory and VIP are still to be filled in.
    fn configuration(self, servers: u8) -> String {
        let (template, settings): (_, &[(&str, &str)]) = match self {
            Self::LbAfXdp => (LB, &[("@TRANSPORT@", "af_xdp")]),
            Self::LbKernel => (LB, &[("@TRANSPORT@", "kernel")]),
            Self::NginxKeepalive => (
                NGINX,
                &[
                    ("@KEEPALIVE@", "keepalive 64;"),
                    (
                        "@PERSISTENT@",
                        "proxy_http_version 1.1; proxy_set_header Connection \"\";",
                    ),
                ],
            ),
            Self::NginxPlain => (NGINX, &[("@KEEPALIVE@", ""), ("@PERSISTENT@", "")]),
            Self::HaproxyDefault => (HAPROXY, &[("@REUSE@", ""), ("@STICKY@", "")]),
            Self::HaproxyNever => (HAPROXY, &[REUSE_NEVER, ("@STICKY@", "")]),
            Self::HaproxyNeverSticky => (
                HAPROXY,
                &[REUSE_NEVER, ("@STICKY@", "option prefer-last-server")],
            ),
        };
        let list: String = (1..=servers).map(|number| self.server(number)).collect();
        settings.iter().fold(
            template.replace("@SERVERS@", list.trim_end()),
            |text, (place, value)| text.replace(place, value),
        )
    }

    /// How its configuration names a server.
    fn server(self, number: u8) -> String {
        let address = server(number);
        match self {
            Self::LbAfXdp | Self::LbKernel => format!("\"{address}:{HTTP_PORT}\", "),
            Self::NginxKeepalive | Self::NginxPlain => {
                format!("        server {address}:{HTTP_PORT};\n")
            }
            Self::HaproxyDefault | Self::HaproxyNever | Self::HaproxyNeverSticky => {
                format!("    server ex{number} {address}:{HTTP_PORT}\n")
            }
        }
    }

    /// The program, its arguments before the path of the configuration, and that file's name.
    fn command(self) -> Result<(PathBuf, &'static [&'static str], &'static str)> {
        Ok(match self {
            Self::LbAfXdp | Self::LbKernel => (binaries::lb()?, &["run", "--config"], "lb.toml"),
            Self::NginxKeepalive | Self::NginxPlain => ("nginx".into(), &["-c"], "nginx.conf"),
            // -db: stay in the foreground.
            Self::HaproxyDefault | Self::HaproxyNever | Self::HaproxyNeverSticky => {
                ("haproxy".into(), &["-db", "-f"], "haproxy.cfg")
            }
        })
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.title())
    }
}

const REUSE_NEVER: (&str, &str) = ("@REUSE@", "http-reuse never");
const LB: &str = include_str!("../../../assets/identity-lb.toml");
const NGINX: &str = include_str!("../../../assets/identity-nginx.conf");
const HAPROXY: &str = include_str!("../../../assets/identity-haproxy.cfg");

/// A proxy that serves; dropping it kills it.
#[derive(Debug)]
pub(super) struct Running {
    process: Process,
}

impl Running {
    /// Starts `proxy` in front of the first `servers` servers and waits until it serves.
    pub(super) fn start(world: &World, proxy: Proxy, servers: u8) -> Result<Self> {
        let directory = world.directory();
        let (program, arguments, name) = proxy.command()?;
        let (config, log) = (directory.join(name), directory.join("proxy.log"));
        let text = proxy
            .configuration(servers)
            .replace("@VIP@", &VIP_HTTP.to_string())
            .replace("@DIRECTORY@", &directory.display().to_string());
        fs::write(&config, text).with_context(|| format!("writing {}", config.display()))?;
        let output = File::create(&log)?;
        let errors = output.try_clone()?;
        let mut process = world.lab().edge().spawn(program, |command| {
            command.args(arguments).arg(config);
            command.stdout(output).stderr(errors);
        })?;
        eventually("serving", || {
            if let Some(status) = process.ended()? {
                let log = fs::read_to_string(&log).unwrap_or_default();
                bail!("it ended ({status}): {}", log.trim_end());
            }
            Ok(client::get(&format!("http://{VIP_HTTP}/bench/1"))?.0 == 200)
        })
        .with_context(|| format!("starting {proxy}"))?;
        Ok(Self { process })
    }

    /// Ends it in order and waits, so that the next one finds the address free.
    pub(super) fn stop(mut self) -> Result<()> {
        self.process.terminate().map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_differ_in_what_is_tested_and_in_nothing_else() {
        let check = |a: Proxy, b: Proxy, expected: &[&str]| {
            let (a, b) = (a.configuration(3), b.configuration(3));
            assert_eq!(a.lines().count(), b.lines().count());
            let comment = |line: &str| line.starts_with('#');
            let pairs = a
                .lines()
                .zip(b.lines())
                .filter(|(a, b)| a != b && !comment(a));
            let differences: Vec<_> = pairs.flat_map(|(a, b)| [a.trim(), b.trim()]).collect();
            assert_eq!(differences, expected);
        };
        check(
            Proxy::LbAfXdp,
            Proxy::LbKernel,
            &["transport = \"af_xdp\"", "transport = \"kernel\""],
        );
        check(
            Proxy::NginxKeepalive,
            Proxy::NginxPlain,
            &[
                "keepalive 64;",
                "",
                "proxy_http_version 1.1; proxy_set_header Connection \"\";",
                "",
            ],
        );
        check(
            Proxy::HaproxyDefault,
            Proxy::HaproxyNever,
            &["", "http-reuse never"],
        );
        check(
            Proxy::HaproxyNever,
            Proxy::HaproxyNeverSticky,
            &["", "option prefer-last-server"],
        );
    }

    #[test]
    fn configurations_name_every_server_and_leave_no_place_empty() {
        for proxy in Proxy::ALL {
            for servers in [1, 3] {
                let text = proxy
                    .configuration(servers)
                    .replace("@VIP@", "")
                    .replace("@DIRECTORY@", "");
                let settings = text.lines().filter(|line| !line.trim().starts_with('#'));
                let settings: Vec<_> = settings.collect();
                assert!(!settings.concat().contains('@'), "{text}");
                for number in 1..=4 {
                    let named = settings
                        .concat()
                        .matches(&format!("{}:80", server(number)))
                        .count();
                    assert_eq!(named, usize::from(number <= servers), "{proxy}: {text}");
                }
            }
        }
    }
}
