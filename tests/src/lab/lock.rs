//! One lab at a time: namespaces have global names, so two runs would remove each other's.
//!
//! Invariant: the kernel holds the lock for the open file, so a killed run never leaves it held.
//! Not here: anything about a lab that `lb-lab up` left in place; that one is removed by the next run.

use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Seek as _, Write as _},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    unistd::getpid,
};

/// The machine's lab lock, released on drop.
///
/// The fields are dropped in order: the next thread of this process finds the file unlocked.
#[derive(Debug)]
pub(super) struct Lock {
    _across_processes: Flock<File>,
    _within_process: MutexGuard<'static, ()>,
}

impl Lock {
    /// Takes the lock; waits up to [`PATIENCE`] for another run to give it back.
    pub(super) fn acquire() -> Result<Self> {
        // Tests of one binary run on threads; a mutex lets them queue without polling.
        static WITHIN_PROCESS: Mutex<()> = Mutex::new(());
        let within_process = WITHIN_PROCESS
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(PATH)
            .with_context(|| format!("opening the lab's lock file {PATH}"))?;
        let started = Instant::now();
        let mut told = Told::NotYet;
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(mut held) => {
                    write_owner(&mut held).with_context(|| format!("writing {PATH}"))?;
                    return Ok(Self {
                        _across_processes: held,
                        _within_process: within_process,
                    });
                }
                Err((returned, Errno::EWOULDBLOCK)) => file = returned,
                Err((_, error)) => return Err(error).with_context(|| format!("locking {PATH}")),
            }
            if started.elapsed() > PATIENCE {
                bail!(
                    "another lab is in use by process {}; end it, or wait until it is done",
                    owner(&mut file)
                );
            }
            if told == Told::NotYet {
                eprintln!(
                    "lab: waiting for process {} to give up its lab",
                    owner(&mut file)
                );
                told = Told::Once;
            }
            thread::sleep(RETRY);
        }
    }
}

#[derive(PartialEq, Eq)]
enum Told {
    NotYet,
    Once,
}

fn write_owner(file: &mut File) -> std::io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", getpid())
}

fn owner(file: &mut File) -> String {
    let mut text = String::new();
    // The owner is told for people; not knowing it is no reason to fail.
    let read = file.rewind().and_then(|()| file.read_to_string(&mut text));
    match read {
        Ok(_) if !text.trim().is_empty() => text.trim().to_owned(),
        _ => "(unknown)".to_owned(),
    }
}

/// Left in place when released: removing a lock file lets two processes hold "the" lock.
const PATH: &str = "/run/lb-lab.lock";
const PATIENCE: Duration = Duration::from_mins(5);
const RETRY: Duration = Duration::from_millis(500);
