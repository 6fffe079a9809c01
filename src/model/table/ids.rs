//! Ids for new series: those of one request stand side by side, though others get theirs meanwhile.
//!
//! Whatever is kept by id ([`crate::model::IdTable`], the trail) is then read in order when such a request comes again.

use crate::model::SeriesId;
use parking_lot::Mutex;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

/// Ids that are set aside together.
const BLOCK: u32 = 32;

/// All ids: those given out, and what is left of blocks. There are no more of these than requests at one time.
#[derive(Debug, Default)]
pub(super) struct Supply {
    next: AtomicU32,
    left: Mutex<Vec<Range<u32>>>,
}

impl Supply {
    /// The first id of which none was set aside yet.
    pub(super) fn next(&self) -> u32 {
        self.next.load(Ordering::Relaxed)
    }

    /// Ids for one request.
    pub(super) fn ids(&self) -> Ids<'_> {
        Ids { supply: self, block: 0..0 }
    }
}

/// Ids for one request; what it does not use is for the next.
#[derive(Debug)]
pub struct Ids<'t> {
    supply: &'t Supply,
    block: Range<u32>,
}

impl Ids<'_> {
    pub(super) fn take(&mut self) -> SeriesId {
        loop {
            if let Some(id) = self.block.next() {
                return SeriesId(id);
            }
            let left = self.supply.left.lock().pop();
            self.block = left.unwrap_or_else(|| {
                let first = self.supply.next.fetch_add(BLOCK, Ordering::Relaxed);
                first..first + BLOCK
            });
        }
    }
}

impl Drop for Ids<'_> {
    fn drop(&mut self) {
        if !self.block.is_empty() {
            self.supply.left.lock().push(self.block.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_at_one_time_get_neighbours_each_and_no_id_is_lost() {
        let supply = Supply::default();
        let (mut one, mut two) = (supply.ids(), supply.ids());
        let mut given = Vec::new();
        for _ in 0..3 {
            given.extend([one.take().0, two.take().0]);
        }
        assert_eq!(given, [0, 32, 1, 33, 2, 34]);
        drop((one, two));
        let mut rest: Vec<_> = (0..58).map(|_| supply.ids().take().0).collect();
        rest.extend(given);
        rest.sort_unstable();
        assert_eq!(rest, (0..64).collect::<Vec<_>>());
        assert_eq!((supply.next(), supply.ids().take().0), (64, 64));
    }
}
