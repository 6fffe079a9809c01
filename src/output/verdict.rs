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
}

/// How a destination tells what it did not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
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
    /// The destination kept the rest and says how much it refused for good.
    PartlyRefused(Refused),
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
    /// Something in the request is refused for good: halves show what.
    Suspect,
    /// The request is refused for good, whatever is in it.
    Refused,
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
