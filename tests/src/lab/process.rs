//! A process of the lab: ended when its guard is dropped or when this process dies.
//!
//! Invariant: the kernel sends a child its parent-death signal when the *thread* that started it ends,
//! so all of them are started by one thread that lives as long as this process. A test's own thread
//! would take the pool down with it.

use std::{
    io::{self, BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    sync::{LazyLock, Mutex, PoisonError, mpsc},
    thread,
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// A running process; dropping the guard kills it and waits for its end.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

/// Proof that a process said it is ready, with what it said.
#[derive(Debug, PartialEq, Eq)]
pub struct Ready(pub String);

impl Process {
    /// Waits until the process prints a line that starts with `word` on its standard output, which must be piped.
    ///
    /// Later output is read and thrown away, so that a talkative process never blocks on a full pipe.
    /// Fails when the process ends or closes its output first.
    pub fn wait_for_line(&mut self, word: &str) -> Result<Ready> {
        let stdout = self
            .child
            .stdout
            .take()
            .context("standard output is not piped")?;
        let mut reader = BufReader::new(stdout);
        let mut line = String::new();
        while reader
            .read_line(&mut line)
            .context("reading the process's output")?
            > 0
        {
            if line.starts_with(word) {
                discard_rest(reader);
                return Ok(Ready(line.trim_end().to_owned()));
            }
            line.clear();
        }
        let status = self.child.wait().context("waiting for the process")?;
        bail!("it ended ({status}) before it printed {word:?}")
    }

    /// Process number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks the process to end (SIGTERM) and waits until it has.
    pub fn terminate(&mut self) -> Result<ExitStatus> {
        let pid = i32::try_from(self.child.id()).context("process number")?;
        kill(Pid::from_raw(pid), Signal::SIGTERM).context("sending SIGTERM")?;
        self.child.wait().context("waiting for the process")
    }

    /// Kills the process (SIGKILL) and waits for its end.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill().context("sending SIGKILL")?;
        self.child.wait().context("waiting for the process")?;
        Ok(())
    }

    /// The exit status, if the process has ended.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child
            .try_wait()
            .context("asking for the process's state")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when the process has ended already, which is what is wanted.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn discard_rest(mut reader: BufReader<ChildStdout>) {
    thread::spawn(move || io::copy(&mut reader, &mut io::sink()));
}

/// Starts `command` from the thread that never ends. Standard input is closed.
pub(super) fn spawn_long_lived(mut command: Command) -> Result<Process> {
    type Job = (Command, mpsc::Sender<io::Result<Child>>);
    static SPAWNER: LazyLock<Mutex<mpsc::Sender<Job>>> = LazyLock::new(|| {
        let (jobs, inbox) = mpsc::channel::<Job>();
        thread::spawn(move || {
            for (mut command, reply) in inbox {
                // The asker is waiting; if it is gone, dropping the child's handle is right.
                drop(reply.send(command.spawn()));
            }
        });
        Mutex::new(jobs)
    });

    command.stdin(Stdio::null());
    // Ctrl-C is for the program that holds the lab: it ends its processes in order, and they print no tracebacks.
    command.process_group(0);
    let (reply, answer) = mpsc::channel();
    SPAWNER
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .send((command, reply))
        .ok()
        .context("the spawning thread is gone")?;
    let child = answer.recv().context("the spawning thread is gone")??;
    Ok(Process { child })
}
