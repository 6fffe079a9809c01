//! One counter: what is known of it, and what its next sample says in the other temporality.

use super::STEPS_NEW;
use crate::micrometer::Temporality;
use crate::model::{Restated, TimestampNs, is_stale_marker};

/// How samples of counters came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// Passed on by somebody who scraped them: what was counted before the first one is not known to be new.
    #[default]
    Scraped,
    /// Told by an application itself again and again: all that it counted is new, unless nothing is known of it and it says
    /// that it has run for long.
    Connected,
    /// Pushed by an application, perhaps for the last time: all is new, and told at once.
    Pushed,
}

/// See the module's documentation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Tally {
    pub(super) temporality: Temporality,
    /// When it was measured last.
    pub(super) last: TimestampNs,
    /// Of deltas, their sum; else the value measured last.
    pub(super) value: f64,
    /// Of deltas, the last one; of a cumulative value, what was added since `since`.
    pub(super) added: f64,
    /// Since when deltas are added up; else when it was told last.
    pub(super) since: TimestampNs,
    /// Second of the Unix epoch in which it came last.
    pub(super) seen: u32,
}

impl Tally {
    /// A counter at first sight, and what that says; none where it says nothing.
    pub(super) fn begin(
        temporality: Temporality,
        value: f64,
        timestamp: TimestampNs,
        start: Option<TimestampNs>,
        origin: Origin,
        step: i64,
    ) -> Option<(Self, Option<Restated>)> {
        let before = timestamp.saturating_sub(step);
        let mut tally = Self { temporality, last: timestamp, value, added: 0.0, since: timestamp, seen: 0 };
        let started_lately =
            start.is_some_and(|start| start > timestamp.saturating_sub(step.saturating_mul(i64::from(STEPS_NEW))));
        let is_new = origin != Origin::Scraped || started_lately;
        let restated = match temporality {
            Temporality::Instant => return None,
            _ if !value.is_finite() => return None,
            Temporality::Delta if value < 0.0 => return None,
            Temporality::Delta => {
                (tally.since, tally.added) = (before, value);
                Some(Restated { value, start: before })
            }
            Temporality::Cumulative | Temporality::Companion if is_new => {
                Some(Restated { value, start: start.unwrap_or(before) })
            }
            Temporality::Cumulative | Temporality::Companion => None,
        };
        Some((tally, restated))
    }

    /// What a sample says, after which it is the last one known.
    pub(super) fn restate(
        &mut self,
        value: f64,
        timestamp: TimestampNs,
        origin: Origin,
        step: i64,
    ) -> Option<Restated> {
        let is_due = origin == Origin::Pushed || timestamp.div_euclid(step) > self.since.div_euclid(step);
        match self.temporality {
            Temporality::Instant => None,
            Temporality::Delta => {
                if timestamp < self.last || value < 0.0 || !value.is_finite() {
                    return None;
                }
                if timestamp > self.last {
                    (self.value, self.last, self.added) = (self.value + value, timestamp, value);
                } else if value.to_bits() != self.added.to_bits() {
                    return None;
                }
                Some(Restated { value: self.value, start: self.since })
            }
            Temporality::Cumulative => {
                let ends = is_stale_marker(value);
                if !ends && value.is_finite() {
                    self.add(value, timestamp);
                }
                if timestamp < self.last || timestamp <= self.since || !(is_due || ends && self.added > 0.0) {
                    return None;
                }
                let restated = Restated { value: self.added, start: self.since };
                (self.added, self.since) = (0.0, timestamp);
                Some(restated)
            }
            Temporality::Companion => {
                if timestamp < self.last || !value.is_finite() || !(is_due || timestamp == self.since) {
                    return None;
                }
                let restated = Restated { value, start: self.since };
                (self.last, self.value, self.since) = (timestamp, value, timestamp);
                Some(restated)
            }
        }
    }

    /// What a cumulative counter has added and not told.
    pub(super) fn rest(&mut self) -> Option<Restated> {
        if self.temporality != Temporality::Cumulative || self.added <= 0.0 || self.last <= self.since {
            return None;
        }
        let restated = Restated { value: self.added, start: self.since };
        (self.added, self.since) = (0.0, self.last);
        Some(restated)
    }

    /// From here on another counts under this name, and stands at that value.
    pub(super) fn rebase(&mut self, value: f64) {
        if self.temporality == Temporality::Cumulative && value.is_finite() {
            self.value = value;
        }
    }

    /// Adds what a cumulative value has more than the one before.
    fn add(&mut self, value: f64, timestamp: TimestampNs) {
        if timestamp > self.last {
            self.added += if value >= self.value { value - self.value } else { value };
            (self.value, self.last) = (value, timestamp);
        }
    }

    /// As if it had not been told: it will be with the next sample. Sums of deltas stay: what was counted was counted.
    pub(super) fn take_back(&mut self, timestamp: TimestampNs, restated: Restated) {
        if self.temporality != Temporality::Delta && self.since == timestamp {
            self.since = restated.start;
            if self.temporality == Temporality::Cumulative {
                self.added += restated.value;
            }
        }
    }

    /// A counter that the log tells of first.
    pub(super) fn recalled(
        temporality: Temporality,
        value: f64,
        timestamp: TimestampNs,
        restated: Option<Restated>,
    ) -> Option<Self> {
        let (value, added, since) = match (temporality, restated) {
            (Temporality::Delta, Some(restated)) => (restated.value, value, restated.start),
            // It said nothing.
            (Temporality::Delta, None) => return None,
            _ if !value.is_finite() => return None,
            _ => (value, 0.0, timestamp),
        };
        Some(Self { temporality, last: timestamp, value, added, since, seen: super::second(timestamp) })
    }

    /// Takes up what the log tells of a sample; what is known already changes nothing.
    pub(super) fn recall(&mut self, value: f64, timestamp: TimestampNs, restated: Option<Restated>) {
        match (self.temporality, restated) {
            (Temporality::Delta, Some(restated)) => {
                // In the log, two requests may stand in the other order than their sums were made in.
                self.value = self.value.max(restated.value);
                if timestamp >= self.last {
                    (self.last, self.added) = (timestamp, value);
                }
            }
            (Temporality::Cumulative, restated) => {
                if value.is_finite() {
                    self.add(value, timestamp);
                }
                if restated.is_some() && timestamp > self.since {
                    (self.added, self.since) = (0.0, timestamp);
                }
            }
            (Temporality::Companion, Some(_)) if timestamp > self.since => {
                (self.last, self.value, self.since) = (timestamp, value, timestamp);
            }
            _ => {}
        }
    }
}
