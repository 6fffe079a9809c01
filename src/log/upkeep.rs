//! Keeps the log small: saves the cursors that moved, deletes the segments that nobody waits for, forgets old batches.

use super::cursor::{self, Slot};
use super::error::LogError;
use super::segment::segments_dir;
use super::shared::Shared;
use super::{Position, Seq, UPKEEP_INTERVAL};
use crate::clock;
use parking_lot::MutexGuard;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError};

/// Whose turn it is to save and trim.
pub(super) type Turn<'a> = MutexGuard<'a, ()>;

/// Does so every [`UPKEEP_INTERVAL`] and when poked, and once more when nobody can poke it any more.
pub(super) fn run(shared: &Shared, poked: &Receiver<()>) {
    let upkeep = || {
        if catch_unwind(AssertUnwindSafe(|| shared.upkeep())).is_err() {
            shared.state.lock().cursors_failed = Some("the log's upkeep met a bug".to_owned());
        }
    };
    while !matches!(poked.recv_timeout(UPKEEP_INTERVAL), Err(RecvTimeoutError::Disconnected)) {
        upkeep();
    }
    upkeep();
}

impl Shared {
    /// Saves the cursors that moved, then deletes the segments that no cursor waits for. In this order: a segment goes only
    /// after the file says that it is not needed any more.
    ///
    /// One exception, or a full disk would stay full: where no cursor fits any more, what all have acknowledged goes first.
    /// Should the process die right then, the cursor counts as lost what was in truth delivered.
    pub(super) fn upkeep(&self) {
        let turn = self.upkeep.lock();
        let mut errors = cursor::save_moved(self);
        if errors.iter().any(LogError::is_disk_full) && self.trim(&turn, Slot::live_seq) > 0 {
            errors = cursor::save_moved(self);
        }
        let (full, failed): (Vec<_>, Vec<_>) = errors.into_iter().partition(LogError::is_disk_full);
        {
            let mut state = self.state.lock();
            state.cursors_wait = !full.is_empty();
            state.cursors_failed = failed.first().map(LogError::to_string);
        }
        self.trim(&turn, Slot::saved_seq);
        let forgotten = self.state.lock().shorten_tail(self.config.memory_bytes, clock::now());
        drop(forgotten);
    }

    /// Deletes the segments before what every cursor needs; how many went.
    pub(super) fn trim(&self, turn: &Turn<'_>, needs: impl Fn(&Slot) -> Seq) -> usize {
        let needed = {
            let state = self.state.lock();
            if !state.trimming {
                return 0;
            }
            state.cursors.values().map(needs).min().unwrap_or(Seq::MAX)
        };
        std::iter::from_fn(|| self.delete_oldest(turn, |behind| behind.seq <= needed).then_some(())).count()
    }

    /// Deletes the oldest segment if `expendable` says so of the position behind it. Never the last one, even when it is
    /// sealed: without a segment, a crash now would leave nothing that tells how far the log had come.
    ///
    /// Each goes safely before the next: not even a power failure leaves a hole, behind which a group that was taken back
    /// could pass for the records that are gone. One that cannot be removed stays on the list until it can.
    pub(super) fn delete_oldest(&self, _turn: &Turn<'_>, expendable: impl Fn(Position) -> bool) -> bool {
        let segment = {
            let mut state = self.state.lock();
            let Some(behind) = state.segments.get(1).map(|next| next.first) else { return false };
            if !expendable(behind) {
                return false;
            }
            state.trimmed = behind.seq;
            let segment = state.segments.pop_front();
            state.leaving = segment.as_ref().map_or(0, |segment| segment.bytes);
            segment
        };
        let Some(segment) = segment else { return false };
        let path = self.segment_path(segment.name);
        let removed = self.storage.remove(&path);
        let mut state = self.state.lock();
        state.leaving = 0;
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let why = format!("cannot delete {}: {error}", path.display());
                if state.undeletable.is_none() {
                    tracing::error!("{why}; the log stays as large as it is until it can");
                }
                state.undeletable = Some(why);
                state.segments.push_front(segment);
                false
            }
            _ => {
                state.undeletable = None;
                drop(state);
                // Should the name come back after a power loss, it is trimmed again.
                let _ = self.storage.sync_dir(&segments_dir(&self.config.dir));
                true
            }
        }
    }
}
