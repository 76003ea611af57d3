//! One timer per flow, in order of time.
//!
//! Arming is lazy: a flow whose time moves back keeps its old entry and looks again when that fires, because
//! with every packet the retransmission time moves back and almost never fires.

use std::collections::BTreeSet;
use std::time::Instant;

use super::flow::FlowId;

/// Times at which flows want to be looked at.
#[derive(Debug, Default)]
pub(super) struct Timers {
    queue: BTreeSet<(Instant, FlowId)>,
}

impl Timers {
    /// Makes sure that `id` fires at `due` or before. `armed` is the flow's own record of its entry.
    pub(super) fn arm(&mut self, id: FlowId, armed: &mut Option<Instant>, due: Instant) {
        if armed.is_some_and(|at| at <= due) {
            return;
        }
        self.disarm(id, armed);
        self.queue.insert((due, id));
        *armed = Some(due);
    }

    /// Removes the entry of `id`. Needed before its flow goes: identities are used again.
    pub(super) fn disarm(&mut self, id: FlowId, armed: &mut Option<Instant>) {
        if let Some(at) = armed.take() {
            self.queue.remove(&(at, id));
        }
    }

    /// Takes the first entry that is due. The caller must clear the flow's record of it.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<FlowId> {
        let &(at, id) = self.queue.first()?;
        if at > now {
            return None;
        }
        self.queue.pop_first();
        Some(id)
    }

    /// Time of the first entry.
    pub(super) fn next(&self) -> Option<Instant> {
        self.queue.first().map(|&(at, _)| at)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn fires_in_order_and_keeps_the_earlier_of_two_times() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut timers = Timers::default();
        let (mut one, mut two) = (None, None);
        timers.arm(1, &mut one, at(5));
        timers.arm(2, &mut two, at(3));
        timers.arm(1, &mut one, at(9));
        assert_eq!(one, Some(at(5)), "moving back is lazy");
        timers.arm(1, &mut one, at(1));
        assert_eq!((one, timers.next()), (Some(at(1)), Some(at(1))));
        assert_eq!(timers.pop_due(at(0)), None);
        assert_eq!(timers.pop_due(at(4)), Some(1));
        assert_eq!(timers.pop_due(at(4)), Some(2));
        assert_eq!((timers.pop_due(at(100)), timers.next()), (None, None));
        one = None;
        timers.arm(1, &mut one, at(2));
        timers.disarm(1, &mut one);
        assert_eq!((one, timers.next()), (None, None));
    }
}
