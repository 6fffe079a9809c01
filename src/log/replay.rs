//! Moves a cursor back while the gateway is down, so that its output sends again what the log still holds.
//!
//! What is true of the account then: every sample before the new place is delivered or dropped, every one behind it is
//! pending again. How many of those behind it were delivered and how many dropped is not recorded, so they are taken off
//! *delivered* as far as it goes: what was ever dropped stays counted, and a sample that is dropped again is counted again.
//! Only what *delivered* cannot cover is taken off *dropped*, and never off what the log itself lost before the new place.

use super::cursor::{self, CursorState};
use super::segment::{Walk, segment_name, segment_names, segments_dir};
use super::{Disk, LogError, Position, Seq, Storage, lock};
use crate::model::Loss;
use std::io;
use std::path::Path;

/// Why a cursor stays where it is.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The log cannot be used.
    #[error(transparent)]
    Log(#[from] LogError),
    /// There is no such cursor.
    #[error("no cursor {name:?}; there is {}", if .known.is_empty() { "none".to_owned() } else { .known.join(", ") })]
    UnknownCursor {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// The record is not one that the cursor has passed and the log still holds.
    #[error("record {from} cannot be replayed: the log holds {oldest} and later, the cursor stands before {stands_at}")]
    OutOfRange {
        /// The record asked for.
        from: Seq,
        /// The oldest record kept.
        oldest: Seq,
        /// Where the cursor stands.
        stands_at: Seq,
    },
    /// The record's place is not known, because the bytes around it are damaged.
    #[error("record {0} is damaged; choose another")]
    Damaged(Seq),
}

/// Sets the cursor before the record `from`; what it was before and is now. Refused while another process has the log open.
pub fn replay(dir: &Path, name: &str, from: Seq) -> Result<(CursorState, CursorState), ReplayError> {
    let segments = segment_names(&Disk, dir)?;
    let _lock = lock(&Disk, dir)?;
    let files = cursor::list(&Disk, dir)?;
    let known = files.into_iter().filter_map(|file| Some((file.name, file.state.ok()?, file.log_end)));
    let known: Vec<_> = known.collect();
    let Some((_, before, log_end)) = known.iter().find(|(known, ..)| known == name) else {
        let known = known.into_iter().map(|(name, ..)| name).collect();
        return Err(ReplayError::UnknownCursor { name: name.to_owned(), known });
    };
    let oldest = segments.first().copied().unwrap_or(before.seq);
    if !(oldest..=before.seq).contains(&from) {
        return Err(ReplayError::OutOfRange { from, oldest, stands_at: before.seq });
    }
    let place = if from == before.seq { Some(before.position()) } else { find(dir, &segments, from)? };
    let after = place.and_then(|place| moved_back(before, place)).ok_or(ReplayError::Damaged(from))?;
    cursor::replace(&Disk, dir, name, &after, *log_end).map_err(LogError::at(dir))?;
    Ok((before.clone(), after))
}

/// The place before that record, as some intact header tells it.
fn find(dir: &Path, segments: &[Seq], seq: Seq) -> Result<Option<Position>, LogError> {
    let behind = segments.partition_point(|name| *name <= seq);
    let Some(name) = segments[..behind].last() else { return Ok(None) };
    let path = segments_dir(dir).join(segment_name(*name));
    find_in(&path, seq).map_err(LogError::at(&path))
}

fn find_in(path: &Path, seq: Seq) -> io::Result<Option<Position>> {
    let file = Disk.open(path, false)?;
    let bytes = file.size()?;
    let mut walk = Walk::new(file, bytes);
    while let Some((_, header)) = walk.step()? {
        for place in [header.position, header.next()] {
            if place.seq == seq {
                return Ok(Some(place));
            }
        }
    }
    Ok(None)
}

/// The account at an earlier place; none when it cannot be even there.
fn moved_back(state: &CursorState, to: Position) -> Option<CursorState> {
    let again = state.ordinal.checked_sub(to.ordinal)?;
    let mut left = again.saturating_sub(state.delivered);
    let mut dropped = state.dropped.clone();
    let before_the_log = [Loss::BeforeOutput, Loss::CursorDamaged, Loss::LogFull].map(Loss::as_str);
    for (reason, count) in &mut dropped {
        if !before_the_log.contains(&reason.as_str()) {
            let taken = left.min(*count);
            *count -= taken;
            left -= taken;
        }
    }
    dropped.retain(|_, count| *count > 0);
    let delivered = state.delivered.saturating_sub(again);
    let moved = CursorState { seq: to.seq, ordinal: to.ordinal, delivered, dropped };
    moved.adds_up().then_some(moved)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn state(ordinal: u64, delivered: u64, dropped: &[(&str, u64)]) -> CursorState {
        let dropped: BTreeMap<_, _> = dropped.iter().map(|(reason, count)| ((*reason).to_owned(), *count)).collect();
        CursorState { seq: ordinal, ordinal, delivered, dropped }
    }

    #[test]
    fn an_account_moved_back_adds_up_and_keeps_what_the_log_lost() {
        let before = state(100, 60, &[("before_output", 20), ("log_full", 5), ("relabel", 10), ("string_value", 5)]);
        let at = |ordinal| moved_back(&before, Position { seq: ordinal, ordinal });
        assert_eq!(at(100), Some(before.clone()));
        let lost = [("before_output", 20), ("log_full", 5)];
        assert_eq!(at(70), Some(state(70, 30, &[lost[0], lost[1], ("relabel", 10), ("string_value", 5)])));
        assert_eq!(at(37), Some(state(37, 0, &[lost[0], lost[1], ("relabel", 7), ("string_value", 5)])));
        assert_eq!(at(25), Some(state(25, 0, &lost)));
        assert_eq!(at(24), None, "those samples are gone");
        assert_eq!(at(101), None, "not back");
    }
}
