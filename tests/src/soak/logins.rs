//! The process that makes NTLM messages for our clients: `tests/python/logins.py`, built on pyspnego.
//!
//! Invariant: questions are answered in order, so one queue of waiters is enough; the process ends with its input.

use std::{path::Path, process::Stdio};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::Mutex,
};

use crate::{binaries, pool::User};

/// A running process.
#[derive(Debug)]
pub(super) struct Logins {
    pipes: Mutex<(ChildStdin, Lines<BufReader<ChildStdout>>)>,
    _child: Child,
}

impl Logins {
    pub(super) fn start() -> Result<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/logins.py");
        let mut child = Command::new(binaries::python()?)
            // Its cache files would be left in the source tree.
            .arg("-B")
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("starting logins.py")?;
        let questions = child.stdin.take().context("no input")?;
        let answers = child.stdout.take().context("no output")?;
        Ok(Self {
            pipes: Mutex::new((questions, BufReader::new(answers).lines())),
            _child: child,
        })
    }

    /// The first message of a login, in base64.
    pub(super) async fn first(&self, login: u64, user: &User, scheme: &str) -> Result<String> {
        self.ask(&Question::First {
            login,
            user: user.name,
            password: user.password,
            scheme,
        })
        .await
    }

    /// The last message, which answers the server's challenge; both in base64.
    pub(super) async fn last(&self, login: u64, challenge: &str) -> Result<String> {
        self.ask(&Question::Last { login, challenge }).await
    }

    async fn ask(&self, question: &Question<'_>) -> Result<String> {
        let line = serde_json::to_string(question)? + "\n";
        let mut pipes = self.pipes.lock().await;
        let (questions, answers) = &mut *pipes;
        questions.write_all(line.as_bytes()).await?;
        let answer = answers.next_line().await?;
        let answer = answer.context("logins.py ended; is pyspnego installed?")?;
        let answer: Answer = serde_json::from_str(&answer)?;
        Ok(answer.token)
    }
}

#[derive(Serialize)]
#[serde(untagged)]
enum Question<'a> {
    First {
        login: u64,
        user: &'a str,
        password: &'a str,
        scheme: &'a str,
    },
    Last {
        login: u64,
        challenge: &'a str,
    },
}

#[derive(Deserialize)]
struct Answer {
    token: String,
}
