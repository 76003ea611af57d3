//! A pool server inside a lab: started, switched and read by tests, demo and benchmarks.
//!
//! Invariant: a value means that the server listens; dropping it ends the process.

use std::{
    fmt, fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpStream},
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, Result, ensure};

use super::journal::{self, Entry};
use crate::{
    binaries,
    certs::Files,
    lab::{Namespace, Process},
};

/// Port of plain HTTP.
pub const HTTP_PORT: u16 = 80;
/// Port of HTTPS.
pub const HTTPS_PORT: u16 = 443;
/// Port of SMTP.
pub const SMTP_PORT: u16 = 25;
const ADMIN_PORT: u16 = 9000;

/// How a pool server is started.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    /// Its number in the lab, counted from 1; it is called `EX<number>`.
    pub number: u8,
    /// Directory for the journal `ex<number>.journal`; without one no journal is kept, which is faster.
    pub journal: Option<&'a Path>,
    /// Certificate and key for HTTPS; without them only HTTP and SMTP are served.
    pub tls: Option<&'a Files>,
    /// Whether logins over TLS are checked for the channel they came by, where Microsoft recommends it.
    pub extended_protection: bool,
}

/// A running pool server.
#[derive(Debug)]
pub struct Server {
    number: u8,
    journal: Option<PathBuf>,
    process: Process,
}

/// A way to make a server fail, and back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch<'a> {
    /// The health page of this virtual directory answers 503.
    HealthDown(&'a str),
    /// The health page answers 200 with something else than that all is well.
    HealthConfused(&'a str),
    /// The health page is well again.
    HealthUp(&'a str),
    /// New connections are reset, open ones end with their next request.
    Reset,
    /// Connections are served again.
    Accept,
    /// Every answer is held back for so many milliseconds.
    Delay(u32),
    /// Held requests get a sign of life once in so many milliseconds.
    Period(u32),
    /// RPC channels declare so many bytes.
    Channel(u64),
    /// Answers of this virtual directory go wrong.
    Fault(&'a str, Fault),
    /// They no longer do.
    Well(&'a str),
}

/// How answers go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Another status and no body.
    Status(u16),
    /// Held back for so many milliseconds.
    Delay(u32),
    /// No answer, and the connection stays open.
    Silent,
    /// FIN after half of the body.
    Half,
    /// RST after half of the body.
    Reset,
    /// `Connection: close`, and the connection ends.
    Close,
    /// The connection ends, without a word, after its nth answer.
    CloseAfter(u32),
    /// A client that waits for `100 Continue` gets none.
    NoContinue,
}

impl fmt::Display for Fault {
    /// As the switchboard wants it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "status/{status}"),
            Self::Delay(milliseconds) => write!(f, "delay/{milliseconds}"),
            Self::Silent => f.write_str("silent"),
            Self::Half => f.write_str("half"),
            Self::Reset => f.write_str("reset"),
            Self::Close => f.write_str("close"),
            Self::NoContinue => f.write_str("no-continue"),
            Self::CloseAfter(answers) => write!(f, "close-after/{answers}"),
        }
    }
}

impl Server {
    /// Starts the server in its namespace and waits until it listens.
    pub fn start(settings: Settings<'_>) -> Result<Self> {
        let number = settings.number;
        let journal = settings
            .journal
            .map(|directory| directory.join(format!("ex{number}.journal")));
        let python = binaries::python()?;
        let mut process =
            Namespace::pool(number).spawn(binaries::sibling("lb-pool")?, |command| {
                command
                    .args(["--name", &format!("EX{number}")])
                    .args(["--http", &format!("0.0.0.0:{HTTP_PORT}")])
                    .args(["--smtp", &format!("0.0.0.0:{SMTP_PORT}")])
                    .args(["--admin", &format!("127.0.0.1:{ADMIN_PORT}")])
                    .arg("--python")
                    .arg(python)
                    .stdout(Stdio::piped());
                if let Some(journal) = &journal {
                    command.arg("--journal").arg(journal);
                }
                if let Some(tls) = settings.tls {
                    command
                        .args(["--https", &format!("0.0.0.0:{HTTPS_PORT}")])
                        .arg("--certificate")
                        .arg(&tls.certificate)
                        .arg("--key")
                        .arg(&tls.key);
                }
                if settings.extended_protection {
                    command.arg("--extended-protection");
                }
            })?;
        process
            .wait_for_line("ready")
            .with_context(|| format!("starting pool server {number}"))?;
        Ok(Self {
            number,
            journal,
            process,
        })
    }

    /// Number in the lab, counted from 1.
    pub fn number(&self) -> u8 {
        self.number
    }

    /// Name that the server answers with: `EX1`.
    pub fn name(&self) -> String {
        format!("EX{}", self.number)
    }

    /// Its process number.
    pub fn process(&self) -> u32 {
        self.process.id()
    }

    /// Turns a switch; it holds when this returns.
    pub fn switch(&self, switch: Switch<'_>) -> Result<()> {
        let path = match switch {
            Switch::HealthDown(vdir) => format!("health/{vdir}/down"),
            Switch::HealthConfused(vdir) => format!("health/{vdir}/confused"),
            Switch::HealthUp(vdir) => format!("health/{vdir}/up"),
            Switch::Reset => "connections/reset".to_owned(),
            Switch::Accept => "connections/accept".to_owned(),
            Switch::Delay(milliseconds) => format!("delay/{milliseconds}"),
            Switch::Period(milliseconds) => format!("period/{milliseconds}"),
            Switch::Channel(bytes) => format!("channel/{bytes}"),
            Switch::Fault(vdir, fault) => format!("fault/{vdir}/{fault}"),
            Switch::Well(vdir) => format!("fault/{vdir}/well"),
        };
        let request = format!(
            "PUT /{path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        );
        let answer = Namespace::pool(self.number).run(|| -> Result<String> {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, ADMIN_PORT))?;
            stream.write_all(request.as_bytes())?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        })??;
        ensure!(
            answer.starts_with("HTTP/1.1 204 "),
            "{switch:?} was answered: {answer:?}"
        );
        Ok(())
    }

    /// Everything the server has seen since its start or the last [`Server::forget`].
    pub fn seen(&self) -> Result<Vec<Entry>> {
        journal::read(
            self.journal
                .as_deref()
                .context("this server keeps no journal")?,
        )
    }

    /// Empties the journal.
    pub fn forget(&self) -> Result<()> {
        let path = self
            .journal
            .as_deref()
            .context("this server keeps no journal")?;
        // The server appends, so it goes on at the new end.
        fs::write(path, "").with_context(|| format!("emptying {}", path.display()))
    }
}
