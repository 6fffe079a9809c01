//! Native histograms and distributions in the terms of formats that have neither: cumulative buckets, count and sum.
//!
//! A bucket that was sent stays, even an empty one: a series that comes and goes with its count would read as a gap. So the
//! number of buckets is bounded by what was sent, whatever the spans promise.

use crate::model::{Counts, Distribution, NativeHistogram, Span};
use std::borrow::Cow;

/// The schema of histograms that list their bounds.
pub(crate) const CUSTOM_BOUNDS: i32 = -53;

/// Gives the buckets of a native histogram as (upper bound, observations at or below it), ascending, without +Inf. What
/// `buckets` held is forgotten.
pub(crate) fn cumulative_buckets(histogram: &NativeHistogram, buckets: &mut Vec<(f64, f64)>) {
    buckets.clear();
    let (zero_count, positive, negative) = absolute_counts(histogram);
    // Below zero the buckets with the largest index lie lowest, and a bucket's upper bound is its near edge.
    let below = indexes(&histogram.negative_spans).zip(negative.iter());
    buckets.extend(below.map(|(index, count)| (-upper_bound(histogram, index.saturating_sub(1)), *count)));
    buckets.reverse();
    if zero_count != 0.0 {
        buckets.push((histogram.zero_threshold, zero_count));
    }
    let above = indexes(&histogram.positive_spans).zip(positive.iter());
    buckets.extend(above.map(|(index, count)| (upper_bound(histogram, index), *count)));
    let mut cumulative = 0.0;
    for (_, count) in buckets.iter_mut() {
        cumulative += *count;
        *count = cumulative;
    }
    // Bounds that a float cannot tell apart (or that a sender got wrong) fall together: the later count has the earlier in it.
    buckets.dedup_by(|later, first| {
        let same = later.0 <= first.0;
        if same {
            first.1 = later.1;
        }
        same
    });
    buckets.retain(|(bound, _)| bound.is_finite());
}

/// The middle of each bucket with the observations in it, ascending. What lies beyond the outer bounds stands at those.
pub(crate) fn middles(histogram: &NativeHistogram) -> Vec<(f64, f64)> {
    let (zero_count, positive, negative) = absolute_counts(histogram);
    let custom = histogram.schema == CUSTOM_BOUNDS;
    let middle = |index: i64| {
        let (lower, upper) = (upper_bound(histogram, index.saturating_sub(1)), upper_bound(histogram, index));
        match (lower.is_finite(), upper.is_finite()) {
            (true, true) if custom => lower.midpoint(upper),
            (true, true) => lower.max(histogram.zero_threshold).midpoint(upper),
            (false, true) if upper > 0.0 => upper / 2.0,
            (false, true) => upper,
            (true, false) => lower,
            (false, false) => histogram.custom_values.last().copied().unwrap_or(0.0),
        }
    };
    let negative = indexes(&histogram.negative_spans).zip(negative.iter());
    let mut middles: Vec<_> = negative.map(|(index, count)| (-middle(index), *count)).collect();
    middles.reverse();
    if !custom {
        middles.push((0.0, zero_count));
    }
    let positive = indexes(&histogram.positive_spans).zip(positive.iter());
    middles.extend(positive.map(|(index, count)| (middle(index), *count)));
    middles
}

/// Observations in the zero bucket, in each positive and in each negative bucket.
pub(crate) fn absolute_counts(histogram: &NativeHistogram) -> (f64, Cow<'_, [f64]>, Cow<'_, [f64]>) {
    match &histogram.counts {
        Counts::Integer { zero_count, positive_deltas, negative_deltas, .. } => {
            (*zero_count as f64, absolute(positive_deltas), absolute(negative_deltas))
        }
        Counts::Float { zero_count, positive_counts, negative_counts, .. } => {
            (*zero_count, Cow::from(positive_counts), Cow::from(negative_counts))
        }
    }
}

/// Count and sum of a distribution.
pub(crate) fn count_and_sum(distribution: &Distribution) -> (i64, f64) {
    distribution.centroids.iter().fold((0, 0.0), |(count, sum), centroid| {
        (count + i64::from(centroid.count), sum + f64::from(centroid.count) * centroid.mean)
    })
}

fn absolute(deltas: &[i64]) -> Cow<'static, [f64]> {
    let mut count = 0_i64;
    let running = deltas.iter().map(|delta| {
        count = count.wrapping_add(*delta);
        count as f64
    });
    running.collect()
}

/// The index of each bucket that the spans cover. Zipped with the counts, it ends with them.
fn indexes(spans: &[Span]) -> impl Iterator<Item = i64> {
    let mut next = 0_i64;
    spans.iter().flat_map(move |span| {
        let first = next.saturating_add(i64::from(span.offset));
        next = first.saturating_add(i64::from(span.length));
        first..next
    })
}

fn upper_bound(histogram: &NativeHistogram, index: i64) -> f64 {
    if histogram.schema == CUSTOM_BOUNDS {
        let bound = usize::try_from(index).ok().and_then(|index| histogram.custom_values.get(index));
        return bound.copied().unwrap_or(f64::INFINITY);
    }
    (index as f64 * f64::from(-histogram.schema).exp2()).exp2()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ResetHint;

    fn buckets(histogram: &NativeHistogram) -> Vec<(f64, f64)> {
        let mut buckets = vec![(0.0, 0.0)];
        cumulative_buckets(histogram, &mut buckets);
        buckets
    }

    fn floats(count: f64, positive: &[f64], negative: &[f64]) -> Counts {
        let (positive_counts, negative_counts) = (positive.to_vec(), negative.to_vec());
        Counts::Float { count, zero_count: 0.0, positive_counts, negative_counts }
    }

    fn span(offset: i32, length: u32) -> Span {
        Span { offset, length }
    }

    fn histogram() -> NativeHistogram {
        NativeHistogram {
            schema: 0,
            zero_threshold: 0.5,
            sum: 3.0,
            counts: Counts::Integer {
                count: 12,
                zero_count: 2,
                positive_deltas: vec![1, 1, -1],
                negative_deltas: vec![1, 4],
            },
            positive_spans: vec![span(1, 2), span(1, 1)],
            negative_spans: vec![span(1, 2)],
            custom_values: Vec::new(),
            reset_hint: ResetHint::Unknown,
        }
    }

    #[test]
    fn both_sides_of_zero_add_up() {
        let expected = [(-2.0, 5.0), (-1.0, 6.0), (0.5, 8.0), (2.0, 9.0), (4.0, 11.0), (16.0, 12.0)];
        assert_eq!(buckets(&histogram()), expected);
    }

    #[test]
    fn custom_bounds_end_with_infinity_and_keep_empty_buckets() {
        let custom = NativeHistogram {
            schema: CUSTOM_BOUNDS,
            counts: floats(6.5, &[1.5, 0.0, 5.0], &[]),
            positive_spans: vec![span(0, 3)],
            negative_spans: Vec::new(),
            custom_values: vec![0.1, 0.25],
            ..histogram()
        };
        assert_eq!(buckets(&custom), [(0.1, 1.5), (0.25, 1.5)]);
    }

    #[test]
    fn bounds_that_are_one_float_are_one_bucket() {
        let twice = NativeHistogram {
            schema: CUSTOM_BOUNDS,
            counts: floats(3.0, &[1.0, 2.0], &[]),
            positive_spans: vec![span(0, 2)],
            negative_spans: Vec::new(),
            custom_values: vec![1.0, 1.0],
            ..histogram()
        };
        assert_eq!(buckets(&twice), [(1.0, 3.0)]);
    }

    #[test]
    fn spans_that_lie_do_not_run_away() {
        let lying = NativeHistogram {
            schema: 8,
            counts: floats(2.0, &[1.0, 1.0], &[]),
            positive_spans: vec![span(i32::MAX, u32::MAX), span(1, u32::MAX)],
            negative_spans: vec![span(i32::MIN, u32::MAX)],
            ..histogram()
        };
        assert_eq!(buckets(&lying), []);
    }
}
