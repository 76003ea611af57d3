//! One timer per flow: a hierarchical wheel of 1 ms ticks.
//!
//! Ten levels of 64 slots; a slot of level `n` spans 64ⁿ ticks. A timer lies on the level of the highest base-64 digit in
//! which its time differs from the wheel's, in the slot of that digit; when the wheel gets to a slot of a higher level, what lies
//! there moves down. So all slots in use are ahead of the wheel's own digit, those of a lower level before those of a
//! higher one, and the first of all is two bit scans away. Arming, disarming and firing cost the same for a million
//! timers as for one.
//!
//! Arming is lazy. With every packet of a connection its timer moves, mostly back, and almost never fires; so what moves is a number,
//! and the timer keeps its place until the wheel gets there, which then looks at that number and moves the timer on. Nothing of
//! that touches the connection, which after a second of silence is in no cache any more.
//!
//! Each flow has two places: one for times that are seconds away at most, one for those beyond. Else a flow that is idle (its
//! keepalive is hours away) would with every request leave its place, between two neighbours that are in no cache either,
//! for one nearby, and then come back.
//!
//! Rounding is upwards: nothing fires early, and up to 1 ms late.

use super::slab::Pages;
use crate::Instant;

const LEVELS: usize = 10;
const SLOTS: usize = 64;
const BITS: u32 = 6;
const MICROS_PER_TICK: u64 = 1000;

/// Ticks up to which a timer is near: the wheel's two lowest levels.
const NEAR: u64 = 1 << (2 * BITS);

/// No timer: end of a list.
const NONE: u32 = u32::MAX;

/// No time: a place that is not taken, a flow that waits for nothing.
const NEVER: u64 = u64::MAX;

/// A place in a list.
#[derive(Clone, Copy, Debug)]
struct Place {
    at: u64,
    previous: u32,
    next: u32,
}

impl Place {
    const FREE: Self = Self {
        at: NEVER,
        previous: NONE,
        next: NONE,
    };
}

/// The timer of a flow. If it is due at all, one of its places is there or before.
#[derive(Clone, Copy, Debug)]
struct Timer {
    due: u64,
    /// Near and far.
    places: [Place; 2],
}

impl Timer {
    const OFF: Self = Self {
        due: NEVER,
        places: [Place::FREE; 2],
    };

    /// Whether the wheel will look at it in time.
    fn is_placed(&self) -> bool {
        self.due == NEVER || self.places.iter().any(|place| place.at <= self.due)
    }
}

/// What the wheel has got to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Popped {
    /// A flow whose timer is due. It is off now.
    Due(u32),
    /// A timer that has moved back since.
    Moved,
}

#[derive(Debug)]
pub(super) struct Wheel {
    /// By flow.
    timers: Pages<Timer>,
    /// First place of each slot: twice the number of its flow, and one more if it is the far one. (Flows are fewer than 2³¹:
    /// so many would need terabytes.)
    heads: [[u32; SLOTS]; LEVELS],
    /// Slots in use, a bit each.
    used: [u64; LEVELS],
    /// Levels in use.
    levels: u16,
    /// Tick up to which everything has fired.
    elapsed: u64,
}

impl Wheel {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            timers: Pages::default(),
            heads: [[NONE; SLOTS]; LEVELS],
            used: [0; LEVELS],
            levels: 0,
            elapsed: now.as_micros() / MICROS_PER_TICK,
        }
    }

    /// `id` fires at `due`, but not in the tick that is under way; or not at all.
    pub(super) fn arm(&mut self, id: u32, due: Option<Instant>) {
        while self.timers.len() <= id as usize {
            self.timers.push(Timer::OFF);
        }
        let earliest = self.elapsed + 1;
        if let Some(timer) = self.timers.get_mut(id) {
            timer.due = due.map_or(NEVER, |due| {
                due.as_micros().div_ceil(MICROS_PER_TICK).max(earliest)
            });
            self.ensure_place(id);
        }
    }

    /// Reads the timer of a flow: see `Endpoint::touch`.
    pub(super) fn touch(&self, id: u32) -> u64 {
        self.timers.get(id).map_or(0, |timer| timer.due)
    }

    #[cfg(test)]
    pub(super) fn is_armed(&self, id: u32) -> bool {
        let timer = self.timers.get(id);
        timer.is_some_and(|timer| timer.due != NEVER && timer.is_placed())
    }

    /// Needed before a flow goes: numbers are used again.
    pub(super) fn disarm(&mut self, id: u32) {
        self.unlink(id << 1);
        self.unlink(id << 1 | 1);
        if let Some(timer) = self.timers.get_mut(id) {
            timer.due = NEVER;
        }
    }

    /// Takes a timer that the wheel has got to.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Popped> {
        let now = now.as_micros() / MICROS_PER_TICK;
        while let Some((level, slot, start)) = self.first() {
            if start > now {
                break;
            }
            self.elapsed = self.elapsed.max(start);
            if level == 0 {
                let place = self.heads[level][slot];
                self.unlink(place);
                return Some(self.take(place >> 1));
            }
            self.move_down(level, slot);
        }
        self.elapsed = self.elapsed.max(now);
        None
    }

    /// A place of this flow was got to, and is free now.
    fn take(&mut self, id: u32) -> Popped {
        if let Some(timer) = self.timers.get_mut(id)
            && timer.due <= self.elapsed
        {
            timer.due = NEVER;
            return Popped::Due(id);
        }
        self.ensure_place(id);
        Popped::Moved
    }

    /// Gives a timer a place in time, if it has none.
    fn ensure_place(&mut self, id: u32) {
        let Some(&timer) = self.timers.get(id) else {
            return;
        };
        if timer.is_placed() {
            return;
        }
        let is_far = timer.due.saturating_sub(self.elapsed) >= NEAR;
        let place = id << 1 | u32::from(is_far);
        self.unlink(place);
        self.link(place, timer.due);
    }

    /// When [`pop`](Self::pop) has work; never late, and early when timers have to move.
    pub(super) fn next(&self) -> Option<Instant> {
        let (_, _, start) = self.first()?;
        Some(Instant::from_micros(start.saturating_mul(MICROS_PER_TICK)))
    }

    /// The first slot in use, and its first tick.
    fn first(&self) -> Option<(usize, usize, u64)> {
        if self.levels == 0 {
            return None;
        }
        let level = self.levels.trailing_zeros();
        let slot = self.used[level as usize].trailing_zeros();
        let below = BITS * level;
        let block = self.elapsed >> below >> BITS << BITS;
        let start = (block | u64::from(slot)) << below;
        Some((level as usize, slot as usize, start))
    }

    /// Where a timer lies. The same for as long as it lies there: the wheel's digits above its level stay equal to the timer's.
    fn slot(&self, at: u64) -> (usize, usize) {
        let highest = ((at ^ self.elapsed) | 1).ilog2();
        let level = highest / BITS;
        let slot = (at >> (BITS * level)) & (SLOTS as u64 - 1);
        #[expect(clippy::cast_possible_truncation, reason = "six bits")]
        (level as usize, slot as usize)
    }

    /// Spreads a slot that the wheel has got to over the levels below, but for timers that have moved farther away.
    fn move_down(&mut self, level: usize, slot: usize) {
        let mut place = core::mem::replace(&mut self.heads[level][slot], NONE);
        self.mark_empty(level, slot);
        while let Some(it) = self.get_mut(place) {
            let next = it.next;
            *it = Place::FREE;
            self.ensure_place(place >> 1);
            place = next;
        }
    }

    fn get_mut(&mut self, place: u32) -> Option<&mut Place> {
        let timer = self.timers.get_mut(place >> 1)?;
        timer.places.get_mut((place & 1) as usize)
    }

    fn link(&mut self, place: u32, at: u64) {
        let (level, slot) = self.slot(at);
        let next = core::mem::replace(&mut self.heads[level][slot], place);
        self.used[level] |= 1 << slot;
        self.levels |= 1 << level;
        if let Some(it) = self.get_mut(place) {
            *it = Place {
                at,
                previous: NONE,
                next,
            };
        }
        if let Some(it) = self.get_mut(next) {
            it.previous = place;
        }
    }

    /// Frees a place, if it is taken.
    fn unlink(&mut self, place: u32) {
        let Some(it) = self.get_mut(place) else {
            return;
        };
        let Place { at, previous, next } = core::mem::replace(it, Place::FREE);
        if at == NEVER {
            return;
        }
        if let Some(it) = self.get_mut(next) {
            it.previous = previous;
        }
        if let Some(it) = self.get_mut(previous) {
            it.next = next;
            return;
        }
        let (level, slot) = self.slot(at);
        debug_assert_eq!(self.heads[level][slot], place, "not where it should be");
        self.heads[level][slot] = next;
        if next == NONE {
            self.mark_empty(level, slot);
        }
    }

    fn mark_empty(&mut self, level: usize, slot: usize) {
        self.used[level] &= !(1 << slot);
        if self.used[level] == 0 {
            self.levels &= !(1 << level);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    const fn ms(millis: u64) -> Instant {
        Instant::from_micros(millis * MICROS_PER_TICK)
    }

    fn fired(wheel: &mut Wheel, now: Instant) -> Vec<u32> {
        core::iter::from_fn(|| wheel.pop(now))
            .filter_map(|popped| match popped {
                Popped::Due(id) => Some(id),
                Popped::Moved => None,
            })
            .collect()
    }

    #[test]
    fn the_last_of_two_times_counts_and_nothing_fires_early() {
        let mut wheel = Wheel::new(ms(5));
        wheel.arm(1, Some(ms(10)));
        wheel.arm(2, Some(Instant::from_micros(8001)));
        wheel.arm(1, Some(ms(20)));
        assert_eq!(wheel.next(), Some(ms(9)));
        wheel.arm(1, Some(ms(7)));
        assert_eq!(wheel.next(), Some(ms(7)));
        assert!(fired(&mut wheel, Instant::from_micros(6999)).is_empty());
        assert_eq!(fired(&mut wheel, ms(8)), [1]);
        assert_eq!(fired(&mut wheel, ms(100)), [2]);
        assert_eq!(wheel.next(), None);
    }

    #[test]
    fn a_timer_that_moves_back_keeps_its_place_until_the_wheel_gets_there() {
        let mut wheel = Wheel::new(ms(5));
        wheel.arm(1, Some(ms(10)));
        wheel.arm(1, Some(ms(2000)));
        assert_eq!(wheel.next(), Some(ms(10)), "lazy");
        assert_eq!(wheel.pop(ms(10)), Some(Popped::Moved));
        assert_eq!(wheel.pop(ms(1999)), None);
        assert_eq!(wheel.pop(ms(2000)), Some(Popped::Due(1)));
    }

    #[test]
    fn a_request_leaves_the_far_place_of_an_idle_flow_alone() {
        let mut wheel = Wheel::new(ms(0));
        let hours = 2 * 3600 * 1000;
        wheel.arm(1, Some(ms(hours)));
        for now in (1000..).step_by(1000).take(5) {
            assert_eq!(wheel.pop(ms(now)), None);
            wheel.arm(1, Some(ms(now + 40)));
            wheel.arm(1, Some(ms(now + hours)));
            assert_eq!(wheel.timers.get(1).unwrap().places[1].at, hours);
            assert_eq!(fired(&mut wheel, ms(now + 40)), []);
            assert_eq!(wheel.timers.get(1).unwrap().places[0].at, NEVER);
        }
        assert_eq!(fired(&mut wheel, ms(hours + 4999)), []);
        assert_eq!(fired(&mut wheel, ms(hours + 5000)), [1]);
    }

    #[test]
    fn a_time_that_has_passed_waits_for_the_next_tick() {
        // Else an owner that arms for now whenever it is called would be called for ever.
        let mut wheel = Wheel::new(ms(5));
        wheel.arm(1, Some(ms(2)));
        assert_eq!(fired(&mut wheel, ms(5)), []);
        assert_eq!(
            (fired(&mut wheel, ms(6)), wheel.next()),
            ([1].to_vec(), None)
        );
    }

    #[test]
    fn a_disarmed_timer_leaves_nothing_behind() {
        let mut wheel = Wheel::new(ms(0));
        for id in 0..3 {
            wheel.arm(id, Some(ms(70_000)));
            wheel.arm(id, Some(ms(70)));
        }
        for id in [1, 2, 0] {
            wheel.disarm(id);
        }
        assert_eq!(wheel.next(), None);
        wheel.disarm(7);
    }

    #[test]
    fn the_end_of_time_is_representable() {
        let mut wheel = Wheel::new(ms(63));
        wheel.arm(0, Some(Instant::from_micros(u64::MAX)));
        assert!(wheel.next() > Some(ms(u64::MAX / MICROS_PER_TICK / 64)));
        assert_eq!(fired(&mut wheel, ms(1 << 40)), []);
    }

    proptest! {
        /// Against a sorted map: whatever is armed, moved, disarmed and fired, in jumps of any size.
        #[test]
        fn fires_what_a_sorted_queue_would(
            steps in prop::collection::vec((0..16_u32, 0..6_u8, 0..40_u32, any::<u64>()), 1..200),
        ) {
            let mut now = 0;
            let mut wheel = Wheel::new(ms(now));
            let mut model = BTreeMap::new();
            for (id, action, magnitude, random) in steps {
                let span = random & ((1 << magnitude) - 1);
                match action {
                    0 | 1 => {
                        wheel.arm(id, Some(ms(now + span)));
                        model.insert(id, (now + span).max(now + 1));
                    }
                    2 => {
                        wheel.disarm(id);
                        model.remove(&id);
                    }
                    3 => {
                        wheel.arm(id, None);
                        model.remove(&id);
                    }
                    _ => {
                        now += span;
                        let mut got = fired(&mut wheel, ms(now));
                        got.sort_unstable();
                        let due: Vec<u32> = model.extract_if(.., |_, at| *at <= now).map(|(id, _)| id).collect();
                        prop_assert_eq!(&got, &due);
                    }
                }
                let first = model.values().min().map(|&at| ms(at));
                let next = wheel.next();
                prop_assert!(first.is_none() || next.is_some_and(|next| Some(next) <= first), "late");
                prop_assert!(next.is_none_or(|next| next > ms(now)), "a slot behind the wheel");
            }
        }
    }
}
