//! The memory of this process: the only place that asks the machine for it.
//!
//! Everything that grows has a bound of its own, derived from `limits.memory_limit` where that is given (`config`). This
//! guard is for what such sums cannot know, the allocator's slack and estimates that are off: it looks at the resident
//! memory every [`LOOK_EVERY`], and while that is above [`TIGHT_PERCENT`] of the limit, memory is *tight*: inputs take nothing new
//! (503 with `Retry-After`, line sockets are not read, datagrams are dropped, each counted as `memory`).

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

/// How often the resident memory is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Memory is tight above so many percent of the limit.
pub const TIGHT_PERCENT: usize = 80;
/// It is no longer tight below so many percent.
const RELIEVED_PERCENT: usize = 76;

/// What the process may have, and how near it is to that.
#[derive(Debug)]
pub struct Memory {
    limit: Option<usize>,
    resident: AtomicUsize,
    tight: watch::Sender<bool>,
    times: AtomicU64,
}

impl Memory {
    /// A guard of that limit; without one, memory is never tight.
    pub fn new(limit: Option<usize>) -> Self {
        Self { limit, resident: AtomicUsize::new(0), tight: watch::Sender::new(false), times: AtomicU64::new(0) }
    }

    /// The limit.
    pub fn limit(&self) -> Option<usize> {
        self.limit
    }

    /// Whether nothing new should be taken.
    pub fn is_tight(&self) -> bool {
        *self.tight.borrow()
    }

    /// How often it became tight.
    pub fn times_tight(&self) -> u64 {
        self.times.load(Ordering::Relaxed)
    }

    /// Resident memory in bytes when it was looked at last.
    pub fn resident(&self) -> usize {
        self.resident.load(Ordering::Relaxed)
    }

    /// Waits until memory is not tight.
    pub async fn relieved(&self) {
        let mut tight = self.tight.subscribe();
        // Fails only without a sender, which `self` is.
        let _ = tight.wait_for(|tight| !tight).await;
    }

    /// Looks at the memory for ever.
    pub async fn watch(&self) {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            let Some(resident) = resident_bytes() else { continue };
            if self.note(resident) {
                tracing::warn!(resident, limit = self.limit, "memory is tight: nothing new is taken for now");
            }
        }
    }

    /// Notes the resident memory; true when it became tight.
    fn note(&self, resident: usize) -> bool {
        self.resident.store(resident, Ordering::Relaxed);
        let Some(limit) = self.limit else { return false };
        let before = self.is_tight();
        let bound = limit / 100 * if before { RELIEVED_PERCENT } else { TIGHT_PERCENT };
        let tight = resident > bound;
        if tight != before {
            self.tight.send_replace(tight);
            self.times.fetch_add(u64::from(tight), Ordering::Relaxed);
        }
        tight && !before
    }
}

/// Resident memory of this process; none where the machine does not say.
fn resident_bytes() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse::<usize>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_tight_near_the_limit_and_until_it_is_well_below() {
        let memory = Memory::new(Some(1000));
        let looks = [(700, false), (790, false), (801, true), (790, true), (761, true), (759, false), (790, false)];
        for (resident, tight) in looks {
            memory.note(resident);
            assert_eq!(memory.is_tight(), tight, "{resident}");
        }
        assert_eq!((memory.times_tight(), memory.resident()), (1, 790));
        let unlimited = Memory::new(None);
        unlimited.note(usize::MAX);
        assert!(!unlimited.is_tight());
    }

    #[test]
    fn the_machine_tells_how_much_is_resident() {
        assert!(resident_bytes().is_none_or(|bytes| bytes > 1 << 20));
    }
}
