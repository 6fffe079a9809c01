//! How long to wait before a request is repeated.

use crate::config;
use std::time::Duration;

/// First and longest wait while a destination's configuration wants mending: whoever mends it sees samples move at once, and
/// a destination that locks out after failed logins is not asked often.
const MISCONFIGURED: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(15)];

/// Longest `Retry-After` that is obeyed.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// Waits that double from the shortest to the longest, each with up to half of itself added, so that lanes and gateways
/// that failed together do not return together.
#[derive(Clone, Debug)]
pub struct Backoff {
    next: Duration,
    max: Duration,
}

impl Backoff {
    /// The waits of a queue's configuration.
    pub fn new(queue: &config::Queue) -> Self {
        Self { next: queue.backoff_min, max: queue.backoff_max }
    }

    /// The waits of a destination that is not configured right.
    pub fn seldom() -> Self {
        let [next, max] = MISCONFIGURED;
        Self { next, max }
    }

    /// The next wait, not shorter than the destination asked for.
    pub fn pause(&mut self, retry_after: Option<Duration>) -> Duration {
        let base = self.next.min(self.max);
        self.next = base.saturating_mul(2);
        let pause = base + base.mul_f64(fastrand::f64() / 2.0);
        pause.max(retry_after.unwrap_or_default().min(RETRY_AFTER_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_the_limit_and_obey_the_destination() {
        let queue = config::Queue::default();
        let mut backoff = Backoff::new(&queue);
        let mut before = Duration::ZERO;
        for _ in 0..7 {
            let pause = backoff.pause(None);
            assert!(pause > before && pause >= queue.backoff_min, "{before:?} {pause:?}");
            before = pause;
        }
        for _ in 0..100 {
            let pause = backoff.pause(None);
            assert!((queue.backoff_max / 2..=queue.backoff_max * 3 / 2).contains(&pause), "{pause:?}");
        }
        let asked = Duration::from_secs(60);
        assert_eq!(backoff.pause(Some(asked)), asked);
        assert_eq!(backoff.pause(Some(Duration::MAX)), RETRY_AFTER_MAX);
    }

    #[test]
    fn lanes_do_not_return_together() {
        let pauses: Vec<_> = (0..8).map(|_| Backoff::new(&config::Queue::default()).pause(None)).collect();
        assert!(pauses.windows(2).any(|pair| pair[0] != pair[1]), "{pauses:?}");
    }
}
