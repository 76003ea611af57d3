//! The process that checks NTLM: `tests/python/acceptor.py`, built on pyspnego.
//!
//! A process and not a Rust crate, because the only crate with an acceptor (sspi 0.23) compares nothing but the
//! message integrity code, which curl doesn't send: any password would do.
//! Invariant: questions are answered in order, so one queue of waiters is enough; the process ends with its
//! input, so it can't outlive us.

use std::{path::Path, process::Stdio};

use anyhow::{Context as _, Result, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::Mutex,
};

use super::{users, vdir::Protection};

/// A running acceptor.
#[derive(Debug)]
pub(super) struct Acceptor {
    pipes: Mutex<Pipes>,
    _child: Child,
}

#[derive(Debug)]
struct Pipes {
    questions: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

/// What the acceptor says to one leg.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Another leg is needed.
    Continue { token: Vec<u8> },
    /// The password is right; SPNEGO has a last token for the client.
    Complete {
        user: String,
        token: Option<Vec<u8>>,
    },
    /// The token or the password is wrong.
    Refused,
}

impl Acceptor {
    /// Starts the process; `python` must have pyspnego. `certificate` is what TLS clients are shown.
    pub(super) fn start(python: &Path, certificate: Option<&Path>) -> Result<Self> {
        let mut child = Command::new(python)
            .args(["-c", include_str!("../../python/acceptor.py")])
            .arg(users::lines())
            .args(certificate)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}", python.display()))?;
        let questions = child.stdin.take().context("the acceptor has no input")?;
        let answers = child.stdout.take().context("the acceptor has no output")?;
        let pipes = Pipes {
            questions,
            answers: BufReader::new(answers).lines(),
        };
        Ok(Self {
            pipes: Mutex::new(pipes),
            _child: child,
        })
    }

    /// One leg of the handshake of `connection`.
    pub(super) async fn step(
        &self,
        connection: u64,
        token: &[u8],
        protection: Protection,
    ) -> Result<Answer> {
        let question = Question {
            connection,
            token: Some(STANDARD.encode(token)),
            protection: protection.name(),
        };
        // Held from the question to its answer: that is what keeps the answers apart.
        let mut pipes = self.pipes.lock().await;
        pipes.ask(&question).await?;
        let line = pipes
            .answers
            .next_line()
            .await
            .context("reading the acceptor's answer")?;
        let line = line.context("the acceptor ended; is pyspnego installed?")?;
        let reply: Reply = serde_json::from_str(&line).context("the acceptor's answer")?;
        let token = reply
            .token
            .map(|token| STANDARD.decode(token))
            .transpose()?;
        match (reply.user, reply.error, token) {
            (_, Some(_), _) => Ok(Answer::Refused),
            (Some(user), None, token) => Ok(Answer::Complete { user, token }),
            (None, None, Some(token)) => Ok(Answer::Continue { token }),
            (None, None, None) => bail!("the acceptor wants another leg and has no token for it"),
        }
    }

    /// Forgets what `connection` has not finished.
    pub(super) async fn forget(&self, connection: u64) -> Result<()> {
        self.pipes
            .lock()
            .await
            .ask(&Question {
                connection,
                token: None,
                protection: None,
            })
            .await
    }
}

impl Pipes {
    async fn ask(&mut self, question: &Question) -> Result<()> {
        let line = serde_json::to_string(question)? + "\n";
        self.questions
            .write_all(line.as_bytes())
            .await
            .context("asking the acceptor")
    }
}

#[derive(Serialize)]
struct Question {
    connection: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    protection: Option<&'static str>,
}

#[derive(Deserialize)]
struct Reply {
    token: Option<String>,
    user: Option<String>,
    error: Option<String>,
}
