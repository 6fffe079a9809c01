//! Prometheus remote write as a destination: headers and the meaning of its answers.
//!
//! Specifications: <https://prometheus.io/docs/specs/prw/remote_write_spec/> and `.../remote_write_spec_2_0/`.

pub mod series;

use super::verdict::{Answer, Refused, Verdict};
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

/// The protocol versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// 1.0: `prometheus.WriteRequest`.
    V1,
    /// 2.0: `io.prometheus.write.v2.Request`.
    V2,
}

/// What may follow a 2.0 request that a 1.0 receiver could not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// Speak 1.0 from then on.
    Allowed,
    /// The configuration insists on the version.
    Forbidden,
}

/// The headers every request carries.
pub fn headers(version: Version) -> HeaderMap {
    let (content_type, number) = match version {
        Version::V1 => ("application/x-protobuf", "0.1.0"),
        Version::V2 => ("application/x-protobuf;proto=io.prometheus.write.v2.Request", "2.0.0"),
    };
    HeaderMap::from_iter([
        (CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (CONTENT_ENCODING, HeaderValue::from_static("snappy")),
        (HeaderName::from_static("x-prometheus-remote-write-version"), HeaderValue::from_static(number)),
    ])
}

/// What an answer means.
///
/// * 4xx "MUST NOT be retried", except 429, which may ([`retry_on_429`](super::lane)). A 400 may have stored the valid
///   part: 2.0 says how much of it, for 1.0 a search shows what is refused.
/// * One deviation from that MUST NOT: a 4xx that says nothing of the samples is repeated, seldom
///   ([`Verdict::Misconfigured`]; 408 and 425 as what passes). The rule is there so that a sample which can never be taken
///   does not hold up the others. These answers come from a mistyped URL, an expired token, a receiver that is not switched
///   on, and to drop what was acknowledged to a client because of a typing mistake is loss.
/// * 415 to a 2.0 request, or success without any `Written` header, is a receiver that only knows 1.0: one to speak 1.0 to,
///   or a mistake of configuration where it insists on 2.0.
pub fn verdict(version: Version, fallback: Fallback, samples: u64, retry_on_429: bool, answer: &Answer) -> Verdict {
    let older = match fallback {
        Fallback::Allowed => Verdict::OlderVersion,
        Fallback::Forbidden => Verdict::Misconfigured { after: answer.retry_after },
    };
    match (answer.status, version) {
        (200..=299, Version::V2) => match answer.written {
            None if samples > 0 => older,
            Some(written) if written < samples => Verdict::Refused(Refused::Samples(samples - written)),
            _ => Verdict::Delivered,
        },
        (415, Version::V2) => older,
        (400, Version::V2) => match answer.written {
            Some(written) if written > 0 => Verdict::Refused(Refused::Samples(samples.saturating_sub(written))),
            // Prometheus before 2.0 answers 400 to a body it cannot read.
            None if fallback == Fallback::Allowed => Verdict::OlderVersion,
            _ => Verdict::in_general(answer),
        },
        (429, _) if !retry_on_429 => Verdict::Refused(Refused::All),
        _ => Verdict::in_general(answer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn judge(version: Version, fallback: Fallback, status: u16, written: Option<u64>) -> Verdict {
        let answer = Answer { status, written, retry_after: Some(Duration::from_secs(7)), body: String::new() };
        verdict(version, fallback, 10, true, &answer)
    }

    #[test]
    fn every_status_of_version_1_has_one_meaning() {
        for status in 100..=599 {
            let expected = match status {
                200..=299 => Verdict::Delivered,
                400 | 409 | 422 => Verdict::Suspect,
                413 => Verdict::TooLarge,
                408 | 425 | 429 | 500..=599 => Verdict::Retry { after: Some(Duration::from_secs(7)) },
                _ => Verdict::Misconfigured { after: Some(Duration::from_secs(7)) },
            };
            assert_eq!(judge(Version::V1, Fallback::Forbidden, status, None), expected, "{status}");
        }
    }

    #[test]
    fn version_2_counts_what_was_written() {
        use Fallback::{Allowed, Forbidden};
        let cases = [
            (204, Some(10), Allowed, Verdict::Delivered),
            (204, Some(7), Allowed, Verdict::Refused(Refused::Samples(3))),
            (204, None, Allowed, Verdict::OlderVersion),
            (204, None, Forbidden, Verdict::Misconfigured { after: Some(Duration::from_secs(7)) }),
            (415, None, Allowed, Verdict::OlderVersion),
            (415, None, Forbidden, Verdict::Misconfigured { after: Some(Duration::from_secs(7)) }),
            (400, Some(9), Allowed, Verdict::Refused(Refused::Samples(1))),
            (400, Some(0), Allowed, Verdict::Suspect),
            (400, None, Allowed, Verdict::OlderVersion),
            (400, None, Forbidden, Verdict::Suspect),
            (404, None, Allowed, Verdict::Misconfigured { after: Some(Duration::from_secs(7)) }),
            (503, None, Allowed, Verdict::Retry { after: Some(Duration::from_secs(7)) }),
        ];
        for (status, written, fallback, expected) in cases {
            assert_eq!(judge(Version::V2, fallback, status, written), expected, "{status} {written:?} {fallback:?}");
        }
    }

    #[test]
    fn a_request_without_samples_needs_no_count_of_them() {
        for fallback in [Fallback::Allowed, Fallback::Forbidden] {
            assert_eq!(verdict(Version::V2, fallback, 0, true, &Answer::status(204)), Verdict::Delivered);
        }
    }

    #[test]
    fn too_many_requests_are_final_where_the_configuration_says_so() {
        assert_eq!(
            verdict(Version::V1, Fallback::Forbidden, 1, false, &Answer::status(429)),
            Verdict::Refused(Refused::All)
        );
    }
}
