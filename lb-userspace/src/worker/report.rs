//! How a worker ended, told even if it panicked: a daemon without one of its workers must end.

use anyhow::Context as _;
use tokio::sync::mpsc;

/// Tells how a worker ended, whatever way it did.
pub(super) struct Report {
    pub(super) worker: String,
    pub(super) result: Option<anyhow::Result<()>>,
    pub(super) end: mpsc::UnboundedSender<anyhow::Result<()>>,
}

impl Report {
    pub(super) fn of(mut self, run: impl FnOnce() -> anyhow::Result<()>) {
        self.result = Some(run());
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        let result = self
            .result
            .take()
            .unwrap_or_else(|| Err(anyhow::anyhow!("it panicked")));
        // Nobody listens any more when the daemon is stopping.
        let _ = self
            .end
            .send(result.with_context(|| format!("thread {}", self.worker)));
    }
}
