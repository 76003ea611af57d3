//! Wakers that are kept from one poll to the next.
//!
//! A task is polled far more often than it is woken for one reason, and by the same waker each time: to clone it for each of
//! the reasons in each poll is two atomic operations for nothing. Not here: when whoever keeps one wakes it.

use std::cell::RefCell;
use std::task::Waker;

/// Keeps `waker`, unless that is the one that is kept.
pub(crate) fn keep(slot: &mut Option<Waker>, waker: &Waker) {
    match slot {
        Some(kept) => kept.clone_from(waker),
        None => *slot = Some(waker.clone()),
    }
}

/// Places for tasks that are all woken at once.
#[derive(Debug, Default)]
pub(crate) struct Audience(RefCell<Places>);

#[derive(Debug, Default)]
struct Places {
    taken: Vec<Option<Waker>>,
    free: Vec<usize>,
}

impl Audience {
    /// Has `waker` woken with the others, from `place` if it has one.
    pub(crate) fn join(&self, place: &mut Option<usize>, waker: &Waker) {
        let Places { taken, free } = &mut *self.0.borrow_mut();
        let place = *place.get_or_insert_with(|| {
            free.pop().unwrap_or_else(|| {
                taken.push(None);
                taken.len() - 1
            })
        });
        if let Some(slot) = taken.get_mut(place) {
            keep(slot, waker);
        }
    }

    /// Gives a place back.
    pub(crate) fn leave(&self, place: usize) {
        let Places { taken, free } = &mut *self.0.borrow_mut();
        if let Some(slot) = taken.get_mut(place) {
            *slot = None;
            free.push(place);
        }
    }

    /// Wakes all of them, who keep their places.
    pub(crate) fn wake_all(&self) {
        for waker in self.0.borrow().taken.iter().flatten() {
            waker.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn whoever_has_a_place_is_woken_by_the_waker_of_its_last_poll() {
        let audience = Audience::default();
        let counts: [Arc<Count>; 3] = Default::default();
        let mut places = [None; 2];
        let mut join = |place: usize, count: usize| {
            audience.join(&mut places[place], &Arc::clone(&counts[count]).into());
            places[place].unwrap()
        };
        let first = join(0, 0);
        join(1, 0);
        join(1, 1);
        let woken = || {
            counts
                .each_ref()
                .map(|count| count.0.load(Ordering::Relaxed))
        };
        audience.wake_all();
        assert_eq!(woken(), [1, 1, 0]);
        audience.leave(first);
        audience.wake_all();
        assert_eq!(woken(), [1, 2, 0], "nobody has the first place");

        let mut next = None;
        audience.join(&mut next, &Arc::clone(&counts[2]).into());
        assert_eq!(next, Some(first), "a place that is free is taken first");
        audience.wake_all();
        assert_eq!(woken(), [1, 3, 1]);
    }
}
