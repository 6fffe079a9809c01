//! An order-free checksum of samples: the same for a load and for what a sink got of it, whatever happened in between.
//!
//! A sample is hashed from its series, its timestamp in milliseconds and the bits of its value; the hashes are added up, so
//! order and grouping do not matter. The sums are kept in [`BUCKETS`] by series: that tells what is missing from what came
//! twice, as long as not both happen in one bucket.
//!
//! A series is hashed from its name and the set of its labels, in whatever order they come and however a format spells
//! them: `cpu.usage`, the field `usage` of `cpu` and `cpu_usage` are one name, and the label that names where a sample
//! comes from ([`SOURCE_LABELS`]) is one label. Duplicates of a label count twice, so that they do not go unseen.

use serde::Serialize;
use std::fmt;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Sums of a digest: 32 KiB of memory.
const BUCKETS: usize = 2048;
/// What formats call the label that names where a sample comes from.
pub const SOURCE_LABELS: [&[u8]; 3] = [b"source", b"host", b"instance"];

/// The hash of a series: of its name first, then with each of its labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity(u64);

impl Identity {
    /// The series with that name (`measurement_field`) and no label.
    #[inline]
    pub fn of_name(name: &[u8]) -> Self {
        Self(xxh3_64(name))
    }

    /// The same series with a label more.
    #[inline]
    #[must_use]
    pub fn with(self, name: &[u8], value: &[u8]) -> Self {
        let name = if SOURCE_LABELS.contains(&name) { SOURCE_LABELS[0] } else { name };
        Self(self.0.wrapping_add(xxh3_64_with_seed(value, xxh3_64(name))))
    }

    /// The series of a name without labels that has the labels gathered in `labels`.
    #[inline]
    #[must_use]
    pub fn with_all(self, labels: Labels) -> Self {
        Self(self.0.wrapping_add(labels.0))
    }
}

/// The hash of a set of labels, for series that share them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Labels(u64);

impl Labels {
    /// The same set with a label more.
    #[inline]
    #[must_use]
    pub fn with(self, name: &[u8], value: &[u8]) -> Self {
        Self(Identity(self.0).with(name, value).0)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Bucket {
    samples: u64,
    sum: u64,
}

/// The checksum of any number of samples.
#[derive(Clone, PartialEq, Eq)]
pub struct Digest {
    buckets: Box<[Bucket]>,
    samples: u64,
}

impl Default for Digest {
    fn default() -> Self {
        Self { buckets: vec![Bucket::default(); BUCKETS].into(), samples: 0 }
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} samples, {:016x}", self.samples, self.checksum())
    }
}

impl Digest {
    /// Adds a sample.
    #[inline]
    pub fn add(&mut self, series: Identity, milliseconds: i64, value: f64) {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&series.0.to_le_bytes());
        bytes[8..16].copy_from_slice(&milliseconds.to_le_bytes());
        bytes[16..].copy_from_slice(&value.to_bits().to_le_bytes());
        let bucket = &mut self.buckets[(series.0 >> 32) as usize % BUCKETS];
        bucket.samples += 1;
        bucket.sum = bucket.sum.wrapping_add(xxh3_64(&bytes));
        self.samples += 1;
    }

    /// Adds all samples of another digest.
    pub fn merge(&mut self, other: &Self) {
        for (bucket, more) in self.buckets.iter_mut().zip(&other.buckets) {
            bucket.samples += more.samples;
            bucket.sum = bucket.sum.wrapping_add(more.sum);
        }
        self.samples += other.samples;
    }

    /// Forgets all samples and keeps the memory.
    pub fn clear(&mut self) {
        self.buckets.fill(Bucket::default());
        self.samples = 0;
    }

    /// Samples added.
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// All of it in one number, to be compared by eye.
    pub fn checksum(&self) -> u64 {
        self.buckets.iter().fold(0, |sum, bucket| sum.wrapping_add(bucket.sum))
    }

    /// What arrived, compared with what was sent.
    pub fn difference(arrived: &Self, sent: &Self) -> Difference {
        let mut difference = Difference::default();
        for (arrived, sent) in arrived.buckets.iter().zip(&sent.buckets) {
            difference.missing += sent.samples.saturating_sub(arrived.samples);
            difference.extra += arrived.samples.saturating_sub(sent.samples);
            difference.altered += u64::from(arrived.samples == sent.samples && arrived.sum != sent.sum);
        }
        difference
    }
}

/// How what arrived differs from what was sent; each number is a lower bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Samples that did not arrive.
    pub missing: u64,
    /// Samples that arrived twice, or were never sent.
    pub extra: u64,
    /// Samples whose series, timestamp or value is another.
    pub altered: u64,
}

impl Difference {
    /// Whether every sample arrived once and as it was sent.
    pub fn is_none(self) -> bool {
        self == Self::default()
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at least {} samples missing, {} extra, {} altered", self.missing, self.extra, self.altered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(samples: &[(u64, i64, f64)]) -> Digest {
        let mut digest = Digest::default();
        for (series, milliseconds, value) in samples {
            digest.add(Identity::of_name(&series.to_le_bytes()), *milliseconds, *value);
        }
        digest
    }

    #[test]
    fn order_and_grouping_do_not_matter() {
        let mut sent = digest(&[(1, 1, 1.0), (2, 1, 2.0)]);
        sent.merge(&digest(&[(1, 2, 3.0)]));
        assert_eq!(sent, digest(&[(1, 2, 3.0), (2, 1, 2.0), (1, 1, 1.0)]));
    }

    #[test]
    fn what_is_missing_extra_or_altered_is_told_apart() {
        let sent = digest(&[(1, 1, 1.0), (2, 1, 2.0), (3, 1, 3.0)]);
        let told = |samples: &[_]| Digest::difference(&digest(samples), &sent);
        assert!(told(&[(3, 1, 3.0), (2, 1, 2.0), (1, 1, 1.0)]).is_none());
        let (missing, extra, altered) = (1, 1, 1);
        let none = Difference::default();
        assert_eq!(told(&[(1, 1, 1.0), (2, 1, 2.0)]), Difference { missing, ..none });
        assert_eq!(told(&[(1, 1, 1.0), (2, 1, 2.0), (3, 1, 3.0), (3, 1, 3.0)]), Difference { extra, ..none });
        assert_eq!(told(&[(1, 1, 1.0), (2, 1, 2.0), (2, 1, 2.0)]), Difference { missing, extra, ..none });
        assert_eq!(told(&[(1, 1, 1.0), (2, 1, 2.0), (3, 1, -3.0)]), Difference { altered, ..none });
        assert_eq!(told(&[(1, 1, 1.0), (2, 2, 2.0), (3, 1, 3.0)]), Difference { altered, ..none });
        assert_eq!(told(&[(1, 1, 1.0), (2, 1, 2.0), (4, 1, 3.0)]), Difference { missing, extra, ..none });
    }

    #[test]
    fn labels_are_a_set_and_the_source_has_one_name() {
        let name = Identity::of_name(b"m");
        let one = name.with(b"a", b"1").with(b"host", b"x");
        assert_eq!(one, name.with(b"source", b"x").with(b"a", b"1"));
        assert_eq!(one, name.with_all(Labels::default().with(b"instance", b"x").with(b"a", b"1")));
        assert_ne!(one, name.with(b"a", b"x").with(b"host", b"1"));
        assert_ne!(one, one.with(b"a", b"1"));
    }
}
