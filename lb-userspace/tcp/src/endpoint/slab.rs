//! Values by number, in pages that never move.
//!
//! A plain vector doubles by copying: at half a million flows that is a pause of a tenth of a second for everybody. Here a
//! new page costs the same at any size. A freed number is the next one given out, while it is still in the cache.

use alloc::vec::Vec;

/// Values in a page.
const PAGE: usize = 256;

/// An array that grows by pages.
#[derive(Debug)]
pub(super) struct Pages<T> {
    pages: Vec<Vec<T>>,
}

impl<T> Default for Pages<T> {
    fn default() -> Self {
        Self { pages: Vec::new() }
    }
}

impl<T> Pages<T> {
    pub(super) fn len(&self) -> usize {
        match self.pages.last() {
            Some(last) => (self.pages.len() - 1) * PAGE + last.len(),
            None => 0,
        }
    }

    pub(super) fn push(&mut self, value: T) {
        match self.pages.last_mut() {
            Some(last) if last.len() < PAGE => last.push(value),
            _ => {
                let mut page = Vec::with_capacity(PAGE);
                page.push(value);
                self.pages.push(page);
            }
        }
    }

    pub(super) fn get(&self, index: u32) -> Option<&T> {
        let index = index as usize;
        self.pages.get(index / PAGE)?.get(index % PAGE)
    }

    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        let index = index as usize;
        self.pages.get_mut(index / PAGE)?.get_mut(index % PAGE)
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.pages.iter_mut().flatten()
    }
}

#[derive(Debug)]
enum Slot<T> {
    Used(T),
    /// Number of the next free slot.
    Free(Option<u32>),
}

/// Values that come and go, each under a number for as long as it is there.
#[derive(Debug)]
pub(super) struct Slab<T> {
    slots: Pages<Slot<T>>,
    free: Option<u32>,
    len: usize,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self {
            slots: Pages::default(),
            free: None,
            len: 0,
        }
    }
}

impl<T> Slab<T> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// `None` (and the value is gone) if 2³² - 1 numbers are taken.
    pub(super) fn insert(&mut self, value: T) -> Option<u32> {
        let index = if let Some(index) = self.free {
            let slot = self.slots.get_mut(index)?;
            if let Slot::Free(next) = *slot {
                self.free = next;
            }
            *slot = Slot::Used(value);
            index
        } else {
            let index = u32::try_from(self.slots.len()).ok()?;
            self.slots.push(Slot::Used(value));
            index
        };
        self.len += 1;
        Some(index)
    }

    pub(super) fn remove(&mut self, index: u32) -> Option<T> {
        let slot = self.slots.get_mut(index)?;
        if matches!(slot, Slot::Free(_)) {
            return None;
        }
        let Slot::Used(value) = core::mem::replace(slot, Slot::Free(self.free)) else {
            return None;
        };
        self.free = Some(index);
        self.len -= 1;
        Some(value)
    }

    pub(super) fn get(&self, index: u32) -> Option<&T> {
        match self.slots.get(index)? {
            Slot::Used(value) => Some(value),
            Slot::Free(_) => None,
        }
    }

    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        match self.slots.get_mut(index)? {
            Slot::Used(value) => Some(value),
            Slot::Free(_) => None,
        }
    }

    /// Every value with its number. Walks all slots: for reports and the end, not for packets.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut T)> {
        (0..)
            .zip(self.slots.iter_mut())
            .filter_map(|(index, slot)| match slot {
                Slot::Used(value) => Some((index, value)),
                Slot::Free(_) => None,
            })
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    #[test]
    fn numbers_are_dense_and_the_last_freed_is_used_first() {
        let mut slab = Slab::default();
        let numbers: Vec<u32> = (0..1000).map(|n| slab.insert(n).unwrap()).collect();
        assert!(numbers.iter().copied().eq(0..1000));
        assert_eq!(slab.remove(7), Some(7));
        assert_eq!(slab.remove(300), Some(300));
        assert_eq!((slab.remove(7), slab.get(7), slab.len()), (None, None, 998));
        assert_eq!(slab.insert(-1), Some(300));
        assert_eq!(slab.insert(-2), Some(7));
        assert_eq!(slab.insert(-3), Some(1000));
        assert_eq!((slab.get(300), slab.get(999)), (Some(&-1), Some(&999)));
        assert_eq!(slab.iter_mut().count(), slab.len());
    }

    #[test]
    fn growing_moves_nothing() {
        let mut slab = Slab::default();
        let first = slab.insert([0; 64]).unwrap();
        let before: *const [i32; 64] = slab.get(first).unwrap();
        for _ in 0..10 * PAGE {
            slab.insert([0; 64]).unwrap();
        }
        assert!(core::ptr::eq(before, slab.get(first).unwrap()));
    }
}
