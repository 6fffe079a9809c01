//! Turns settlements, which come in any order, into a cursor that moves in log order.
//!
//! Invariants: the cursor stands behind a record only when every sample of it is delivered or dropped; what it counts as
//! delivered and dropped are exactly the samples before it.

use crate::model::{Loss, Losses, TimestampNs};
use std::collections::{BTreeMap, VecDeque};

/// Everything before `seq` is finished.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finished {
    /// The first record not finished.
    pub seq: u64,
    /// Samples delivered before it, since the log was created.
    pub delivered: u64,
    /// Samples dropped before it, by reason.
    pub dropped: BTreeMap<String, u64>,
}

#[derive(Debug)]
struct Open {
    seq: u64,
    /// The sequence number behind this record or gap.
    next: u64,
    remaining: u64,
    delivered: u64,
    dropped: Vec<(Loss, u64)>,
    /// What its samples lost on the way, for the account.
    losses: Vec<(Loss, u64)>,
    appended_at: TimestampNs,
}

/// The records that are read and not finished.
#[derive(Debug)]
pub struct Progress {
    finished: Finished,
    /// Losses of finished records that nobody asked for yet.
    losses: Losses,
    open: VecDeque<Open>,
}

impl Progress {
    /// Continues from a cursor.
    pub fn new(finished: Finished) -> Self {
        Self { finished, losses: Losses::default(), open: VecDeque::new() }
    }

    /// A record was read; `dropped` of its samples are not sent at all, and `losses` is what its format cost.
    pub fn begin(&mut self, seq: u64, appended_at: TimestampNs, samples: u64, dropped: &Losses, losses: &Losses) {
        let remaining = samples - dropped.total();
        let dropped = dropped.iter().collect();
        let losses = losses.iter().collect();
        self.open.push_back(Open { seq, next: seq + 1, remaining, delivered: 0, dropped, losses, appended_at });
    }

    /// The log no longer had the records `seq..next`.
    pub fn skip(&mut self, seq: u64, next: u64, now: TimestampNs, reason: Loss, samples: u64) {
        let dropped = vec![(reason, samples)];
        let losses = Vec::new();
        self.open.push_back(Open { seq, next, remaining: 0, delivered: 0, dropped, losses, appended_at: now });
    }

    /// Samples of a shipment are finished. Which record a dropped sample came from is not known when a shipment covers
    /// several: the first records are charged, the sum is exact.
    pub fn settle(&mut self, parts: &[(u64, u64)], dropped: &Losses) {
        let mut dropped = dropped.iter().collect::<Vec<_>>();
        for (seq, samples) in parts {
            let Ok(at) = self.open.binary_search_by_key(seq, |open| open.seq) else {
                debug_assert!(false, "record {seq} is not open");
                continue;
            };
            let open = &mut self.open[at];
            let mut left = *samples;
            while left > 0 {
                let Some((loss, available)) = dropped.last_mut() else { break };
                let charged = left.min(*available);
                *available -= charged;
                left -= charged;
                open.dropped.push((*loss, charged));
                if *loss == Loss::Collapsed {
                    open.losses.push((*loss, charged));
                }
                if *available == 0 {
                    dropped.pop();
                }
            }
            open.delivered += left;
            open.remaining = open.remaining.saturating_sub(*samples);
        }
    }

    /// Moves over all finished records at the front. Returns the new state when it moved.
    pub fn advance(&mut self) -> Option<&Finished> {
        let mut moved = false;
        while self.open.front().is_some_and(|open| open.remaining == 0) {
            let Some(open) = self.open.pop_front() else { break };
            self.finished.seq = open.next;
            self.finished.delivered += open.delivered;
            for (loss, samples) in open.losses {
                self.losses.add(loss, samples);
            }
            for (loss, samples) in open.dropped {
                *self.finished.dropped.entry(loss.as_str().to_owned()).or_default() += samples;
            }
            moved = true;
        }
        moved.then_some(&self.finished)
    }

    /// What samples lost on the way, of the records that were finished since it was asked last.
    pub fn take_losses(&mut self) -> Losses {
        std::mem::take(&mut self.losses)
    }

    /// When the oldest unfinished record was appended.
    pub fn oldest(&self) -> Option<TimestampNs> {
        self.open.front().map(|open| open.appended_at)
    }

    /// Whether everything read is finished.
    pub fn is_idle(&self) -> bool {
        self.open.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cursor_waits_for_the_slowest_record_and_stays_even() {
        let mut progress = Progress::new(Finished { seq: 5, delivered: 100, ..Finished::default() });
        let mut unsendable = Losses::default();
        unsendable.add(Loss::StringValue, 2);
        progress.begin(5, 1000, 10, &unsendable, &unsendable);
        progress.begin(6, 2000, 4, &Losses::default(), &Losses::default());
        progress.skip(7, 9, 3000, Loss::LogDamaged, 30);
        progress.settle(&[(6, 4)], &Losses::default());
        assert_eq!(progress.advance(), None, "record 5 is open");
        progress.settle(&[(5, 3)], &Losses::default());
        let mut refused = Losses::default();
        refused.add(Loss::RefusedByDestination, 1);
        progress.settle(&[(5, 5)], &refused);
        let finished = progress.advance().unwrap().clone();
        assert_eq!(finished.seq, 9);
        assert_eq!(finished.delivered, 100 + 7 + 4);
        let dropped = [("log_damaged", 30), ("refused_by_destination", 1), ("string_value", 2)];
        assert_eq!(finished.dropped, dropped.map(|(reason, samples)| (reason.to_owned(), samples)).into());
        assert_eq!(progress.take_losses().get(Loss::StringValue), 2);
        assert!(progress.is_idle());
    }

    #[test]
    fn a_shipment_over_several_records_charges_each_sample_once() {
        let mut progress = Progress::new(Finished::default());
        for seq in 0..3 {
            progress.begin(seq, 0, 10, &Losses::default(), &Losses::default());
        }
        let mut dropped = Losses::default();
        dropped.add(Loss::Collapsed, 3);
        dropped.add(Loss::RefusedByDestination, 12);
        progress.settle(&[(0, 10), (1, 10), (2, 10)], &dropped);
        let finished = progress.advance().unwrap();
        assert_eq!(finished.delivered, 15);
        assert_eq!(finished.dropped.values().sum::<u64>(), 15);
        assert_eq!(finished.dropped["collapsed"], 3);
        let losses = progress.take_losses();
        assert_eq!((losses.get(Loss::Collapsed), losses.total()), (3, 3), "a refusal is not the format's fault");
        assert_eq!(progress.take_losses().total(), 0);
    }
}
