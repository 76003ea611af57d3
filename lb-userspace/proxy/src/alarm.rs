//! Timers that seldom move: one follows its deadline only when it rings.
//!
//! Most deadlines move away with each byte or request, long before they come, and to move one of the runtime's timers takes its
//! lock twice. An alarm that stays where it is rings once in a deadline's time, and looks at the deadline then.
//! Invariant: it never rings later than the deadline that it was last polled with.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep, sleep_until};

/// Ready at the deadline.
pub(crate) fn poll_until(
    cx: &mut Context<'_>,
    mut alarm: Pin<&mut Sleep>,
    deadline: Instant,
) -> Poll<()> {
    loop {
        if deadline < alarm.deadline() {
            alarm.as_mut().reset(deadline);
        }
        ready!(alarm.as_mut().poll(cx));
        if deadline <= alarm.deadline() {
            return Poll::Ready(());
        }
        alarm.as_mut().reset(deadline);
    }
}

/// An alarm for many waits, one after the other; there from the first on.
#[derive(Debug, Default)]
pub(crate) struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// Ready at the deadline.
    pub(crate) fn poll_until(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let new = || Box::pin(sleep_until(deadline));
        poll_until(cx, self.0.get_or_insert_with(new).as_mut(), deadline)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn rings_at_each_deadline_whether_it_moves_away_or_closer() {
        let mut alarm = Alarm::default();
        let start = Instant::now();
        let mut now = Duration::ZERO;
        for wait in [60, 10, 60, 1, 2, 100] {
            // A wait that is given up leaves the alarm where it was.
            let far = start + now + Duration::from_secs(wait + 30);
            let given_up = poll_fn(|cx| Poll::Ready(alarm.poll_until(cx, far))).await;
            assert!(given_up.is_pending());
            now += Duration::from_secs(wait);
            poll_fn(|cx| alarm.poll_until(cx, start + now)).await;
            assert_eq!(start.elapsed().as_secs(), now.as_secs());
        }
    }
}
