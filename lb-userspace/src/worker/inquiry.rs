//! Questions to the workers from other threads: each is a closure that a worker runs beside its connections.
//!
//! An engine belongs to its worker's thread, so whoever wants to know something of it, or has something for it, sends the
//! question there and waits for the answer.

use std::rc::Rc;
use std::time::Duration;

use anyhow::Context as _;
use lb_transport::af_xdp::Handle;
use tokio::sync::{mpsc, oneshot};

use super::carried::Begun;
use super::queue::Queue;

/// A worker that is busy for so long has lost its way.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a worker has that can be asked.
pub(crate) struct Inside {
    pub(super) queue: Rc<Queue>,
    /// Those that began on the kernel.
    pub(crate) begun: Rc<Begun>,
}

impl Inside {
    /// Its connections on `AF_XDP`, and those that moved from there.
    pub(crate) fn engine(&self) -> Handle {
        self.queue.engine()
    }
}

/// A question on its way, answer included.
type Ask = Box<dyn FnOnce(&Inside) + Send>;

/// Where one worker finds its questions.
pub(super) struct Inbox(mpsc::UnboundedReceiver<Ask>);

impl Inbox {
    /// Runs each question as it comes, until nobody can ask any more.
    pub(super) async fn answer(mut self, inside: Inside) {
        while let Some(ask) = self.0.recv().await {
            ask(&inside);
        }
    }
}

/// The way to all workers.
#[derive(Clone, Default)]
pub(crate) struct Inquiry {
    workers: Vec<mpsc::UnboundedSender<Ask>>,
}

impl Inquiry {
    /// The ways to so many workers, and their inboxes.
    pub(super) fn to_workers(count: usize) -> (Self, Vec<Inbox>) {
        let ways = (0..count).map(|_| mpsc::unbounded_channel());
        let (workers, receivers): (Vec<_>, Vec<_>) = ways.unzip();
        (Self { workers }, receivers.into_iter().map(Inbox).collect())
    }

    /// Tells every worker but one. Who has ended is not told.
    pub(super) fn tell_others<Q>(&self, own: usize, news: &Q)
    where
        Q: Fn(&Inside) + Clone + Send + 'static,
    {
        let others = self.workers.iter().enumerate();
        for (_, worker) in others.filter(|(queue, _)| *queue != own) {
            let _ = worker.send(Box::new(news.clone()));
        }
    }

    /// Asks every worker; the answers in order of their queues.
    ///
    /// # Errors
    /// If a worker has ended or does not answer.
    pub(crate) async fn ask<T, Q>(&self, question: Q) -> anyhow::Result<Vec<T>>
    where
        T: Send + 'static,
        Q: Fn(&Inside) -> T + Clone + Send + 'static,
    {
        let mut answers = Vec::new();
        for worker in &self.workers {
            let (sender, receiver) = oneshot::channel();
            let question = question.clone();
            let ask = move |inside: &Inside| {
                // Whoever asked may have lost patience.
                let _ = sender.send(question(inside));
            };
            // A worker that has ended drops the question, and the answer's way with it.
            let _ = worker.send(Box::new(ask));
            answers.push(receiver);
        }
        let mut told = Vec::new();
        for (queue, answer) in answers.into_iter().enumerate() {
            let answer = tokio::time::timeout(PATIENCE, answer).await;
            let answer = answer.with_context(|| format!("worker {queue} does not answer"))?;
            told.push(answer.with_context(|| format!("worker {queue} has ended"))?);
        }
        Ok(told)
    }
}
