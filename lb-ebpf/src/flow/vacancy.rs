//! Places for both directions of a flow that is most likely new, found in one walk over each set.
//!
//! [`Table::find`], and then [`Table::insert`], look at each set twice, and stop at the first way that answers: the
//! processor guesses where, and if it guesses wrong, it does so after having waited for memory. Here all ways of both sets are
//! looked at before anything is decided, in sums and shifts, so that it waits for memory once.
//!
//! The common case only: as soon as anything is in doubt there is no answer, and the caller goes the long way.

use super::table::{Claim, preferred};
use super::{BUSY, FlowSet, Key, LIVE, MATCH, Sets, Table, Value, WAYS};
use crate::family::Family;
use crate::opaque::opaque;

/// Free entries for both directions of a flow.
pub struct Vacancies<'a, F: Family> {
    forward: Vacancy<'a, F>,
    reverse: Vacancy<'a, F>,
}

struct Vacancy<'a, F: Family> {
    set: &'a FlowSet<F>,
    way: u32,
}

impl<'a, F: Family> Vacancy<'a, F> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "it comes from the same type"
    )]
    #[inline(always)]
    fn claim(self) -> Option<Claim<'a, F>> {
        // Opaque, so that LLVM masks the sum and not its parts: Linux 6.1 forgets the bounds of what is XORed.
        let way = opaque(self.way as usize) as u32;
        Claim::of(self.set.way(way)?)
    }
}

/// What one walk over a set has shown. Bits in the order in which the ways are looked at.
struct Survey {
    taken: u64,
    /// Not zero if the key, or one with the same ports, is in the set.
    matches: u64,
    /// Not zero if a flow of the set may be elsewhere.
    overflow: u64,
}

/// For each number below sixteen, how many of its low bits are set in a row; four bits each.
const FIRST_FREE: u64 = 0x4010_2010_3010_2010;
const _: () = assert!(WAYS == 4);

impl Survey {
    /// How many ways before the first that is free; `None` if none is.
    #[inline(always)]
    fn first_free(&self) -> Option<u32> {
        let step = (FIRST_FREE >> (self.taken * 4 % 64)) & 0xf;
        u32::try_from(step).ok().filter(|step| *step < WAYS)
    }
}

impl<F: Family> FlowSet<F> {
    #[inline(always)]
    fn survey(&self, preferred: u32, key: &Key<F>) -> Option<Survey> {
        let overflow = u64::from(self.way(0)?.overflow.load());
        let (mut taken, mut matches) = (0, 0);
        for step in 0..WAYS {
            let entry = self.way(preferred ^ step)?;
            let word = entry.word.load();
            // Three times either bit, or none of them, has the upper bit if it has any.
            taken |= (((word & (LIVE | BUSY)) * 3 / BUSY) & 1) << step;
            // The highest bit if they are equal: both are below 2⁴².
            matches |= ((word & MATCH) ^ key.word()).wrapping_sub(1) >> 63;
        }
        Some(Survey {
            taken,
            matches,
            overflow,
        })
    }
}

impl<'a, F: Family, S: Sets<F>> Table<'a, S, F> {
    /// Free entries for two keys of which neither is in the table; `None` if that is not so, or can't be said at once.
    #[inline(always)]
    pub fn vacancies(&self, forward: &Key<F>, reverse: &Key<F>) -> Option<Vacancies<'a, F>> {
        let (there, forward_set) = self.primary(forward)?;
        let (back, reverse_set) = self.primary(reverse)?;
        let (there, back) = (preferred(there), preferred(back));
        let old = if self.is_spread() {
            Some((self.in_core(forward)?, self.in_core(reverse)?))
        } else {
            None
        };
        // All before the first is looked at: the processor has only so many instructions on its hands while it waits.
        forward_set.touch();
        reverse_set.touch();
        if let Some(((_, forward_core), (_, reverse_core))) = old {
            forward_core.touch();
            reverse_core.touch();
        }
        let there_survey = forward_set.survey(there, forward)?;
        let back_survey = reverse_set.survey(back, reverse)?;
        let mut doubt = there_survey.matches
            | there_survey.overflow
            | back_survey.matches
            | back_survey.overflow;
        if let Some(((_, forward_core), (_, reverse_core))) = old {
            doubt |= forward_core.survey(0, forward)?.matches;
            doubt |= reverse_core.survey(0, reverse)?.matches;
        }
        if doubt != 0 {
            return None;
        }
        Some(Vacancies {
            forward: Vacancy {
                set: forward_set,
                way: there ^ there_survey.first_free()?,
            },
            reverse: Vacancy {
                set: reverse_set,
                way: back ^ back_survey.first_free()?,
            },
        })
    }

    /// As [`insert`](Self::insert), into `vacancies`; `false`, and nothing is inserted, if one of them has been taken since.
    #[inline(always)]
    pub fn fill(
        &self,
        vacancies: Vacancies<'a, F>,
        (forward, to): (&Key<F>, &Value<F>),
        (reverse, back): (&Key<F>, &Value<F>),
    ) -> bool {
        let Some(reverse_claim) = vacancies.reverse.claim() else {
            return false;
        };
        let Some(forward_claim) = vacancies.forward.claim() else {
            reverse_claim.abandon();
            return false;
        };
        reverse_claim.publish(reverse, back, self.settings.tick);
        forward_claim.publish(forward, to, self.settings.tick);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{FlowSet, Table, WAYS};
    use crate::abi::{CORE_FIRST, CORE_SPREAD, Settings};
    use crate::flow::FlowEntry;
    use crate::flow::tests::{Slice, key, value};
    use crate::tcp::{Direction, Flags};
    use std::vec::Vec;

    const SETS: u32 = 64;

    fn empty(sets: u32) -> Slice {
        Slice((0..sets).map(|_| FlowSet::default()).collect())
    }

    fn settings(sets: u32, flow_core: u16) -> Settings {
        Settings {
            flow_set_mask: sets - 1,
            flow_core,
            // Any keys that spread the numbers of `key`, in their high bits too.
            hash_key: core::array::from_fn(|index| {
                let odd = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(2 * index as u64 + 1);
                (odd ^ odd >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
            }),
            ..Settings::default()
        }
    }

    /// Opens a flow at once, or says that it can't.
    fn open_at_once(table: &Table<'_, Slice>, number: u16) -> bool {
        let (forward, reverse) = (key(number), key(number).reversed());
        let (to, back) = values(number);
        let vacancies = table.vacancies(&forward, &reverse);
        vacancies.is_some_and(|free| table.fill(free, (&forward, &to), (&reverse, &back)))
    }

    /// Opens a flow that is in use, so that no other displaces it.
    fn open(table: &Table<'_, Slice>, number: u16) -> bool {
        let keys = [key(number), key(number).reversed()];
        let (to, back) = values(number);
        let inserted = table.insert(&keys[0], &to, &keys[1], &back).is_ok();
        for entry in keys.iter().filter_map(|key| table.find_cold(key)) {
            entry.track(Flags::ACK);
            entry.tell(Flags::ACK);
        }
        inserted
    }

    fn values(number: u16) -> (crate::flow::Value, crate::flow::Value) {
        let value = |direction| value(number, direction);
        (value(Direction::Forward), value(Direction::Reverse))
    }

    /// Which entries are taken, and by whom.
    fn content(sets: &Slice) -> Vec<Option<crate::flow::Key>> {
        let entries = sets.0.iter().flat_map(FlowSet::entries);
        let snapshots = entries.map(FlowEntry::snapshot);
        snapshots.map(|taken| Some(taken?.key)).collect()
    }

    #[test]
    fn a_flow_comes_to_lie_where_it_would_by_the_long_way() {
        let (at_once, long) = (empty(SETS), empty(SETS));
        let settings = settings(SETS, 0);
        let (table, other) = (
            Table::new(&at_once, &settings),
            Table::new(&long, &settings),
        );
        let mut opened = 0;
        for number in 0..120 {
            if open_at_once(&table, number) {
                opened += 1;
                assert!(open(&other, number));
                assert_eq!(content(&at_once), content(&long), "after {number}");
            }
        }
        assert!(opened > 20, "{opened}");
        assert!(opened < 120, "no set was ever full");
    }

    #[test]
    fn a_flow_that_is_there_is_not_opened_again() {
        let (sets, settings) = (empty(SETS), settings(SETS, 0));
        let table = Table::new(&sets, &settings);
        assert!(open_at_once(&table, 1));
        assert!(!open_at_once(&table, 1));
        // One of its tuples is enough.
        table.remove(&key(1));
        assert!(!open_at_once(&table, 1));
        table.remove(&key(1).reversed());
        assert!(open_at_once(&table, 1));
    }

    /// One entry, in the alternate set or in the core, and free ways where it is looked for first.
    #[test]
    fn a_flow_that_lies_elsewhere_is_not_opened_again() {
        // Of few flows, all are in the core, and no set is marked.
        let cases = (0..4).map(|left| (left, 4));
        for (left, flows) in cases.chain((0..20).map(|left| (left, 20))) {
            let (sets, first) = (empty(SETS), settings(SETS, CORE_FIRST));
            let table = Table::new(&sets, &first);
            let opened: Vec<u16> = (0..flows).filter(|number| open(&table, *number)).collect();
            for number in &opened {
                table.remove(&key(*number).reversed());
                if *number != left {
                    table.remove(&key(*number));
                }
            }
            for core in [CORE_FIRST, CORE_SPREAD] {
                let settings = settings(SETS, core);
                let table = Table::new(&sets, &settings);
                assert!(
                    !opened.contains(&left) || !open_at_once(&table, left),
                    "{left}"
                );
            }
        }
    }

    /// Both tuples want the same way of the only set: the second comes too late, and the first is given back.
    #[test]
    fn nothing_is_left_of_a_flow_for_which_there_is_one_place() {
        let (sets, settings) = (empty(1), Settings::default());
        let table = Table::new(&sets, &settings);
        assert!(!open_at_once(&table, 1));
        assert_eq!(content(&sets), [const { None }; WAYS as usize]);
        assert!(open(&table, 1) && open(&table, 2));
        assert!(!open_at_once(&table, 3));
    }
}
