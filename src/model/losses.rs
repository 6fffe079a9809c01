//! The closed list of what an output can lose, and counters for it.

use std::ops::{BitOr, BitOrAssign};

macro_rules! losses {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// Something that a destination did not get as the source gave it. One list for translation losses and drops, so that
        /// one name means one thing in every metric, log line and report.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Loss { $($(#[doc = $doc])+ $variant,)+ }

        impl Loss {
            /// Every loss, in the order of their discriminants.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The value of the `reason` label.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

losses! {
    // The sample as a whole does not reach the destination.
    /// A string value where only numbers exist.
    StringValue = "string_value",
    /// NaN or an infinity where only finite numbers exist.
    NonFinite = "non_finite",
    /// A stale marker where series cannot be ended.
    StaleMarker = "stale_marker",
    /// A timestamp that the format cannot carry.
    TimestampOutOfRange = "timestamp_out_of_range",
    /// A name with nothing left that the format allows.
    UnusableName = "unusable_name",
    /// Another sample of the same series and timestamp (in the format's resolution) came later and won.
    Collapsed = "collapsed",
    /// Another series had already become this one in the destination's alphabet.
    NameCollision = "name_collision",
    /// A metric internal to a Wavefront sender (`~...`), outside Wavefront.
    InternalMetric = "internal_metric",
    /// A delta counter at or below zero, which Wavefront discards.
    DeltaNotPositive = "delta_not_positive",
    /// A line longer than the destination accepts.
    TooLong = "too_long",
    /// Older than the output's `max_age` when its turn came.
    TooOld = "too_old",
    /// A relabel rule dropped it.
    Relabel = "relabel",
    /// The destination refused it.
    RefusedByDestination = "refused_by_destination",
    /// The log was full and `on_full` is `drop_oldest`.
    LogFull = "log_full",
    /// The log's record was damaged on disk.
    LogDamaged = "log_damaged",
    /// It was trimmed from the log before this output was configured, or while it was absent from the configuration.
    BeforeOutput = "before_output",
    /// It stood before the oldest record kept when the output's cursor file was found damaged: whether it was delivered is not
    /// known.
    CursorDamaged = "cursor_damaged",
    /// A value that follows from others which are sent (a mean, of a sum and a count), and that the dialect does not have.
    Derived = "derived",
    /// A cumulative value between the steps at which the destination's dialect tells what was added.
    WithinStep = "within_step",
    /// A delta that came after a later one, or again: what it adds is, or may be, counted already.
    LateDelta = "late_delta",
    // The sample arrives, but not as it was.
    /// Characters of the name were replaced.
    NameSanitised = "name_sanitised",
    /// Characters of a label name were replaced.
    LabelSanitised = "label_sanitised",
    /// A label was left out (empty, reserved, or too many).
    LabelDropped = "label_dropped",
    /// A name, key or value was cut to the destination's limit.
    Truncated = "truncated",
    /// A label or tag value was altered (control characters, line ends, a trailing backslash).
    ValueSanitised = "value_sanitised",
    /// A timestamp that the sender gave was cut to the format's resolution.
    TimestampTruncated = "timestamp_truncated",
    /// A 64-bit integer beyond 2^53 became a float, or one beyond 2^63 the largest signed one.
    IntegerRounded = "integer_rounded",
    /// The payload of a NaN, which says more than that it is one.
    NanPayload = "nan_payload",
    /// An integer or boolean became a number of another type and the same value, or a string became a label.
    FieldType = "field_type",
    /// Metric type, help or unit have no place in the format.
    Metadata = "metadata",
    /// An exemplar has no place in the format (counted in exemplars).
    Exemplar = "exemplar",
    /// The start timestamp has no place in the format.
    StartTimestamp = "start_timestamp",
    /// A native histogram was expanded into classic buckets.
    NativeHistogram = "native_histogram",
    /// A distribution was reduced to its count and sum; one of Micrometer's, to what other registries tell of it.
    Distribution = "distribution",
    /// A delta counter is carried as a plain value.
    DeltaTemporality = "delta_temporality",
    /// A value was converted to the unit of the destination's dialect (milliseconds, seconds).
    UnitConverted = "unit_converted",
    /// Deltas were added up, or what was cumulative was told by its steps, as the destination's dialect has it.
    TemporalityConverted = "temporality_converted",
    /// A further field of a row became a series of its own.
    RowSplit = "row_split",
}

/// A set of losses, for what is known once per series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct LossSet(u64);

impl LossSet {
    /// No loss.
    pub const NONE: Self = Self(0);

    /// The set of one loss.
    pub const fn of(loss: Loss) -> Self {
        Self(1 << loss as u8)
    }

    /// Adds a loss.
    pub fn insert(&mut self, loss: Loss) {
        self.0 |= 1 << loss as u8;
    }

    /// Whether the loss is in the set.
    pub const fn contains(self, loss: Loss) -> bool {
        self.0 & (1 << loss as u8) != 0
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The losses in the set.
    pub fn iter(self) -> impl Iterator<Item = Loss> {
        Loss::ALL.iter().copied().filter(move |loss| self.contains(*loss))
    }
}

impl BitOr for LossSet {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for LossSet {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// Losses counted, in samples.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Losses([u64; Loss::COUNT]);

impl Default for Losses {
    fn default() -> Self {
        Self([0; Loss::COUNT])
    }
}

impl Losses {
    /// Counts one.
    pub fn count(&mut self, loss: Loss) {
        self.0[loss as usize] += 1;
    }

    /// Counts several.
    pub fn add(&mut self, loss: Loss, samples: u64) {
        self.0[loss as usize] += samples;
    }

    /// Counts one of each in the set.
    #[inline]
    pub fn count_set(&mut self, set: LossSet) {
        let mut bits = set.0;
        while bits != 0 {
            self.0[bits.trailing_zeros() as usize] += 1;
            bits &= bits - 1;
        }
    }

    /// How many of that loss.
    pub fn get(&self, loss: Loss) -> u64 {
        self.0[loss as usize]
    }

    /// All together.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Those that occurred.
    pub fn iter(&self) -> impl Iterator<Item = (Loss, u64)> {
        Loss::ALL.iter().map(|loss| (*loss, self.get(*loss))).filter(|(_, count)| *count > 0)
    }

    /// Adds the counts of another.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine += theirs;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_and_counters_agree_on_every_loss() {
        const { assert!(Loss::COUNT <= 64, "LossSet is one word") };
        let mut losses = Losses::default();
        for loss in Loss::ALL {
            let set = LossSet::of(*loss);
            assert_eq!(set.iter().collect::<Vec<_>>(), [*loss]);
            losses.count_set(set | LossSet::of(Loss::Metadata));
        }
        assert_eq!(losses.get(Loss::Metadata), Loss::COUNT as u64);
        assert_eq!(losses.total(), 2 * Loss::COUNT as u64 - 1);
    }
}
