//! What the answer of a destination means for the samples it was given.

use crate::wire::Cut;
use std::collections::BTreeSet;
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
    /// That many samples.
    Samples(u64),
    /// That many lines, without saying which.
    Lines(u64),
    /// The lines with these numbers, from 1.
    LineNumbers(Vec<u64>),
}

impl Refused {
    /// The samples that were refused, of a request whose pieces have so many samples each. None when the answer does not
    /// tell: some of several lines with different numbers of samples.
    pub fn samples(&self, pieces: &[Cut]) -> Option<u64> {
        let total = samples_of(pieces);
        match self {
            Self::Samples(samples) => Some((*samples).min(total)),
            Self::Lines(lines) if *lines >= pieces.len() as u64 => Some(total),
            Self::Lines(lines) => {
                let each = pieces.first()?.samples;
                pieces.iter().all(|piece| piece.samples == each).then(|| lines * u64::from(each))
            }
            Self::LineNumbers(numbers) => {
                let distinct: BTreeSet<_> = numbers.iter().collect();
                let piece = |number: &u64| pieces.get(usize::try_from(number.checked_sub(1)?).ok()?);
                distinct.into_iter().map(|number| piece(number).map(|piece| u64::from(piece.samples))).sum()
            }
        }
    }
}

/// Samples in pieces of a body.
pub fn samples_of(pieces: &[Cut]) -> u64 {
    pieces.iter().map(|piece| u64::from(piece.samples)).sum()
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
    /// The verdict that servers in general mean by a status, where the destination has no rule of its own: success is
    /// delivery, 408, 425, 429 and 5xx pass, 413 is size, everything else is final. A redirect that was not followed took
    /// nothing and is mended in the configuration, so the samples wait.
    pub fn in_general(answer: &Answer) -> Self {
        match answer.status {
            200..=299 => Self::Delivered,
            413 => Self::TooLarge,
            300..=399 | 408 | 425 | 429 | 500..=599 => Self::Retry { after: answer.retry_after },
            _ => Self::Refused,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_samples_are_known_exactly_or_not_at_all() {
        let pieces =
            |samples: &[u32]| -> Vec<_> { samples.iter().map(|samples| Cut { end: 0, samples: *samples }).collect() };
        let cases = [
            (Refused::Samples(2), vec![3, 1], Some(2)),
            (Refused::Samples(9), vec![3, 1], Some(4)),
            (Refused::Lines(2), vec![3, 1], Some(4)),
            (Refused::Lines(1), vec![3, 1], None),
            (Refused::Lines(2), vec![3, 3, 3], Some(6)),
            (Refused::LineNumbers(vec![3, 1, 3]), vec![1, 2, 4], Some(5)),
            (Refused::LineNumbers(vec![4]), vec![1, 2, 4], None),
            (Refused::LineNumbers(vec![0]), vec![1, 2, 4], None),
        ];
        for (refused, samples, expected) in cases {
            assert_eq!(refused.samples(&pieces(&samples)), expected, "{refused:?} of {samples:?}");
        }
    }
}
