//! Ctrl-C for programs that hold a lab: it is noticed between steps, so that guards are dropped and nothing is left.
//!
//! Invariant: signals are handled and not blocked, because a child would inherit the mask and never end by SIGTERM.
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
use tokio::{
    runtime::Builder,
    signal::unix::{SignalKind, signal},
};

/// Exit code of a program that SIGINT ended, as shells report it.
pub const INTERRUPTED: u8 = 130;

/// Whether the user wants the program to end.
#[derive(Clone, Debug, Default)]
pub struct Interrupts {
    wanted: Arc<AtomicBool>,
}

impl Interrupts {
    /// Takes SIGINT, SIGTERM and SIGHUP from when it returns.
    ///
    /// The second signal ends the program at once, for people in a hurry.
    pub fn install() -> Result<Self> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .context("starting the thread for signals")?;
        let (mut interrupt, mut terminate, mut hangup) = {
            let _inside = runtime.enter();
            (
                signal(SignalKind::interrupt())?,
                signal(SignalKind::terminate())?,
                signal(SignalKind::hangup())?,
            )
        };
        let interrupts = Self::default();
        let wanted = Arc::clone(&interrupts.wanted);
        thread::spawn(move || {
            loop {
                runtime.block_on(async {
                    tokio::select! {
                        _ = interrupt.recv() => {}
                        _ = terminate.recv() => {}
                        _ = hangup.recv() => {}
                    }
                });
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
