//! Ctrl-C for programs that hold a lab: it is noticed between steps, so that guards are dropped and nothing is left.
//!
//! Invariant: the signals are blocked before any thread exists, so only the waiting thread ever sees them; processes
//! that are started later get them as usual, because the standard library unblocks all signals in a child.
//! Used by the demo and the benchmarks. Not here: `kill -9`, after which children die by themselves and the next lab
//! removes what is left (`lab`).

use std::{
    process,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{SigSet, Signal};

/// Exit code of a program that SIGINT ended, as shells report it.
pub const INTERRUPTED: u8 = 130;

/// Whether the user wants the program to end.
#[derive(Clone, Debug, Default)]
pub struct Interrupts {
    wanted: Arc<AtomicBool>,
}

impl Interrupts {
    /// Takes SIGINT, SIGTERM and SIGHUP from now on. Call it first in `main`, before any thread is made.
    ///
    /// The second signal ends the program at once, for people in a hurry.
    pub fn install() -> Result<Self> {
        let mut signals = SigSet::empty();
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            signals.add(signal);
        }
        signals.thread_block().context("blocking signals")?;
        let interrupts = Self::default();
        let wanted = Arc::clone(&interrupts.wanted);
        thread::spawn(move || {
            while signals.wait().is_ok() {
                if wanted.swap(true, Ordering::Relaxed) {
                    process::exit(INTERRUPTED.into());
                }
                eprintln!("interrupted: cleaning up");
            }
        });
        Ok(interrupts)
    }

    /// Whether a signal came.
    pub fn wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }

    /// Fails once a signal came: the way out for code between two steps.
    pub fn check(&self) -> Result<()> {
        ensure!(!self.wanted(), "interrupted");
        Ok(())
    }
}
