//! What the answer of a destination means for the samples it was given.

use std::time::Duration;

/// The part of an HTTP answer that decisions are made from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// `Retry-After`, seconds or a date, as the time left.
    pub retry_after: Option<Duration>,
    /// `X-Prometheus-Remote-Write-Samples-Written` and `-Histograms-Written` together, if present.
    pub written: Option<u64>,
    /// The body, cut to [`super::transport::ANSWER_BYTES_MAX`].
    pub body: String,
}

impl Answer {
    /// An answer with that status and nothing else.
    pub fn status(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    /// Whether its text is about samples, so that it comes from somebody who read some. Only prose counts: paths, queries and
    /// other quotations of the request are single words here, whatever stands in them.
    pub fn speaks_of_samples(&self) -> bool {
        let ends_word = |character: char| character.is_whitespace() || "\"'`()[]{},;:".contains(character);
        let text = self.body.to_lowercase();
        let words: Vec<_> = text.split(ends_word).map(|word| word.trim_end_matches(['.', '!'])).collect();
        let prose = words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
        let prose = format!(" {prose} ");
        OF_SAMPLES.iter().any(|phrase| prose.contains(&format!(" {phrase} ")))
    }
}

/// What receivers say of samples that they refuse: Prometheus, Mimir, Cortex, Thanos, InfluxDB. None of it is said of a
/// request that came to the wrong place; so `line`, `field` and `timestamp` are not here.
const OF_SAMPLES: &[&str] = &[
    "sample",
    "samples",
    "series",
    "out of order",
    "out of bounds",
    "too old",
    "too far in the future",
    "label name",
    "label names",
    "label value",
    "metric name",
    "type conflict",
    "partial write",
    "beyond retention policy",
    "writing requires points",
];

/// How a destination tells what it did not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// All of it, and not for what is in it.
    All,
    /// That many samples, as the destination counts them ([`crate::wire::Cut`]).
    Samples(u64),
    /// That many lines for the reason it tells, without saying which; lines that it refused for another are not counted.
    Lines(u64),
    /// The lines with these numbers, from 1.
    LineNumbers(Vec<u64>),
    /// The lines it quotes, without a number.
    Quoted,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All samples of the request are the destination's now.
    Delivered,
    /// The destination refused so much of it for good and kept the rest.
    Refused(Refused),
    /// The same request may succeed later, not before the destination's own delay if it gave one.
    Retry {
        /// The delay the destination asked for.
        after: Option<Duration>,
    },
    /// The request did not get past the destination's door: a mistake of configuration (address, credentials, database). The
    /// samples wait until somebody mends it, and the request is repeated seldom.
    Misconfigured {
        /// The delay the destination asked for.
        after: Option<Duration>,
    },
    /// The request is too large as a whole: halves may pass.
    TooLarge,
    /// Something in the request is refused for good, halves show what; or the request came to the wrong place.
    Suspect,
    /// The destination does not speak this version of the protocol; an earlier one may do.
    OlderVersion,
}

impl Verdict {
    /// The verdict that servers in general mean by a status, where the destination has no rule of its own:
    ///
    /// * success is delivery; 408, 425, 429 and 5xx pass; 413 is size;
    /// * 400, 409 and 422 are something in the request, and a search shows what;
    /// * everything else (401, 403, 404, 415, a redirect that was not followed) says nothing of the samples: it is a mistake
    ///   of configuration.
    pub fn in_general(answer: &Answer) -> Self {
        let after = answer.retry_after;
        match answer.status {
            200..=299 => Self::Delivered,
            413 => Self::TooLarge,
            400 | 409 | 422 => Self::Suspect,
            408 | 425 | 429 | 500..=599 => Self::Retry { after },
            _ => Self::Misconfigured { after },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_speaks_of_samples_in_prose_and_not_in_what_it_quotes_of_the_request() {
        let cases = [
            ("out of order sample", true),
            ("out of bounds", true),
            ("Out of Bounds.", true),
            ("too old sample", true),
            ("Out of order sample for series {__name__=\"up\"}.", true),
            ("label name \"a\" is not unique: invalid sample", true),
            ("user=1: err: duplicate sample for timestamp. (err-mimir-sample-duplicate-timestamp)", true),
            ("store locally for endpoint : add 1 series: out of order samples", true),
            (r#"{"error":"partial write: points beyond retention policy dropped=1"}"#, true),
            (r#"{"error":"field type conflict: input field \"v\" on measurement \"m\" is type float"}"#, true),
            (r#"{"code":"invalid","message":"writing requires points"}"#, true),
            ("", false),
            ("no", false),
            ("Bad Request", false),
            // VictoriaMetrics on a mistyped path.
            (
                "remoteAddr: \"127.0.0.1:1\"; requestURI: /api/v1/series?db=samples&x=series; unsupported path requested: \"/api/v1/series\"",
                false,
            ),
            ("<html><body><h1>400 The plain HTTP request was sent to HTTPS port</h1></body></html>", false),
            (
                "{ \"timestamp\" : \"2026-11-22\", \"status\" : 400, \"error\" : \"Bad Request\", \"path\" : \"/series\" }",
                false,
            ),
            ("invalid character at line 1 column 1: missing field query", false),
            ("cannot decompress request with length 7: snappy: corrupt input", false),
            ("no resampling of timeseries", false),
        ];
        for (text, expected) in cases {
            let answer = Answer { body: text.to_owned(), ..Answer::status(400) };
            assert_eq!(answer.speaks_of_samples(), expected, "{text}");
        }
    }
}
