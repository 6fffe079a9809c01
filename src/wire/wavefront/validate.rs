//! The proxy's rules for a point: which names, tags and values it takes, and the code under which it refuses the others.
//!
//! Lengths are UTF-16 code units, as Java counts them. The rules about the series are asked once per series
//! ([`validate_series`]), those about the value once per sample ([`validate_value`], [`validate_centroids`]).

use super::token::is_blank;
use crate::model::{Centroid, Refusal};
use std::fmt;

/// Longest key and value of a tag together, whatever the other limits say.
pub const TAG_LENGTH_MAX: usize = 254;

/// How long and how many the parts of a point may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Length of a point's name.
    pub metric_length_max: usize,
    /// Length of a distribution's name.
    pub histogram_length_max: usize,
    /// Length of the source.
    pub source_length_max: usize,
    /// Tags, the source not counted.
    pub tags_max: usize,
    /// Length of a tag's key.
    pub key_length_max: usize,
    /// Length of a tag's value.
    pub value_length_max: usize,
}

impl Limits {
    /// What the proxy takes when its backend has not told it otherwise.
    pub const PROXY: Self = Self {
        metric_length_max: 1023,
        histogram_length_max: 1023,
        source_length_max: 1023,
        tags_max: 100,
        key_length_max: 253,
        value_length_max: 255,
    };
    /// What the vendor's service tells its proxies.
    pub const SAAS: Self = Self {
        metric_length_max: 256,
        histogram_length_max: 256,
        source_length_max: 128,
        tags_max: 20,
        key_length_max: 64,
        value_length_max: 255,
    };
}

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $variant:ident = $code:literal, $refusal:ident, $message:literal;)+) => {
        /// Why the proxy refuses a point.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Violation { $($(#[doc = $doc])+ $variant,)+ }

        impl Violation {
            /// The proxy's code.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)+ }
            }

            /// The reason under which it is counted here.
            pub const fn refusal(self) -> Refusal {
                match self { $(Self::$variant => Refusal::$refusal,)+ }
            }

            const fn message(self) -> &'static str {
                match self { $(Self::$variant => $message,)+ }
            }
        }
    };
}

codes! {
    /// A character that names do not have.
    NameCharacter = "WF-400", InvalidName, "the name has a character other than A-Z a-z 0-9 , . - _ / (or ~ ∆ in front)";
    /// A character that tag keys do not have.
    KeyCharacter = "WF-401", InvalidLabel, "a tag key has a character other than A-Z a-z 0-9 , . - _ / (or ~ ∆ in front)";
    /// A delta counter that does not count up.
    DeltaNotPositive = "WF-404", InvalidValue, "the value of a delta counter is not above zero";
    /// A distribution of nothing.
    EmptyDistribution = "WF-405", InvalidHistogram, "the distribution has no centroid with a count above zero";
    /// No source.
    SourceBlank = "WF-406", InvalidLabel, "the source is blank";
    /// A long source.
    SourceLength = "WF-407", TooLong, "the source is too long";
    /// A long name of a point.
    MetricLength = "WF-408", TooLong, "the metric name is too long";
    /// A long name of a distribution.
    HistogramLength = "WF-409", TooLong, "the histogram name is too long";
    /// Many tags.
    TagCount = "WF-410", TooLong, "there are too many tags";
    /// A long tag.
    TagLength = "WF-411", TooLong, "a tag's key and value together are longer than 254";
    /// A long tag key.
    KeyLength = "WF-412", TooLong, "a tag key is too long";
    /// A long tag value.
    ValueLength = "WF-413", TooLong, "a tag value is too long";
    /// A tag without value.
    ValueBlank = "WF-414", InvalidLabel, "a tag value is blank";
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code(), self.message())
    }
}

impl std::error::Error for Violation {}

/// What a line is about, with the limit of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A metric line.
    Point,
    /// A histogram line.
    Distribution,
}

/// Judges what names a series.
pub fn validate_series<K: AsRef<str>, V: AsRef<str>>(
    kind: Kind,
    name: &str,
    source: &str,
    tags: &[(K, V)],
    limits: &Limits,
) -> Result<(), Violation> {
    let (name_length_max, too_long) = match kind {
        Kind::Point => (limits.metric_length_max, Violation::MetricLength),
        Kind::Distribution => (limits.histogram_length_max, Violation::HistogramLength),
    };
    refuse_if(is_all_blank(source), Violation::SourceBlank)?;
    refuse_if(utf16_length(source) > limits.source_length_max, Violation::SourceLength)?;
    refuse_if(utf16_length(name) > name_length_max, too_long)?;
    refuse_if(!is_legal_name(name), Violation::NameCharacter)?;
    refuse_if(tags.len() > limits.tags_max, Violation::TagCount)?;
    tags.iter().try_for_each(|(key, value)| validate_tag(key.as_ref(), value.as_ref(), limits))
}

fn validate_tag(key: &str, value: &str, limits: &Limits) -> Result<(), Violation> {
    let (key_length, value_length) = (utf16_length(key), utf16_length(value));
    refuse_if(is_all_blank(value), Violation::ValueBlank)?;
    refuse_if(!is_legal_name(key), Violation::KeyCharacter)?;
    refuse_if(key_length + value_length > TAG_LENGTH_MAX, Violation::TagLength)?;
    refuse_if(key_length > limits.key_length_max, Violation::KeyLength)?;
    refuse_if(value_length > limits.value_length_max, Violation::ValueLength)
}

/// Judges the value of a point. NaN and the infinities pass, as they pass the proxy.
#[inline]
pub fn validate_value(is_delta: bool, value: f64) -> Result<(), Violation> {
    refuse_if(is_delta && value <= 0.0, Violation::DeltaNotPositive)
}

/// Judges the value of a distribution.
pub fn validate_centroids(centroids: &[Centroid]) -> Result<(), Violation> {
    refuse_if(centroids.iter().all(|centroid| centroid.count == 0), Violation::EmptyDistribution)
}

#[inline]
fn refuse_if(broken: bool, violation: Violation) -> Result<(), Violation> {
    if broken { Err(violation) } else { Ok(()) }
}

/// Whether a name (or key) keeps to the alphabet, the marks in front (`∆`, `~`) included.
pub fn is_legal_name(name: &str) -> bool {
    let (marks, rest) = split_marks(name);
    // A lone `~` passes the proxy, a lone `∆` does not.
    (!rest.is_empty() || marks.ends_with('~')) && rest.bytes().all(is_legal_byte)
}

/// Whether the name is a delta counter's.
pub fn is_delta_name(name: &str) -> bool {
    name.starts_with(['∆', 'Δ'])
}

/// The marks in front of a name, and the name.
pub(super) fn split_marks(name: &str) -> (&str, &str) {
    let rest = name.strip_prefix(['∆', 'Δ']).unwrap_or(name);
    let rest = rest.strip_prefix('~').unwrap_or(rest);
    name.split_at(name.len() - rest.len())
}

pub(super) const fn is_legal_byte(byte: u8) -> bool {
    matches!(byte, b',' | b'-' | b'.' | b'/' | b'_' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z')
}

/// Whether there is nothing to see in it.
pub(super) fn is_all_blank(text: &str) -> bool {
    text.chars().all(is_blank)
}

pub(super) fn utf16_length(text: &str) -> usize {
    if text.is_ascii() { text.len() } else { text.encode_utf16().count() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_stand_only_in_front() {
        for name in ["a", "9", "~a", "∆a", "Δa", "∆~a", "Δ~a", "~", "∆~", "a,b/c-d_e.f"] {
            assert!(is_legal_name(name), "{name}");
        }
        for name in ["", "∆", "Δ", "~~a", "~∆a", "∆∆a", "a~", "a∆b", "a b", "a:b", "é"] {
            assert!(!is_legal_name(name), "{name}");
        }
    }

    #[test]
    fn each_limit_holds_to_the_last_code_unit() {
        let limits = Limits::SAAS;
        let judge = |kind, name: usize, source: usize, key: usize, value: &str| {
            let tags = [("k".repeat(key), value.to_owned())];
            validate_series(kind, &"n".repeat(name), &"s".repeat(source), &tags, &limits).err().map(Violation::code)
        };
        let cases = [
            (judge(Kind::Point, 256, 128, 64, &"v".repeat(190)), None),
            (judge(Kind::Point, 257, 128, 1, "v"), Some("WF-408")),
            (judge(Kind::Distribution, 257, 128, 1, "v"), Some("WF-409")),
            (judge(Kind::Point, 1, 129, 1, "v"), Some("WF-407")),
            (judge(Kind::Point, 1, 0, 1, "v"), Some("WF-406")),
            (judge(Kind::Point, 1, 1, 64, &"v".repeat(191)), Some("WF-411")),
            (judge(Kind::Point, 1, 1, 65, "v"), Some("WF-412")),
            (judge(Kind::Point, 1, 1, 1, " \t"), Some("WF-414")),
            (judge(Kind::Point, 1, 1, 2, &"😀".repeat(126)), None),
            (judge(Kind::Point, 1, 1, 3, &"😀".repeat(126)), Some("WF-411")),
        ];
        for (index, (found, expected)) in cases.into_iter().enumerate() {
            assert_eq!(found, expected, "case {index}");
        }
    }
}
