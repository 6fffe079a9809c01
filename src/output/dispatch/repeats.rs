//! Sums that are said again while their senders are silent between two steps.
//!
//! Micrometer tells deltas once a step, a minute by default, and who reads the sums asks for their rate over the last minute:
//! one sample in that time is none. So a sum is said again every [`INTERVAL`], at the time at which its sender would have measured
//! it, and never at or behind the time of the sender's next sample, since a destination takes no sample that is older than the last.
//!
//! Of a timer that is told as distributions, a minute without values is not told at all. Its sums are said again for as long as a
//! pause can be a step ([`STEP_MAX`]).
//!
//! Nothing is kept over a restart: repeats begin with the next sample of each series.

use crate::model::{IdTable, Restated, SeriesId, TimestampNs};
use std::time::Duration;

/// Time between two samples of a sum.
pub(super) const INTERVAL: Duration = Duration::from_secs(15);
/// How late the sample of a sender may arrive without meeting a repeat of its own time.
const SLACK: Duration = Duration::from_secs(5);
/// How often it is looked what is due.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// Steps without a sample after which a sum is forgotten.
const STEPS_SILENT_MAX: i64 = 10;
/// The longest step; a longer pause is none.
const STEP_MAX: i64 = 600 * 1_000_000_000;

const INTERVAL_NS: i64 = INTERVAL.as_nanos() as i64;
const SLACK_NS: i64 = SLACK.as_nanos() as i64;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    sums: IdTable<Sum>,
}

#[derive(Clone, Copy, Debug)]
struct Sum {
    said_again: Restated,
    /// When its sender measured it.
    measured: TimestampNs,
    /// The time of the sample sent last.
    said: TimestampNs,
    /// Time between the sender's samples.
    step: i64,
    /// How much later than measured it came here.
    lag: i64,
}

impl Repeats {
    /// Takes the sample of a sender up that tells something in each step, or of one that does so at times. False when a repeat of a later time was sent already: the sum is said by the next.
    pub(super) fn note(
        &mut self,
        id: SeriesId,
        measured: TimestampNs,
        arrived: TimestampNs,
        step: Option<Duration>,
        sum: Restated,
    ) -> bool {
        let lag = arrived.saturating_sub(measured);
        let is_steady = step.is_some();
        let step = step.and_then(|step| i64::try_from(step.as_nanos()).ok()).unwrap_or(STEP_MAX).min(STEP_MAX);
        let fresh = Sum { said_again: sum, measured, said: TimestampNs::MIN, step, lag };
        let known = self.sums.get_or_insert_with(id, || fresh);
        let since = measured.saturating_sub(known.measured);
        let step = if is_steady && (1..=STEP_MAX).contains(&since) { since } else { known.step };
        // The same sample again, as a sender that tries again or an output that starts again sends it, says the same.
        let is_in_time = measured > known.said || measured == known.measured;
        let said = known.said.max(measured);
        *known = Sum { said, step, ..fresh };
        is_in_time
    }

    /// What is to be said again now, and at what time.
    pub(super) fn due(&mut self, now: TimestampNs) -> Vec<(SeriesId, TimestampNs, Restated)> {
        let mut due = Vec::new();
        self.sums.retain(|id, sum| {
            let sender_now = now.saturating_sub(sum.lag);
            let next = sum.said.saturating_add(INTERVAL_NS);
            let end = sum.measured.saturating_add(sum.step).saturating_sub(SLACK_NS);
            if next < end && next.saturating_add(SLACK_NS) <= sender_now {
                sum.said = next;
                due.push((id, next, sum.said_again));
            }
            sender_now.saturating_sub(sum.measured) < sum.step.saturating_mul(STEPS_SILENT_MAX)
        });
        due
    }

    /// Whether nothing is remembered.
    pub(super) fn is_empty(&self) -> bool {
        self.sums.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    /// The times, in seconds, at which a sum is said again by `until`, looked at every five seconds.
    fn repeated(repeats: &mut Repeats, seconds: std::ops::Range<i64>) -> Vec<i64> {
        let looks = seconds.step_by(5).flat_map(|now| repeats.due(now * SECOND));
        looks.map(|(_, timestamp, _)| timestamp / SECOND).collect()
    }

    fn note(repeats: &mut Repeats, measured: i64, arrived: i64) -> bool {
        let sum = Restated { value: 1.0, start: 0 };
        repeats.note(SeriesId(1), measured * SECOND, arrived * SECOND, Some(Duration::from_secs(60)), sum)
    }

    #[test]
    fn a_sum_is_said_again_within_a_step_and_not_beyond() {
        let mut repeats = Repeats::default();
        assert!(note(&mut repeats, 100, 100));
        assert_eq!(repeated(&mut repeats, 100..160), [115, 130, 145]);
        assert_eq!(repeated(&mut repeats, 160..400), [0_i64; 0], "the sender is late, or gone");
        assert!(note(&mut repeats, 400, 400));
        assert_eq!(repeated(&mut repeats, 400..2_000).len(), 19, "a step of 300 s was seen");
    }

    #[test]
    fn what_is_told_at_times_only_is_said_again_for_ten_minutes() {
        let mut repeats = Repeats::default();
        let note = |measured: i64, repeats: &mut Repeats| {
            let sum = Restated { value: 1.0, start: 0 };
            repeats.note(SeriesId(1), measured * SECOND, (measured + 30) * SECOND, None, sum)
        };
        assert!(note(0, &mut repeats));
        assert_eq!(repeated(&mut repeats, 30..95), [15, 30, 45]);
        assert!(note(60, &mut repeats), "the next minute");
        assert_eq!(repeated(&mut repeats, 90..2_000), (75..650).step_by(15).collect::<Vec<_>>());
    }

    #[test]
    fn a_sender_of_short_steps_is_not_repeated() {
        let mut repeats = Repeats::default();
        for at in (100..200).step_by(10) {
            assert!(note(&mut repeats, at, at));
            assert_eq!(repeated(&mut repeats, at..at + 10), [0_i64; 0]);
        }
    }

    #[test]
    fn repeats_follow_the_clock_of_the_sender() {
        let mut repeats = Repeats::default();
        assert!(note(&mut repeats, 100, 5_000), "its clock is behind, or the line is slow");
        assert_eq!(repeated(&mut repeats, 5_000..5_015), [0_i64; 0]);
        assert_eq!(repeated(&mut repeats, 5_020..5_060), [115, 130, 145]);
    }

    #[test]
    fn a_sample_that_comes_behind_a_repeat_waits_for_the_next() {
        let mut repeats = Repeats::default();
        assert!(note(&mut repeats, 100, 100));
        assert_eq!(repeated(&mut repeats, 100..125), [115]);
        assert!(!note(&mut repeats, 110, 126));
        assert!(note(&mut repeats, 116, 127));
        assert!(note(&mut repeats, 116, 128), "the same again");
    }

    #[test]
    fn whoever_is_silent_is_forgotten() {
        let mut repeats = Repeats::default();
        note(&mut repeats, 100, 100);
        repeated(&mut repeats, 100..690);
        assert!(!repeats.is_empty());
        repeated(&mut repeats, 690..710);
        assert!(repeats.is_empty());
    }
}
