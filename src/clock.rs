//! The only place that reads the clocks of the machine.
//!
//! Everything below the sockets takes the time as an argument, so tests own it. Tasks that wait use `tokio::time`, which
//! tests can pause.

use crate::model::TimestampNs;
use std::time::{Duration, Instant, SystemTime};

/// Wall-clock time as nanoseconds since the Unix epoch.
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn now() -> TimestampNs {
    match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |ns| -ns),
    }
}

/// A point on the monotonic clock, for measuring spans.
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn monotonic() -> Instant {
    Instant::now()
}

/// Age of `then` as seen at `now`, zero when `then` lies in the future.
pub fn age(now: TimestampNs, then: TimestampNs) -> Duration {
    Duration::from_nanos(u64::try_from(now.saturating_sub(then)).unwrap_or(0))
}
