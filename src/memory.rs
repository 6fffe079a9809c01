//! The memory of this process: the only place that asks the machine for it.
//!
//! Everything that grows has a bound of its own, derived from `limits.memory_limit` where that is given (`config`). This
//! guard is for what such sums cannot know, the allocator's slack and estimates that are off. It looks at the resident
//! memory every [`LOOK_EVERY`]:
//!
//! * *Tight*, above [`TIGHT_PERCENT`]: bodies become batches one at a time. That goes on, because an allocator keeps what
//!   was freed and gives it out again: resident memory alone does not tell that nothing is left.
//! * *Short*, above [`SHORT_PERCENT`]: nothing new is taken (503 with `Retry-After`, line sockets are not read, datagrams
//!   are dropped, each counted as `memory`).

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

/// How often the resident memory is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Memory is tight above so many percent of the limit.
const TIGHT_PERCENT: usize = 70;
/// Memory is short above so many percent of the limit.
const SHORT_PERCENT: usize = 88;
/// So many percent below its bound, a state is over.
const RELIEVED_PERCENT: usize = 3;

/// How near the limit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Ample,
    Tight,
    Short,
}

/// What the process may have, and how near it is to that.
#[derive(Debug)]
pub struct Memory {
    limit: Option<usize>,
    resident: AtomicUsize,
    state: watch::Sender<State>,
    times_short: AtomicU64,
}

impl Memory {
    /// A guard of that limit; without one, memory is always ample.
    pub fn new(limit: Option<usize>) -> Self {
        Self {
            limit,
            resident: AtomicUsize::new(0),
            state: watch::Sender::new(State::Ample),
            times_short: AtomicU64::new(0),
        }
    }

    /// The limit.
    pub fn limit(&self) -> Option<usize> {
        self.limit
    }

    /// Whether batches should be made one at a time.
    pub fn is_tight(&self) -> bool {
        *self.state.borrow() >= State::Tight
    }

    /// Whether nothing new should be taken.
    pub fn is_short(&self) -> bool {
        *self.state.borrow() == State::Short
    }

    /// How often it became short.
    pub fn times_short(&self) -> u64 {
        self.times_short.load(Ordering::Relaxed)
    }

    /// Resident memory in bytes when it was looked at last.
    pub fn resident(&self) -> usize {
        self.resident.load(Ordering::Relaxed)
    }

    /// Waits until memory is not short.
    pub async fn relieved(&self) {
        let mut state = self.state.subscribe();
        // Fails only without a sender, which `self` is.
        let _ = state.wait_for(|state| *state != State::Short).await;
    }

    /// Looks at the memory for ever.
    pub async fn watch(&self) {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            let Some(resident) = resident_bytes() else { continue };
            if self.note(resident) {
                tracing::warn!(resident, limit = self.limit, "memory is short: nothing new is taken for now");
            }
        }
    }

    /// Notes the resident memory; true when it became short.
    pub(crate) fn note(&self, resident: usize) -> bool {
        self.resident.store(resident, Ordering::Relaxed);
        let Some(limit) = self.limit else { return false };
        let before = *self.state.borrow();
        let above = |percent: usize, state: State| {
            let relief = if before >= state { RELIEVED_PERCENT } else { 0 };
            resident > limit / 100 * (percent - relief)
        };
        let state = if above(SHORT_PERCENT, State::Short) {
            State::Short
        } else if above(TIGHT_PERCENT, State::Tight) {
            State::Tight
        } else {
            State::Ample
        };
        if state != before {
            self.state.send_replace(state);
        }
        let became_short = state == State::Short && before != State::Short;
        self.times_short.fetch_add(u64::from(became_short), Ordering::Relaxed);
        became_short
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
    fn a_state_holds_near_the_limit_and_until_it_is_well_below() {
        use State::{Ample, Short, Tight};
        let memory = Memory::new(Some(1000));
        let looks = [
            (690, Ample),
            (701, Tight),
            (680, Tight),
            (670, Ample),
            (870, Tight),
            (881, Short),
            (860, Short),
            (849, Tight),
            (900, Short),
            (0, Ample),
        ];
        for (resident, state) in looks {
            memory.note(resident);
            assert_eq!(*memory.state.borrow(), state, "{resident}");
            assert_eq!((memory.is_tight(), memory.is_short()), (state >= Tight, state == Short));
        }
        assert_eq!((memory.times_short(), memory.resident()), (2, 0));
        let unlimited = Memory::new(None);
        unlimited.note(usize::MAX);
        assert!(!unlimited.is_tight());
    }

    #[test]
    fn the_machine_tells_how_much_is_resident() {
        assert!(resident_bytes().is_none_or(|bytes| bytes > 1 << 20));
    }
}
