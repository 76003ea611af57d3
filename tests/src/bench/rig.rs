//! The lab of a benchmark: two servers without journals, and one contender at a time in front of them.
//!
//! Invariant: a [`Running`] serves both plain HTTP and TLS; while none exists nothing runs on the edge and no XDP
//! program is attached. Not here: the load.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tempfile::TempDir;

use super::{Case, Contender, contender::SERVERS};
use crate::{
    address::{VIP_HTTP, server},
    binaries,
    certs::{self, Files},
    client,
    lab::{Lab, Namespace, Process, Size},
    pool::{HTTP_PORT, HTTPS_PORT, Server, Settings},
};

/// A lab with a pool in it. The order of the fields is the order of the end.
#[derive(Debug)]
pub struct Rig {
    _servers: Vec<Server>,
    lab: Lab,
    certs: Files,
    directory: TempDir,
}

impl Rig {
    /// Makes the lab and starts the servers.
    pub fn start() -> Result<Self> {
        // For the idle connections; what is started inherits it.
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
            .context("raising the limit of open files")?;
        let lab = Lab::up(Size {
            servers: SERVERS,
            ..Size::default()
        })?;
        let directory = TempDir::with_prefix("lb-bench-")?;
        let certs = certs::write(directory.path())?;
        // The lab turns offloads off for the sake of layer 4. A network card has them, and without them large bodies
        // would be cut up on the servers' side for the direct run and on the balancer's for everyone else.
        offloads(&Namespace::switch(), "lb-up")?;
        let servers = (1..=SERVERS)
            .map(|number| {
                offloads(&lab.pool(number), "lb-eth0")?;
                Server::start(Settings {
                    number,
                    journal: None,
                    tls: Some(&certs),
                    extended_protection: false,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            _servers: servers,
            lab,
            certs,
            directory,
        })
    }

    /// The network.
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// Certificates of servers and balancers.
    pub(super) fn certs(&self) -> &Files {
        &self.certs
    }

    /// Directory that is removed with the rig.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Starts a contender and waits until it serves.
    pub fn run(&self, contender: Contender) -> Result<Running> {
        let mut running = self
            .start_process(contender)
            .with_context(|| format!("starting {contender}"))?;
        for case in [Case::KeepAlive, Case::Tls, Case::ReEncrypt] {
            running
                .until_served(&contender.url(case))
                .with_context(|| format!("starting {contender}"))?;
        }
        Ok(running)
    }

    /// Starts `lb` with this configuration and waits until it serves all of `urls`.
    pub(crate) fn balance(&self, text: String, urls: &[String]) -> Result<Running> {
        let mut running = self.launch(Setup::lb(text)?)?;
        for url in urls {
            running.until_served(url).context("starting lb")?;
        }
        Ok(running)
    }

    fn start_process(&self, contender: Contender) -> Result<Running> {
        match self.setup(contender)? {
            Some(setup) => self.launch(setup),
            None => Ok(Running {
                process: None,
                log: self.log(),
            }),
        }
    }

    fn launch(&self, setup: Setup) -> Result<Running> {
        let log = self.log();
        let config = self.directory().join(setup.name);
        fs::write(&config, setup.text).with_context(|| format!("writing {}", config.display()))?;
        let output = File::create(&log)?;
        let errors = output.try_clone()?;
        let process = self.lab.edge().spawn(setup.program, |command| {
            command.args(setup.arguments).arg(config);
            // What an operator's log file would cost is not part of the comparison.
            command.env("LB_LOG", "error");
            command.stdout(output).stderr(errors);
        })?;
        let process = Some(process);
        Ok(Running { process, log })
    }

    fn log(&self) -> PathBuf {
        self.directory().join("contender.log")
    }

    fn setup(&self, contender: Contender) -> Result<Option<Setup>> {
        let lb = |transport| {
            let template = include_str!("../../assets/bench-lb.toml");
            let line = |number, port| format!("\"{}:{port}\",", server(number));
            let text = self.fill(template, line);
            Setup::lb(text.replace("@TRANSPORT@", transport)).map(Some)
        };
        match contender {
            Contender::Direct => Ok(None),
            Contender::LbAfXdp => lb("af_xdp"),
            Contender::LbKernel => lb("kernel"),
            Contender::Nginx => Ok(Some(Setup {
                program: "nginx".into(),
                arguments: &["-c"],
                name: "nginx.conf",
                text: self.fill(
                    include_str!("../../assets/bench-nginx.conf"),
                    |number, port| format!("        server {}:{port};\n", server(number)),
                ),
            })),
            Contender::Haproxy => {
                // HAProxy wants certificate and key in one file.
                let both = [&self.certs.certificate, &self.certs.key].map(fs::read_to_string);
                let [certificate, key] = both;
                fs::write(self.directory().join("haproxy.pem"), certificate? + &key?)?;
                Ok(Some(Setup {
                    program: "haproxy".into(),
                    // -db: stay in the foreground.
                    arguments: &["-db", "-f"],
                    name: "haproxy.cfg",
                    text: self.fill(
                        include_str!("../../assets/bench-haproxy.cfg"),
                        |number, port| format!("    server ex{number} {}:{port}\n", server(number)),
                    ),
                }))
            }
        }
    }

    /// Fills what all templates have in common; `line` is how a configuration names a server's port.
    pub(crate) fn fill(&self, template: &str, line: impl Fn(u8, u16) -> String) -> String {
        let servers = |port| {
            let lines = (1..=SERVERS).map(|number| line(number, port));
            lines.collect::<String>().trim_end_matches('\n').to_owned()
        };
        template
            .replace("@SERVERS@", &servers(HTTP_PORT))
            .replace("@TLS_SERVERS@", &servers(HTTPS_PORT))
            .replace("@CA@", &self.certs.ca.display().to_string())
            .replace("@NAME@", certs::NAME)
            .replace("@VIP@", &VIP_HTTP.to_string())
            .replace("@DIRECTORY@", &self.directory().display().to_string())
            .replace(
                "@CERTIFICATE@",
                &self.certs.certificate.display().to_string(),
            )
            .replace("@KEY@", &self.certs.key.display().to_string())
    }
}

struct Setup {
    program: PathBuf,
    /// Before the path of the configuration.
    arguments: &'static [&'static str],
    name: &'static str,
    text: String,
}

impl Setup {
    fn lb(text: String) -> Result<Self> {
        Ok(Self {
            program: binaries::lb()?,
            arguments: &["run", "--config"],
            name: "lb.toml",
            text,
        })
    }
}

fn offloads(namespace: &Namespace, interface: &str) -> Result<()> {
    let output = namespace
        .command("ethtool")
        .args(["-K", interface, "tx", "on"])
        .output()
        .context("starting ethtool")?;
    ensure!(
        output.status.success(),
        "ethtool can't turn offloads on: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

/// A contender that serves; dropping it kills it.
#[derive(Debug)]
pub struct Running {
    /// None for the direct run.
    process: Option<Process>,
    log: PathBuf,
}

impl Running {
    /// Ends it in order and waits, so that the next one finds the addresses free.
    pub fn stop(mut self) -> Result<()> {
        if let Some(process) = &mut self.process {
            process.terminate()?;
        }
        Ok(())
    }

    /// Fails if it has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        if let Some(status) = self.process.as_mut().map(Process::ended).transpose()? {
            ensure!(status.is_none(), "it ended: {}", self.last_words());
        }
        Ok(())
    }

    fn until_served(&mut self, url: &str) -> Result<()> {
        let started = Instant::now();
        while client::fetch(&["--insecure"], url)?.0 != 200 {
            self.check()?;
            if started.elapsed() > PATIENCE {
                bail!("{url} is not served: {}", self.last_words());
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// The last lines of its log.
    fn last_words(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LAST_WORDS)..].join("; ")
    }
}

const LAST_WORDS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(20);
