//! Native histograms as distributions: what was observed since the sample before, as centroids in the middle of buckets.
//!
//! A native histogram counts from its start, a distribution holds what is new; the difference needs the sample before, which
//! a rendered series keeps. The first sample after a start of the gateway, after an hour of silence (the series is rendered
//! anew), or after a change of the buckets' bounds has nothing to be compared with: it only begins the comparison. Count and
//! sum go out as points in any case, so a sample that brings no distribution is not lost. Where the count went down, the
//! histogram began anew, and all that is in it is new. Gauge histograms are what was observed as they are.
//!
//! Sent twice after a crash or a lost answer, a distribution counts twice: the destination merges what is in one minute.

use crate::model::{Centroid, NativeHistogram, ResetHint};
use crate::wire::classic;
use std::sync::{Mutex, PoisonError};

/// The sample before, of one series. Its size is that of the histogram's buckets.
#[derive(Debug, Default)]
pub(super) struct Before(Mutex<Option<Box<Past>>>);

#[derive(Debug)]
struct Past {
    schema: i32,
    zero_threshold: f64,
    custom_values: Vec<f64>,
    count: f64,
    /// Middle and observations of each bucket, ascending.
    buckets: Vec<(f64, f64)>,
}

impl Before {
    /// What was observed since the sample before; none when nothing was, or that is not known. Remembers this sample.
    pub(super) fn since(&self, histogram: &NativeHistogram) -> Option<Vec<Centroid>> {
        let now = Past {
            schema: histogram.schema,
            zero_threshold: histogram.zero_threshold,
            custom_values: histogram.custom_values.clone(),
            count: histogram.count(),
            buckets: classic::middles(histogram),
        };
        if histogram.reset_hint == ResetHint::Gauge {
            return centroids(now.buckets.iter().copied());
        }
        let mut before = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = match &*before {
            Some(before) if now.count < before.count => centroids(now.buckets.iter().copied()),
            Some(before) if now.has_bounds_of(before) => now.minus(before),
            _ => None,
        };
        *before = Some(Box::new(now));
        new
    }
}

impl Past {
    fn has_bounds_of(&self, other: &Self) -> bool {
        self.schema == other.schema
            && self.zero_threshold.to_bits() == other.zero_threshold.to_bits()
            && self.custom_values == other.custom_values
    }

    fn minus(&self, before: &Self) -> Option<Vec<Centroid>> {
        let known = |middle: f64| {
            let place = before.buckets.binary_search_by(|(other, _)| other.total_cmp(&middle));
            place.map_or(0.0, |at| before.buckets[at].1)
        };
        centroids(self.buckets.iter().map(|(middle, count)| (*middle, count - known(*middle))))
    }
}

fn centroids(buckets: impl Iterator<Item = (f64, f64)>) -> Option<Vec<Centroid>> {
    let centroid = |(mean, count): (f64, f64)| Centroid { count: count.round() as i32, mean };
    let centroids: Vec<_> = buckets.map(centroid).filter(|centroid| centroid.count > 0).collect();
    (!centroids.is_empty()).then_some(centroids)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Counts, Span};

    fn histogram(zero: u64, positive: &[i64], negative: &[i64]) -> NativeHistogram {
        let deltas = |counts: &[i64]| {
            let mut before = 0;
            counts.iter().map(|count| std::mem::replace(&mut before, *count)).zip(counts).map(|(b, c)| c - b).collect()
        };
        let spans = |counts: &[i64]| vec![Span { offset: 0, length: counts.len() as u32 }];
        let count = zero + (positive.iter().sum::<i64>() + negative.iter().sum::<i64>()).unsigned_abs();
        NativeHistogram {
            schema: 0,
            zero_threshold: 0.25,
            sum: 1.0,
            counts: Counts::Integer {
                count,
                zero_count: zero,
                positive_deltas: deltas(positive),
                negative_deltas: deltas(negative),
            },
            positive_spans: spans(positive),
            negative_spans: spans(negative),
            custom_values: Vec::new(),
            reset_hint: ResetHint::Unknown,
        }
    }

    fn told(before: &Before, histogram: &NativeHistogram) -> String {
        let centroids = before.since(histogram).unwrap_or_default();
        let told: Vec<_> = centroids.iter().map(|centroid| format!("#{} {} ", centroid.count, centroid.mean)).collect();
        told.concat()
    }

    #[test]
    fn what_is_new_stands_in_the_middle_of_its_bucket() {
        let before = Before::default();
        assert_eq!(told(&before, &histogram(1, &[1, 2, 3], &[1])), "", "nothing to compare with");
        assert_eq!(told(&before, &histogram(1, &[1, 2, 3], &[1])), "", "nothing new");
        // Positive buckets end at 1, 2 and 4; the negative one begins at -1.
        assert_eq!(told(&before, &histogram(3, &[2, 2, 7], &[4])), "#3 -0.75 #2 0 #1 0.75 #4 3 ");
        assert_eq!(told(&before, &histogram(0, &[0, 1], &[])), "#1 1.5 ", "it began anew");
        let coarser = NativeHistogram { schema: -1, ..histogram(0, &[0, 5], &[]) };
        assert_eq!(told(&before, &coarser), "", "other bounds");
        let gauge = NativeHistogram { reset_hint: ResetHint::Gauge, ..histogram(0, &[0, 5], &[]) };
        assert_eq!(told(&before, &gauge), "#5 1.5 ");
    }

    #[test]
    fn bounds_of_its_own_end_open() {
        let of = |positive: &[i64]| NativeHistogram {
            schema: classic::CUSTOM_BOUNDS,
            custom_values: vec![0.5, 1.5],
            zero_threshold: 0.0,
            ..histogram(0, positive, &[])
        };
        let before = Before::default();
        told(&before, &of(&[0, 0, 0]));
        assert_eq!(told(&before, &of(&[1, 2, 3])), "#1 0.25 #2 1 #3 1.5 ");
    }
}
