//! One timer per flow: a hierarchical wheel of 1 ms ticks.
//!
//! Ten levels of 64 slots; a slot of level `n` spans 64ⁿ ticks. A timer lies on the level of the highest base-64 digit in
//! which its time differs from the wheel's, in the slot of that digit; when the wheel gets to a slot of a higher level, what lies
//! there moves down. So all slots in use are ahead of the wheel's own digit, those of a lower level before those of a
//! higher one, and the first of all is two bit scans away. Arming, disarming and firing cost the same for a million
//! timers as for one.
//!
//! Arming is lazy: a timer that moves back keeps its place, and its owner looks again when it fires. With every
//! packet a retransmission timer moves back, and almost never fires.
//!
//! Rounding is upwards: nothing fires early, and up to 1 ms late.

use super::slab::Pages;
use crate::Instant;

const LEVELS: usize = 10;
const SLOTS: usize = 64;
const BITS: u32 = 6;
const MICROS_PER_TICK: u64 = 1000;

/// No timer: end of a list.
const NONE: u32 = u32::MAX;

/// What a flow remembers of its timer, so that a packet which arms no earlier one touches nothing but its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Armed(u64);

impl Armed {
    /// Not armed.
    pub(super) const NO: Self = Self(u64::MAX);
}

#[derive(Clone, Copy, Debug)]
struct Node {
    at: u64,
    previous: u32,
    next: u32,
}

#[derive(Debug)]
pub(super) struct Wheel {
    /// By flow.
    nodes: Pages<Node>,
    /// First timer of each slot.
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
            nodes: Pages::default(),
            heads: [[NONE; SLOTS]; LEVELS],
            used: [0; LEVELS],
            levels: 0,
            elapsed: now.as_micros() / MICROS_PER_TICK,
        }
    }

    /// Makes sure that `id` fires at `due` or before, but not in the tick that is under way.
    pub(super) fn arm(&mut self, id: u32, armed: &mut Armed, due: Instant) {
        let at = due.as_micros().div_ceil(MICROS_PER_TICK);
        let at = at.max(self.elapsed + 1);
        if armed.0 <= at {
            return;
        }
        self.disarm(id, armed);
        while self.nodes.len() <= id as usize {
            self.nodes.push(Node {
                at: u64::MAX,
                previous: NONE,
                next: NONE,
            });
        }
        armed.0 = at;
        self.link(id, at);
    }

    /// Reads the timer of a flow: see `Endpoint::touch`.
    pub(super) fn touch(&self, id: u32) -> u64 {
        self.nodes.get(id).map_or(0, |node| node.at)
    }

    /// Needed before a flow goes: numbers are used again.
    pub(super) fn disarm(&mut self, id: u32, armed: &mut Armed) {
        if *armed != Armed::NO {
            *armed = Armed::NO;
            self.unlink(id);
        }
    }

    /// Takes a timer that is due. The caller must set the flow's [`Armed`] to [`Armed::NO`].
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<u32> {
        let now = now.as_micros() / MICROS_PER_TICK;
        while let Some((level, slot, start)) = self.first() {
            if start > now {
                break;
            }
            self.elapsed = self.elapsed.max(start);
            if level == 0 {
                let id = self.heads[level][slot];
                self.unlink(id);
                return Some(id);
            }
            self.move_down(level, slot);
        }
        self.elapsed = self.elapsed.max(now);
        None
    }

    /// When [`pop_due`](Self::pop_due) has work; never late, and early only when timers that are far away have to move down.
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
    fn place(&self, at: u64) -> (usize, usize) {
        let highest = ((at ^ self.elapsed) | 1).ilog2();
        let level = highest / BITS;
        let slot = (at >> (BITS * level)) & (SLOTS as u64 - 1);
        #[expect(clippy::cast_possible_truncation, reason = "six bits")]
        (level as usize, slot as usize)
    }

    /// Spreads a slot that the wheel has got to over the levels below.
    fn move_down(&mut self, level: usize, slot: usize) {
        let mut id = core::mem::replace(&mut self.heads[level][slot], NONE);
        self.mark_empty(level, slot);
        while let Some(&Node { at, next, .. }) = self.nodes.get(id) {
            self.link(id, at);
            id = next;
        }
    }

    fn link(&mut self, id: u32, at: u64) {
        let (level, slot) = self.place(at);
        let next = core::mem::replace(&mut self.heads[level][slot], id);
        self.used[level] |= 1 << slot;
        self.levels |= 1 << level;
        if let Some(node) = self.nodes.get_mut(id) {
            *node = Node {
                at,
                previous: NONE,
                next,
            };
        }
        if let Some(node) = self.nodes.get_mut(next) {
            node.previous = id;
        }
    }

    fn unlink(&mut self, id: u32) {
        let Some(&Node { at, previous, next }) = self.nodes.get(id) else {
            return;
        };
        if let Some(node) = self.nodes.get_mut(next) {
            node.previous = previous;
        }
        if let Some(node) = self.nodes.get_mut(previous) {
            node.next = next;
            return;
        }
        let (level, slot) = self.place(at);
        debug_assert_eq!(self.heads[level][slot], id, "a timer where it does not lie");
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
        core::iter::from_fn(|| wheel.pop_due(now)).collect()
    }

    #[test]
    fn the_earlier_of_two_times_counts_and_nothing_fires_early() {
        let mut wheel = Wheel::new(ms(5));
        let (mut one, mut two) = (Armed::NO, Armed::NO);
        wheel.arm(1, &mut one, ms(10));
        wheel.arm(2, &mut two, Instant::from_micros(8001));
        wheel.arm(1, &mut one, ms(20));
        assert_eq!(one, Armed(10), "moving back is lazy");
        wheel.arm(1, &mut one, ms(7));
        assert_eq!((one, two, wheel.next()), (Armed(7), Armed(9), Some(ms(7))));
        assert!(fired(&mut wheel, Instant::from_micros(6999)).is_empty());
        assert_eq!(fired(&mut wheel, ms(8)), [1]);
        assert_eq!(fired(&mut wheel, ms(100)), [2]);
        assert_eq!(wheel.next(), None);
    }

    #[test]
    fn a_time_that_has_passed_waits_for_the_next_tick() {
        // Else an owner that arms for now whenever it is called would be called for ever.
        let mut wheel = Wheel::new(ms(5));
        let mut armed = Armed::NO;
        wheel.arm(1, &mut armed, ms(2));
        assert_eq!(fired(&mut wheel, ms(5)), []);
        assert_eq!(
            (fired(&mut wheel, ms(6)), wheel.next()),
            ([1].to_vec(), None)
        );
    }

    #[test]
    fn a_disarmed_timer_leaves_nothing_behind() {
        let mut wheel = Wheel::new(ms(0));
        let mut armed = [Armed::NO; 3];
        for (id, armed) in (0..).zip(&mut armed) {
            wheel.arm(id, armed, ms(70));
        }
        for id in [1, 2, 0] {
            wheel.disarm(id, &mut armed[id as usize]);
        }
        assert_eq!((wheel.next(), armed), (None, [Armed::NO; 3]));
    }

    #[test]
    fn the_end_of_time_is_representable() {
        let mut wheel = Wheel::new(ms(63));
        let mut armed = Armed::NO;
        wheel.arm(0, &mut armed, Instant::from_micros(u64::MAX));
        assert!(wheel.next() > Some(ms(u64::MAX / MICROS_PER_TICK / 64)));
        assert_eq!(fired(&mut wheel, ms(1 << 40)), []);
    }

    proptest! {
        /// Against a sorted map: whatever is armed, moved, disarmed and fired, in jumps of any size.
        #[test]
        fn fires_what_a_sorted_queue_would(
            steps in prop::collection::vec((0..16_u32, 0..5_u8, 0..40_u32, any::<u64>()), 1..200),
        ) {
            let mut now = 0;
            let mut wheel = Wheel::new(ms(now));
            let mut armed = [Armed::NO; 16];
            let mut model = BTreeMap::new();
            for (id, action, magnitude, random) in steps {
                let span = random & ((1 << magnitude) - 1);
                let slot = &mut armed[id as usize];
                match action {
                    0 | 1 => {
                        wheel.arm(id, slot, ms(now + span));
                        let at = (now + span).max(now + 1);
                        model.entry(id).and_modify(|old: &mut u64| *old = at.min(*old)).or_insert(at);
                    }
                    2 => {
                        wheel.disarm(id, slot);
                        model.remove(&id);
                    }
                    _ => {
                        now += span;
                        let mut got = fired(&mut wheel, ms(now));
                        got.sort_unstable();
                        let due: Vec<u32> = model.extract_if(.., |_, at| *at <= now).map(|(id, _)| id).collect();
                        prop_assert_eq!(&got, &due);
                        for id in got {
                            armed[id as usize] = Armed::NO;
                        }
                    }
                }
                let first = model.values().min().map(|&at| ms(at));
                prop_assert!(wheel.next() <= first, "late");
                prop_assert_eq!(wheel.next().is_some(), first.is_some());
                prop_assert!(wheel.next().is_none_or(|next| next > ms(now)), "a slot behind the wheel");
            }
        }
    }
}
