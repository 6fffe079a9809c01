//! A map by ids of series in which neighbours lie side by side.
//!
//! Ids are given out in the order of first sight, and senders name their series in the same order again and again. So a
//! batch is a walk over neighbours: it reads memory in order, and asks the hash map once a page. A page lives as long as one
//! of its `PAGE` entries, so what few survivors of many series occupy is bounded by that.

use super::{IdMap, SeriesId};

/// Entries of a page.
const PAGE: usize = 32;

/// See the module's documentation.
#[derive(Debug)]
pub struct IdTable<T> {
    pages: Vec<Page<T>>,
    /// Where the page of a number stands in `pages`.
    places: IdMap<u32, u32>,
    /// The place of the page asked for last.
    last: usize,
    len: usize,
}

#[derive(Debug)]
struct Page<T> {
    number: u32,
    used: u32,
    entries: Box<[Option<T>; PAGE]>,
}

impl<T> Default for IdTable<T> {
    fn default() -> Self {
        Self { pages: Vec::new(), places: IdMap::default(), last: 0, len: 0 }
    }
}

impl<T> IdTable<T> {
    /// Entries.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Memory of its pages, whether they are full or not.
    pub fn bytes(&self) -> usize {
        self.pages.len() * (size_of::<Page<T>>() + size_of::<[Option<T>; PAGE]>())
    }

    /// The entry of a series.
    #[inline]
    pub fn get(&mut self, id: SeriesId) -> Option<&T> {
        self.get_mut(id).map(|entry| &*entry)
    }

    /// The entry of a series, to be changed.
    #[inline]
    pub fn get_mut(&mut self, id: SeriesId) -> Option<&mut T> {
        let (number, at) = split(id);
        if self.pages.get(self.last).is_none_or(|page| page.number != number) {
            self.last = *self.places.get(&number)? as usize;
        }
        self.pages[self.last].entries[at].as_mut()
    }

    /// The entry of a series, made now if there is none.
    #[inline]
    pub fn get_or_insert_with(&mut self, id: SeriesId, make: impl FnOnce() -> T) -> &mut T {
        let (number, at) = split(id);
        if self.pages.get(self.last).is_none_or(|page| page.number != number) {
            self.last = self.place(number);
        }
        let page = &mut self.pages[self.last];
        let entry = &mut page.entries[at];
        if entry.is_none() {
            page.used += 1;
            self.len += 1;
        }
        entry.get_or_insert_with(make)
    }

    /// Puts an entry in place of what was there.
    pub fn insert(&mut self, id: SeriesId, entry: T) -> Option<T> {
        if let Some(before) = self.get_mut(id) {
            return Some(std::mem::replace(before, entry));
        }
        self.get_or_insert_with(id, || entry);
        None
    }

    /// Takes an entry out.
    pub fn remove(&mut self, id: SeriesId) -> Option<T> {
        self.get_mut(id)?;
        let (place, (_, at)) = (self.last, split(id));
        let page = &mut self.pages[place];
        let removed = page.entries[at].take();
        page.used -= 1;
        self.len -= 1;
        if page.used == 0 {
            self.free(place);
        }
        removed
    }

    /// Keeps the entries for which the condition holds.
    pub fn retain(&mut self, mut keep: impl FnMut(SeriesId, &mut T) -> bool) {
        for place in (0..self.pages.len()).rev() {
            let page = &mut self.pages[place];
            for (at, slot) in page.entries.iter_mut().enumerate() {
                let id = SeriesId(page.number * PAGE as u32 + at as u32);
                if slot.as_mut().is_some_and(|entry| !keep(id, entry)) {
                    *slot = None;
                    page.used -= 1;
                    self.len -= 1;
                }
            }
            if page.used == 0 {
                self.free(place);
            }
        }
        if self.pages.len() < self.pages.capacity() / 4 {
            self.pages.shrink_to_fit();
            self.places.shrink_to_fit();
        }
    }

    /// The entries, in no order.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.iter().map(|(_, entry)| entry)
    }

    /// The entries with their ids, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (SeriesId, &T)> {
        self.pages.iter().flat_map(|page| {
            let first = page.number * PAGE as u32;
            let entries = page.entries.iter().enumerate();
            entries.filter_map(move |(at, entry)| Some((SeriesId(first + at as u32), entry.as_ref()?)))
        })
    }

    /// Where the page of a number stands, at the end if it is new.
    fn place(&mut self, number: u32) -> usize {
        let place = *self.places.entry(number).or_insert(self.pages.len() as u32) as usize;
        if place == self.pages.len() {
            self.pages.push(Page { number, used: 0, entries: Box::new([const { None }; PAGE]) });
        }
        place
    }

    fn free(&mut self, place: usize) {
        let freed = self.pages.swap_remove(place);
        self.places.remove(&freed.number);
        if let Some(moved) = self.pages.get(place) {
            self.places.insert(moved.number, place as u32);
        }
    }
}

#[inline]
fn split(id: SeriesId) -> (u32, usize) {
    (id.0 / PAGE as u32, id.0 as usize % PAGE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[test]
    fn a_page_costs_the_same_however_few_entries_it_has() {
        let bytes = |apart: u32| {
            let mut table = IdTable::default();
            for number in 0..100 {
                table.insert(SeriesId(number * apart), [0_u64; 4]);
            }
            table.bytes()
        };
        assert!((100 * 32..400 * 32).contains(&bytes(1)), "{}", bytes(1));
        assert!(bytes(PAGE as u32) >= 100 * PAGE * 32, "{}", bytes(PAGE as u32));
    }

    proptest! {
        #[test]
        fn is_a_map(operations in prop::collection::vec((0_u8..5, 0_u32..300, any::<u16>()), 0..400)) {
            let (mut table, mut model) = (IdTable::default(), HashMap::new());
            for (operation, id, value) in operations {
                let id = SeriesId(if id < 8 { u32::MAX - id } else { id });
                match operation {
                    0 => prop_assert_eq!(table.insert(id, value), model.insert(id, value)),
                    1 => prop_assert_eq!(table.remove(id), model.remove(&id)),
                    2 => prop_assert_eq!(table.get(id), model.get(&id)),
                    3 => prop_assert_eq!(*table.get_or_insert_with(id, || value), *model.entry(id).or_insert(value)),
                    _ => {
                        let keep = |id: SeriesId| id.0 % 7 != u32::from(value) % 7;
                        table.retain(|id, _| keep(id));
                        model.retain(|id, _| keep(*id));
                    }
                }
                prop_assert_eq!(table.len(), model.len());
                prop_assert!(table.pages.iter().all(|page| page.used > 0), "an empty page stays");
            }
            let (mut left, mut right): (Vec<_>, Vec<_>) = (table.values().collect(), model.values().collect());
            left.sort();
            right.sort();
            prop_assert_eq!(left, right);
        }
    }
}
