//! The closed list of why an input's sample was not taken.

macro_rules! refusals {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// Why a sample (or a whole request) was refused: the `reason` of `sluicegate_samples_rejected_total`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Refusal { $($(#[doc = $doc])+ $variant,)+ }

        impl Refusal {
            /// Every reason, in the order of their discriminants.
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

refusals! {
    /// The line or message breaks the format's grammar.
    Syntax = "syntax",
    /// Bytes that are not UTF-8.
    InvalidUtf8 = "invalid_utf8",
    /// No metric name.
    MissingName = "missing_name",
    /// A metric or measurement name that the format forbids.
    InvalidName = "invalid_name",
    /// A label or tag that the format forbids.
    InvalidLabel = "invalid_label",
    /// One label name twice.
    DuplicateLabel = "duplicate_label",
    /// A value that does not parse or does not fit.
    InvalidValue = "invalid_value",
    /// A timestamp that does not parse or does not fit nanoseconds in 64 bits.
    InvalidTimestamp = "invalid_timestamp",
    /// A series or line without any value.
    NoValue = "no_value",
    /// A native histogram or distribution that contradicts itself.
    InvalidHistogram = "invalid_histogram",
    /// An exemplar that the format forbids.
    InvalidExemplar = "invalid_exemplar",
    /// A reference outside of the symbol table of remote write 2.0.
    InvalidReference = "invalid_reference",
    /// A family declared in a way the format forbids (type twice, samples of another family in between).
    InvalidMetadata = "invalid_metadata",
    /// A name, tag or line beyond the format's or the gateway's limit.
    TooLong = "too_long",
    /// A kind of data that is not metrics (Wavefront events, spans, source tags).
    Unsupported = "unsupported",
    /// More labels than the gateway's limit.
    TooManyLabels = "too_many_labels",
    /// No room for a new series: the table is full, or its source has as many as it may.
    SeriesLimit = "series_limit",
    /// The body does not decompress or ends early; its samples cannot be told apart and are counted as one.
    Body = "body",
    /// A line of a request that asked for all or nothing, refused because of another.
    AllOrNothing = "all_or_nothing",
    /// Too much is in flight, or the process is near its limit of memory.
    Memory = "memory",
    /// The decoder met a bug of the gateway's; the samples cannot be told apart and are counted as one.
    Bug = "bug",
    /// A series as another version of remote write writes it than the one its request names: it cannot be read, and is
    /// counted as one.
    OtherVersion = "other_version",
    /// A series that another application, which is connected still, has brought already.
    DuplicateSeries = "duplicate_series",
    /// The log takes no more.
    Log = "log",
}
