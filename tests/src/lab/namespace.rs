//! One network namespace of the lab, by name.
//!
//! Invariant: a value can only name one of the lab's namespaces, so that `remove` can't hit another.
//! Not here: addresses and links (`topology`).

use std::{ffi::OsStr, fs::File, panic, path::PathBuf, process::Command, thread};

use anyhow::{Context as _, Result};
use nix::{
    errno::Errno,
    sched::{CloneFlags, setns},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{ip, process::spawn_long_lived};

/// A namespace of the lab; it need not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Where clients run.
    pub fn client() -> Self {
        Self {
            name: "lb-client".to_owned(),
        }
    }

    /// Where the load balancer runs.
    pub fn edge() -> Self {
        Self {
            name: "lb-edge".to_owned(),
        }
    }

    /// The bridge between the edge and the pool.
    pub fn switch() -> Self {
        Self {
            name: "lb-switch".to_owned(),
        }
    }

    /// Pool server `number`, counted from 1.
    pub fn pool(number: u8) -> Self {
        Self {
            name: format!("{POOL_PREFIX}{number}"),
        }
    }

    /// The namespace called `name`, if it is a name of the lab.
    pub fn parse(name: &str) -> Option<Self> {
        let known = [Self::client(), Self::edge(), Self::switch()];
        known
            .into_iter()
            .find(|known| known.name == name)
            .or_else(|| {
                let number = name.strip_prefix(POOL_PREFIX)?.parse().ok()?;
                Some(Self::pool(number)).filter(|pool| pool.name == name)
            })
    }

    /// The lab's namespaces that exist now.
    pub(super) fn existing() -> Result<Vec<Self>> {
        let list = ip(&format_args!("netns list"))?;
        Ok(list
            .lines()
            .filter_map(|line| Self::parse(line.split_whitespace().next()?))
            .collect())
    }

    /// Name as `ip netns` knows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A command that runs `program` inside the namespace.
    ///
    /// `nsenter` and not `ip netns exec`: the latter gives the program a `/sys` of its own, where the
    /// machine's BPF file system is not mounted and pinned maps would die with the program.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.path().display()))
            .arg("--")
            .arg(program);
        command
    }

    /// Starts `program` inside the namespace so that it dies with this process, even by `kill -9`.
    pub fn spawn(
        &self,
        program: impl AsRef<OsStr>,
        prepare: impl FnOnce(&mut Command),
    ) -> Result<super::Process> {
        let mut command = self.command("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program.as_ref());
        prepare(&mut command);
        spawn_long_lived(command)
            .with_context(|| format!("starting {} in {}", program.as_ref().display(), self.name))
    }

    /// Calls `work` on a thread inside the namespace: sockets that it opens stay there.
    ///
    /// Processes that `work` starts are not tied to this process: use [`Namespace::spawn`].
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let path = self.path();
        let file = File::open(&path)
            .with_context(|| format!("opening {}: is the lab up?", path.display()))?;
        thread::scope(|scope| {
            // A thread of its own, because the namespace of a thread can't be lent and given back safely.
            let worker = scope.spawn(move || {
                setns(file, CloneFlags::CLONE_NEWNET)?;
                Ok::<_, Errno>(work())
            });
            match worker.join() {
                Ok(result) => result.with_context(|| format!("entering {}", self.name)),
                Err(panic) => panic::resume_unwind(panic),
            }
        })
    }

    /// Ends the processes inside, then removes the namespace and with it its interfaces.
    pub(super) fn remove(&self) -> Result<()> {
        for pid in ip(&format_args!("netns pids {}", self.name))?.split_whitespace() {
            let pid = pid
                .parse()
                .with_context(|| format!("`ip netns pids` printed {pid:?}"))?;
            match kill(Pid::from_raw(pid), Signal::SIGKILL) {
                // It ended by itself in the meantime.
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(error) => {
                    return Err(error)
                        .with_context(|| format!("ending process {pid} in {}", self.name));
                }
            }
        }
        ip(&format_args!("netns del {}", self.name)).map(drop)
    }

    fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }
}

const POOL_PREFIX: &str = "lb-pool";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_the_lab_parse() {
        for name in ["lb-client", "lb-edge", "lb-switch", "lb-pool1", "lb-pool42"] {
            assert_eq!(Namespace::parse(name).expect(name).name(), name);
        }
        for name in [
            "",
            "lb-",
            "lb-pool",
            "lb-pool01",
            "lb-pool-1",
            "lb-pool999",
            "lb-edge2",
            "client",
        ] {
            assert_eq!(Namespace::parse(name), None, "{name}");
        }
    }
}
