//! The lab by hand: `lb-lab up`, look around with `lb-lab exec`, `lb-lab down`.
//!
//! Not here: what a lab consists of (`lb_tests::lab`). Called by people and by `cargo xtask lab`.

use std::{ffi::OsString, os::unix::process::CommandExt as _, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use lb_tests::{
    certs,
    lab::{self, Lab, Namespace, Size},
};

/// Client, edge, switch and pool servers in network namespaces of this machine.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make the lab and leave it in place; one that is there already is replaced.
    Up {
        /// Pool servers.
        #[arg(long, default_value_t = Size::default().servers)]
        servers: u8,
        /// Queues of each interface.
        #[arg(long, default_value_t = Size::default().queues)]
        queues: u8,
    },
    /// Remove the lab and every process in it.
    Down,
    /// Run a command inside one of the lab's namespaces.
    Exec {
        /// lb-client, lb-edge, lb-switch, or lb-pool1 and so on.
        namespace: String,
        /// The command and its arguments.
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// Write a certificate authority and the pool's shared certificate: ca.pem, cert.pem, key.pem.
    Certs {
        /// Directory to write to; made if missing.
        directory: PathBuf,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lb-lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Up { servers, queues } => {
            Lab::up(Size { servers, queues })?.leave_up();
            Ok(())
        }
        Command::Down => lab::down(),
        Command::Exec { namespace, command } => {
            let namespace = Namespace::parse(&namespace)
                .with_context(|| format!("{namespace:?} is no namespace of the lab"))?;
            let (program, arguments) = command.split_first().context("no command")?;
            let failed = namespace.command(program).args(arguments).exec();
            Err(failed).context("starting nsenter")
        }
        Command::Certs { directory } => certs::write(&directory).map(drop),
    }
}
