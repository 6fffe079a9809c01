//! The unit of a body's timestamps: its name in a request to the unit, a number of it to nanoseconds.

use crate::model::TimestampNs;

/// The unit of the timestamps in a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Precision {
    /// 10^-9 s, the format's own.
    #[default]
    Nanoseconds,
    /// 10^-6 s.
    Microseconds,
    /// 10^-3 s.
    Milliseconds,
    /// 1 s.
    Seconds,
    /// 60 s.
    Minutes,
    /// 3600 s.
    Hours,
    /// Guessed for each line by the magnitude, as InfluxDB 3 does: below 5·10^9 seconds, below 5·10^12 milliseconds, below
    /// 5·10^15 microseconds, else nanoseconds. Right for times from 1970-02-27 to 2128, whatever their unit.
    Auto,
}

impl Precision {
    /// The `precision` parameter of InfluxDB 1's `/write`.
    pub fn from_v1(text: &str) -> Option<Self> {
        Some(match text {
            "n" | "ns" => Self::Nanoseconds,
            "u" | "us" | "µ" | "µs" => Self::Microseconds,
            "ms" => Self::Milliseconds,
            "s" => Self::Seconds,
            "m" => Self::Minutes,
            "h" => Self::Hours,
            _ => return None,
        })
    }

    /// The `precision` parameter of InfluxDB 2's `/api/v2/write`.
    pub fn from_v2(text: &str) -> Option<Self> {
        Some(match text {
            "ns" => Self::Nanoseconds,
            "us" => Self::Microseconds,
            "ms" => Self::Milliseconds,
            "s" => Self::Seconds,
            _ => return None,
        })
    }

    /// The `precision` parameter of InfluxDB 3's `/api/v3/write_lp`.
    pub fn from_v3(text: &str) -> Option<Self> {
        Some(match text {
            "nanosecond" => Self::Nanoseconds,
            "microsecond" => Self::Microseconds,
            "millisecond" => Self::Milliseconds,
            "second" => Self::Seconds,
            "auto" => Self::Auto,
            short => return Self::from_v2(short),
        })
    }

    /// A timestamp of this unit in nanoseconds, if it fits.
    #[inline]
    pub(super) fn to_nanoseconds(self, timestamp: i64) -> Option<TimestampNs> {
        timestamp.checked_mul(match self {
            Self::Nanoseconds => 1,
            Self::Microseconds => 1_000,
            Self::Milliseconds => 1_000_000,
            Self::Seconds => 1_000_000_000,
            Self::Minutes => 60_000_000_000,
            Self::Hours => 3_600_000_000_000,
            Self::Auto => match timestamp.unsigned_abs() {
                0..5_000_000_000 => 1_000_000_000,
                5_000_000_000..5_000_000_000_000 => 1_000_000,
                5_000_000_000_000..5_000_000_000_000_000 => 1_000,
                5_000_000_000_000_000.. => 1,
            },
        })
    }
}
