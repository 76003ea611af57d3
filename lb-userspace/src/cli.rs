//! Commands, their arguments and their exit codes. What a command does is in the module it calls.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::{admin, compose, run};

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
    Run(ConfigFile),
    /// Read the configuration and every file that it names, say all that is wrong, change nothing.
    Check(ConfigFile),
    /// Services, servers and packet counters of the running daemon.
    Status(StatusArgs),
}

#[derive(Debug, Args)]
struct ConfigFile {
    /// The configuration.
    #[arg(long, value_name = "FILE", default_value = "/etc/lb/lb.toml")]
    config: PathBuf,
}

#[derive(Debug, Args)]
struct StatusArgs {
    /// The daemon's admin socket: `admin` of its configuration.
    #[arg(long, value_name = "SOCKET", default_value = lb_config::DEFAULT_ADMIN)]
    admin: PathBuf,
    /// The whole status as JSON.
    #[arg(long)]
    json: bool,
}

impl StatusArgs {
    fn format(&self) -> admin::Format {
        if self.json {
            admin::Format::Json
        } else {
            admin::Format::Text
        }
    }
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
        Command::Run(file) => run::run(&compose::load(&file.config)?),
        Command::Check(file) => check(&file.config),
        Command::Status(args) => admin::print_status(&args.admin, args.format()),
    }
}

#[expect(clippy::print_stdout, reason = "the answer of `lb check`")]
fn check(path: &Path) -> Result<(), Failure> {
    print!("{}", compose::load(path)?.describe());
    Ok(())
}
