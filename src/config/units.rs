//! Durations and sizes as written in configuration.
//!
//! * Durations are Prometheus's: `1h30m`, `100ms`, `0`; whole numbers, units `y w d h m s ms` each at most once and from
//!   large to small, at most 292 years.
//! * Sizes are a whole number of bytes with an optional unit: `kB KB MB GB TB` are powers of 1000, `KiB MiB GiB TiB`
//!   powers of 1024. Prometheus reads `KB` as 1024; here the letters mean what they say.

use nom::branch::alt;
use nom::bytes::complete::tag;
use nom::character::complete::{space0, u64 as number};
use nom::combinator::{all_consuming, opt, value};
use nom::multi::many1;
use nom::sequence::{pair, separated_pair};
use nom::{IResult, Parser};
use std::time::Duration;

/// What a duration looks like, for messages.
pub(crate) const DURATION: &str = "a duration such as 30s, 1m30s or 100ms";
/// What a size looks like, for messages.
pub(super) const SIZE: &str = "a size such as 10GiB, 512MiB, 2GB or 1000";

/// Prometheus's durations are nanoseconds in an i64.
const DURATION_MS_MAX: u64 = i64::MAX as u64 / 1_000_000;

/// Reads a duration of Prometheus.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let (_, parts) = all_consuming(many1(pair(number, duration_unit))).parse(text).ok()?;
    let mut total = 0_u64;
    let mut unit_before = u64::MAX;
    for (count, unit) in parts {
        if unit >= unit_before {
            return None;
        }
        unit_before = unit;
        total = total.checked_add(count.checked_mul(unit)?)?;
    }
    (total <= DURATION_MS_MAX).then(|| Duration::from_millis(total))
}

/// A unit's milliseconds.
fn duration_unit(input: &str) -> IResult<&str, u64> {
    const DAY: u64 = 24 * 3_600_000;
    alt((
        value(1, tag("ms")),
        value(1_000, tag("s")),
        value(60_000, tag("m")),
        value(3_600_000, tag("h")),
        value(DAY, tag("d")),
        value(7 * DAY, tag("w")),
        value(365 * DAY, tag("y")),
    ))
    .parse(input)
}

/// Reads a size in bytes.
pub(super) fn size(text: &str) -> Option<u64> {
    let (_, (count, unit)) =
        all_consuming(separated_pair(number::<&str, nom::error::Error<&str>>, space0, opt(size_unit)))
            .parse(text)
            .ok()?;
    count.checked_mul(unit.unwrap_or(1))
}

/// A unit's bytes.
fn size_unit(input: &str) -> IResult<&str, u64> {
    alt((
        value(1, tag("B")),
        value(1_000, alt((tag("kB"), tag("KB")))),
        value(1_000_000, tag("MB")),
        value(1_000_000_000, tag("GB")),
        value(1_000_000_000_000, tag("TB")),
        value(1 << 10, tag("KiB")),
        value(1 << 20, tag("MiB")),
        value(1 << 30, tag("GiB")),
        value(1 << 40, tag("TiB")),
    ))
    .parse(input)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_durations_of_prometheus() {
        for (text, milliseconds) in [
            ("0", 0),
            ("0s", 0),
            ("100ms", 100),
            ("30s", 30_000),
            ("1m30s", 90_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("1d2h", 93_600_000),
            ("2w", 1_209_600_000),
            ("1y1w1d1h1m1s1ms", 32_230_861_001),
        ] {
            assert_eq!(duration(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_duration() {
        for text in
            ["", "5", "s", "-1s", "1.5h", "1s1m", "1m1m", "1 s", " 1s", "1S", "300y", "99999999999999999999s", "1ms1s"]
        {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn reads_sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("1000", 1000),
            ("10B", 10),
            ("2kB", 2000),
            ("2KB", 2000),
            ("2GB", 2_000_000_000),
            ("1TB", 1_000_000_000_000),
            ("64KiB", 65_536),
            ("512MiB", 536_870_912),
            ("10GiB", 10_737_418_240),
            ("10 GiB", 10_737_418_240),
            ("1TiB", 1_099_511_627_776),
        ] {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_size() {
        for text in ["", "GiB", "-1", "1.5GiB", "10gib", "10G", "10GiBs", "99999999999TiB", "18446744073709551616"] {
            assert_eq!(size(text), None, "{text}");
        }
    }
}
