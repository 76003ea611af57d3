//! Commands, their arguments and their exit codes. What a command does is in the module it calls.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use serde::de::DeserializeOwned;

use crate::admin::{Answer, Status};
use crate::control::{Done, Order};
use crate::doctor::Diagnosis;
use crate::explain::{self, Outcome, Question};
use crate::flows::{Flows, Query};
use crate::template::Template;
use crate::trace::{Filter, Printer};
use crate::{admin, compose, dataplane, run};

/// An XDP-assisted load balancer for Exchange pools.
#[derive(Debug, Parser)]
#[command(name = "lb", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Balance until SIGTERM or SIGINT.
    Run(RunArgs),
    /// End what a daemon with `--pin` has left behind: its L4 flows, too.
    Detach(DetachArgs),
    /// Read the configuration and every file that it names, say all that is wrong, change nothing.
    Check(ConfigFile),
    /// Print a configuration to begin with.
    #[command(subcommand)]
    Template(Template),
    /// Services, servers and packet counters of the running daemon.
    Status(Daemon),
    /// What is wrong with the running daemon, its certificates and its servers, and what to do about it. Exit code 1 if
    /// something is.
    Doctor(Daemon),
    /// Connections just now: those that the packet path forwards, and those that end here, with the TCP that they live in: the
    /// workers' (`af_xdp`) or the kernel's, and why they moved there.
    Flows(FlowsArgs),
    /// Every request as it ends, with what was decided about it: server and pin, step of the login, `Via`, errors, and where the
    /// connection lives. Until interrupted.
    Trace(TraceArgs),
    /// Give a server no new connections; those that it has go on, with the requests of logged-in clients on them. Until `lb undrain`, or the end of the daemon:
    /// for longer, give it weight 0 in the configuration, or in mode "http" remove it.
    Drain(DrainArgs),
    /// Give a server new connections again.
    Undrain(DrainArgs),
    /// What the packet path would do with a packet, and why; nothing is sent or changed.
    Explain(ExplainArgs),
}

#[derive(Debug, Args)]
struct ConfigFile {
    /// The configuration.
    #[arg(long, value_name = "FILE", default_value = "/etc/lb/lb.toml")]
    config: PathBuf,
}

#[derive(Debug, Args)]
struct RunArgs {
    #[command(flatten)]
    file: ConfigFile,
    /// Directory on a BPF file system, such as /sys/fs/bpf/lb: L4 flows then go on when the daemon ends, in order (SIGTERM,
    /// SIGINT) or not, and the next one with the same directory takes them over. `lb detach` ends them.
    #[arg(long, value_name = "DIR")]
    pin: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct DetachArgs {
    /// The directory that `lb run` was given.
    #[arg(long, value_name = "DIR")]
    pin: PathBuf,
}

#[derive(Debug, Args)]
struct Daemon {
    /// The daemon's admin socket: `admin` of its configuration.
    #[arg(long, value_name = "SOCKET", default_value = lb_config::DEFAULT_ADMIN)]
    admin: PathBuf,
    /// The whole answer as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct FlowsArgs {
    #[command(flatten)]
    daemon: Daemon,
    #[command(flatten)]
    query: Query,
}

#[derive(Debug, Args)]
struct TraceArgs {
    #[command(flatten)]
    daemon: Daemon,
    #[command(flatten)]
    filter: Filter,
    /// End after so many requests.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

#[derive(Debug, Args)]
struct DrainArgs {
    /// Name of the service, or service/route for one route of it.
    service: String,
    /// Name of the server, or its address and port.
    server: String,
    #[command(flatten)]
    daemon: Daemon,
}

#[derive(Debug, Args)]
struct ExplainArgs {
    #[command(flatten)]
    daemon: Daemon,
    #[command(flatten)]
    source: explain::Source,
    /// Interface that the packet comes in by; the first one of the configuration unless told.
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,
    /// Receive queue that it comes in by.
    #[arg(long, default_value_t = 0, value_name = "N")]
    queue: u32,
    /// CPU that handles it: ports of full NAT are dealt out to CPUs.
    #[arg(long, default_value_t = 0, value_name = "N")]
    cpu: u32,
}

/// A command that did not do what it was asked.
#[derive(Debug)]
pub enum Failure {
    /// The configuration is wrong: exit code 2.
    Config(String),
    /// Anything else: exit code 1.
    Failed(anyhow::Error),
}

impl Failure {
    /// 2 for what the operator must correct in the configuration, else 1.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Config(_) => ExitCode::from(2),
            Self::Failed(_) => ExitCode::FAILURE,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(errors) => f.write_str(errors.trim_end()),
            // The alternate form prints the chain of causes on one line.
            Self::Failed(error) => write!(f, "lb: {error:#}"),
        }
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Runs one command.
pub fn execute(cli: Cli) -> Result<(), Failure> {
    match cli.command {
        Command::Run(RunArgs { file, pin }) => {
            run::run(&compose::load(&file.config)?, pin.as_deref())
        }
        Command::Detach(DetachArgs { pin }) => Ok(dataplane::detach(&pin)?),
        Command::Check(file) => check(&file.config),
        Command::Template(template) => {
            print(&template.print()?);
            Ok(())
        }
        Command::Status(daemon) => daemon.print(&admin::status(&daemon.admin)?, Status::to_string),
        Command::Doctor(daemon) => doctor(&daemon),
        Command::Flows(FlowsArgs { daemon, query }) => {
            daemon.print(&admin::flows(&daemon.admin, &query)?, Flows::to_string)
        }
        Command::Trace(args) => args.follow(),
        Command::Drain(args) => args.order(true),
        Command::Undrain(args) => args.order(false),
        Command::Explain(args) => args.run(),
    }
}

impl Daemon {
    #[expect(clippy::print_stdout, reason = "the answer of a command")]
    fn print<T: DeserializeOwned>(
        &self,
        answer: &Answer<T>,
        text: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        if self.json {
            println!("{}", answer.json());
        } else {
            print!("{}", text(&answer.value()?));
        }
        Ok(())
    }
}

impl TraceArgs {
    fn follow(self) -> Result<(), Failure> {
        let mut printer = Printer {
            json: self.daemon.json,
            left: self.count,
        };
        let print = |line: &[u8]| printer.print(line);
        Ok(admin::trace(&self.daemon.admin, &self.filter, print)?)
    }
}

impl DrainArgs {
    fn order(self, drained: bool) -> Result<(), Failure> {
        let order = Order {
            service: self.service,
            server: self.server,
            drained,
        };
        let answer = admin::drain(&self.daemon.admin, &order)?;
        self.daemon.print(&answer, |done| {
            let takes = if done.up { "takes" } else { "gets no" };
            let Done { server, reason, .. } = done;
            let routes = match &done.routes[..] {
                [] => String::new(),
                routes => format!(" in {}", routes.join(", ")),
            };
            format!("{server} {takes} new connections{routes}: {reason}\n")
        })
    }
}

impl ExplainArgs {
    fn run(self) -> Result<(), Failure> {
        let question = Question {
            frames: self.source.frames()?,
            interface: self.interface,
            queue: self.queue,
            cpu: self.cpu,
        };
        let answer = admin::explain(&self.daemon.admin, &question)?;
        let text = |outcomes: &Vec<_>| outcomes.iter().map(Outcome::to_string).collect();
        self.daemon.print(&answer, text)
    }
}

fn doctor(daemon: &Daemon) -> Result<(), Failure> {
    let answer = admin::doctor(&daemon.admin)?;
    daemon.print(&answer, Diagnosis::to_string)?;
    match answer.value()?.wrong() {
        0 => Ok(()),
        wrong => Err(anyhow::anyhow!("{wrong} found wrong").into()),
    }
}

fn check(path: &Path) -> Result<(), Failure> {
    print(&compose::load(path)?.describe());
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the answer of a command")]
fn print(text: &str) {
    print!("{text}");
}
