//! Small answers, and warnings that do not flood the log.

use crate::wire::Report;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// When to come again after a refusal that does not come from the log.
pub(super) const COME_AGAIN: Duration = Duration::from_secs(2);

/// A response with its whole body.
pub(super) type Answer = Response<Full<Bytes>>;

/// An answer without a body.
pub(super) fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = status;
    answer
}

/// An answer for people.
pub(super) fn text(status: StatusCode, message: &str) -> Answer {
    with_type(status, "text/plain; charset=utf-8", format!("{message}\n"))
}

/// An answer for programs.
pub(super) fn json(status: StatusCode, value: &serde_json::Value) -> Answer {
    with_type(status, "application/json", format!("{value}\n"))
}

fn with_type(status: StatusCode, content_type: &'static str, body: String) -> Answer {
    let mut answer = Response::new(Full::from(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

/// 405, naming the methods that would do.
pub(super) fn wrong_method(allowed: &'static str) -> Answer {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, &format!("use {allowed}"));
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    answer
}

/// The refusals of a report as lines `line N column M: reason`; those beyond the first ones as a number.
pub(super) fn refusals(report: &Report, place: &str) -> Vec<String> {
    let mut lines: Vec<_> = report
        .first
        .iter()
        .map(|refused| match refused.column {
            0 => format!("{place} {}: {}", refused.line, refused.message),
            column => format!("{place} {} column {column}: {}", refused.line, refused.message),
        })
        .collect();
    if report.refused() > lines.len() as u64 {
        lines.push(format!("{} samples refused in all, {} taken", report.refused(), report.accepted));
    }
    lines
}

/// The answer with the seconds, rounded up, after which its sender may come again.
pub(super) fn come_again(mut answer: Answer, after: Duration) -> Answer {
    let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
    answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    answer
}

/// Lets something through once in a while, for warnings that a sender could cause a thousand times a second.
#[derive(Debug)]
pub(super) struct Seldom(AtomicI64);

impl Default for Seldom {
    fn default() -> Self {
        Self(AtomicI64::new(i64::MIN))
    }
}

impl Seldom {
    const EVERY_NS: i64 = 10_000_000_000;

    /// Whether the last time was long enough ago.
    pub(super) fn now(&self) -> bool {
        let now = crate::clock::now();
        let last = self.0.load(Ordering::Relaxed);
        now.saturating_sub(last) >= Self::EVERY_NS
            && self.0.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}
