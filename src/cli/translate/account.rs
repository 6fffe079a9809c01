//! What became of the samples that were handed to a target, and on which lines.

use super::decode::Decoded;
use crate::model::{Exemplar, Loss, LossSet, Losses, SampleFlags};

/// Places told of one loss.
pub(super) const PLACES_MAX: usize = 3;

/// Samples taken = written + dropped.
#[derive(Debug, Default)]
pub(super) struct Account {
    pub(super) taken: u64,
    /// Samples that do not arrive.
    pub(super) dropped: Losses,
    /// Samples that arrive altered.
    pub(super) altered: Losses,
    losses: Vec<Places>,
}

/// Where a loss was seen first.
#[derive(Debug)]
struct Places {
    loss: Loss,
    first: Vec<String>,
    /// Batches searched. Some losses are not of one sample (a collapse, metadata of a family): they are not sought for ever.
    searched: usize,
}

/// Losses so far.
#[derive(Debug)]
pub(super) struct Mark(Losses);

impl Account {
    pub(super) fn mark(&self) -> Mark {
        Mark(self.total())
    }

    fn total(&self) -> Losses {
        let mut total = self.dropped.clone();
        total.merge(&self.altered);
        total
    }

    /// The first places of a loss.
    pub(super) fn places(&self, loss: Loss) -> &[String] {
        self.losses.iter().find(|places| places.loss == loss).map_or(&[], |places| &places.first)
    }

    /// Finds the places of losses that grew since the mark. Encoders count losses and do not say whose they are, since few
    /// ask: `alone` tells what the sample with that index loses by itself, with its exemplar.
    pub(super) fn locate<'d>(
        &mut self,
        since: &Mark,
        inputs: impl Iterator<Item = &'d Decoded>,
        mut alone: impl FnMut(&Decoded, usize, Option<&Exemplar>) -> LossSet,
    ) {
        let grown = self.total();
        let grown = grown.iter().filter(|(loss, count)| *count > since.0.get(*loss));
        let mut wanted = Vec::new();
        for (loss, _) in grown {
            let places = self.places_mut(loss);
            if places.first.len() < PLACES_MAX && places.searched < PLACES_MAX {
                places.searched += 1;
                wanted.push(loss);
            }
        }
        for input in inputs {
            self.search(&mut wanted, input, &mut alone);
        }
    }

    #[cold]
    fn search(
        &mut self,
        wanted: &mut Vec<Loss>,
        input: &Decoded,
        alone: &mut impl FnMut(&Decoded, usize, Option<&Exemplar>) -> LossSet,
    ) {
        let (exemplars, _) = input.batch.placed_exemplars();
        let mut place = None;
        for (index, sample) in input.batch.samples.iter().enumerate() {
            if wanted.is_empty() {
                return;
            }
            if !sample.flags.contains(SampleFlags::ROW_CONTINUES) {
                place = None;
            }
            let lost = alone(input, index, exemplars.get(&index).copied());
            if !wanted.iter().any(|loss| lost.contains(*loss)) {
                continue;
            }
            let place = place.get_or_insert_with(|| input.place_of(index));
            wanted.retain(|loss| {
                let places = self.places_mut(*loss);
                if lost.contains(*loss) && places.first.last() != Some(place) {
                    places.first.push(place.clone());
                }
                places.first.len() < PLACES_MAX
            });
        }
    }

    fn places_mut(&mut self, loss: Loss) -> &mut Places {
        let at = self.losses.iter().position(|places| places.loss == loss).unwrap_or_else(|| {
            self.losses.push(Places { loss, first: Vec::new(), searched: 0 });
            self.losses.len() - 1
        });
        &mut self.losses[at]
    }
}
