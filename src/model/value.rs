//! What a sample can hold. Floats keep their bits: NaN payloads tell a stale marker from a measured NaN.

/// The bits of the NaN with which Prometheus marks the end of a series.
pub const STALE_MARKER_BITS: u64 = 0x7ff0_0000_0000_0002;

/// Whether a float is the stale marker, by its exact bits.
pub fn is_stale_marker(value: f64) -> bool {
    value.to_bits() == STALE_MARKER_BITS
}

/// Whether a NaN says more than that it is one, as R's missing value does. Languages write a mere NaN with a payload of 0, Go with
/// 1, and processors with either sign.
pub fn has_nan_payload(value: f64) -> bool {
    const SIGN: u64 = 1 << 63;
    value.is_nan() && !matches!(value.to_bits() & !SIGN, 0x7ff8_0000_0000_0000 | 0x7ff8_0000_0000_0001)
}

/// A sample's value, borrowed from its batch where it is large.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// A float with its exact bits.
    F64(f64),
    /// A signed integer (line protocol `1i`).
    I64(i64),
    /// An unsigned integer (line protocol `1u`).
    U64(u64),
    /// A boolean (line protocol `true`).
    Bool(bool),
    /// A string field of line protocol.
    Str(&'a str),
    /// A Prometheus native histogram.
    Histogram(&'a NativeHistogram),
    /// A Wavefront histogram distribution.
    Distribution(&'a Distribution),
}

/// A Prometheus native histogram, integer or float, exponential (schema -4 to 8) or with custom buckets (schema -53).
#[derive(Clone, Debug, PartialEq)]
pub struct NativeHistogram {
    /// Bucket resolution: -4 to 8, or -53 for custom bounds.
    pub schema: i32,
    /// Width of the zero bucket.
    pub zero_threshold: f64,
    /// Sum of the observations.
    pub sum: f64,
    /// The counts, in the flavour in which they were sent.
    pub counts: Counts,
    /// Where the positive buckets lie.
    pub positive_spans: Vec<Span>,
    /// Where the negative buckets lie.
    pub negative_spans: Vec<Span>,
    /// Upper bounds, ascending, without +Inf; only with schema -53.
    pub custom_values: Vec<f64>,
    /// What the sender knows about a counter reset.
    pub reset_hint: ResetHint,
}

impl NativeHistogram {
    /// Memory it occupies.
    pub fn bytes(&self) -> usize {
        let buckets = match &self.counts {
            Counts::Integer { positive_deltas, negative_deltas, .. } => positive_deltas.len() + negative_deltas.len(),
            Counts::Float { positive_counts, negative_counts, .. } => positive_counts.len() + negative_counts.len(),
        };
        let spans = (self.positive_spans.len() + self.negative_spans.len()) * size_of::<Span>();
        size_of::<Self>() + (buckets + self.custom_values.len()) * size_of::<f64>() + spans
    }
}

/// Counts of a native histogram.
#[derive(Clone, Debug, PartialEq)]
pub enum Counts {
    /// Integer counts; buckets are deltas to the bucket before.
    Integer {
        /// All observations.
        count: u64,
        /// Observations in the zero bucket.
        zero_count: u64,
        /// Delta-encoded positive buckets, as many as the spans cover.
        positive_deltas: Vec<i64>,
        /// Delta-encoded negative buckets, as many as the spans cover.
        negative_deltas: Vec<i64>,
    },
    /// Float counts; buckets are absolute.
    Float {
        /// All observations.
        count: f64,
        /// Observations in the zero bucket.
        zero_count: f64,
        /// Positive buckets, as many as the spans cover.
        positive_counts: Vec<f64>,
        /// Negative buckets, as many as the spans cover.
        negative_counts: Vec<f64>,
    },
}

/// A run of adjacent buckets of a native histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Gap to the span before (first span: index of its first bucket).
    pub offset: i32,
    /// Number of buckets.
    pub length: u32,
}

/// What a sender knows about a native histogram's counter reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum ResetHint {
    /// Nothing is known.
    #[default]
    Unknown = 0,
    /// There was a reset.
    Yes = 1,
    /// There was none.
    No = 2,
    /// It is a gauge histogram, which has no resets.
    Gauge = 3,
}

/// A Wavefront histogram distribution: centroids over one minute, hour or day.
#[derive(Clone, Debug, PartialEq)]
pub struct Distribution {
    /// The bin the centroids are about.
    pub granularity: Granularity,
    /// At least one; counts and means as sent.
    pub centroids: Vec<Centroid>,
}

impl Distribution {
    /// Memory it occupies.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.centroids.len() * size_of::<Centroid>()
    }
}

/// Some observations around one mean.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Centroid {
    /// How many; the format's integers are 32 bits wide and may be negative in transit.
    pub count: i32,
    /// Their mean.
    pub mean: f64,
}

/// The bin of a Wavefront distribution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Granularity {
    /// `!M`
    Minute = 0,
    /// `!H`
    Hour = 1,
    /// `!D`
    Day = 2,
}

impl NativeHistogram {
    /// Count of all observations as a float.
    pub fn count(&self) -> f64 {
        match &self.counts {
            Counts::Integer { count, .. } => *count as f64,
            Counts::Float { count, .. } => *count,
        }
    }

    /// Whether the histogram is the stale marker of its series.
    pub fn is_stale_marker(&self) -> bool {
        is_stale_marker(self.sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mere_nan_has_no_payload() {
        let mere = [f64::NAN, -f64::NAN, f64::from_bits(0x7ff8_0000_0000_0001)];
        assert!(mere.into_iter().chain([1.0, f64::INFINITY, f64::NEG_INFINITY]).all(|value| !has_nan_payload(value)));
        let telling = [STALE_MARKER_BITS, 0x7ff0_0000_0000_07a2, 0xfff8_0000_0000_0002, u64::MAX];
        assert!(telling.into_iter().all(|bits| has_nan_payload(f64::from_bits(bits))));
    }
}
