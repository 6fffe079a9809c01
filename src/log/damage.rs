//! What of a log cannot be read, and how people are told: which records, how many samples, appended when.

use super::{Position, Seq, Storage};
use crate::model::TimestampNs;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Places of damage that are kept to be shown; counters go on beyond it.
pub const DAMAGE_SHOWN_MAX: usize = 32;

/// When something was appended: exactly where its own header tells, else between its neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct TimeRange {
    /// Not before; none when nothing older is known.
    pub from: Option<TimestampNs>,
    /// Not after; none when nothing newer is known.
    pub until: Option<TimestampNs>,
}

impl TimeRange {
    /// Between two neighbours; the clock may have gone back from one to the other.
    pub(super) fn between(before: Option<TimestampNs>, behind: Option<TimestampNs>) -> Self {
        match (before, behind) {
            (Some(before), Some(behind)) => Self { from: Some(before.min(behind)), until: Some(before.max(behind)) },
            (from, until) => Self { from, until },
        }
    }

    pub(super) fn at(time: TimestampNs) -> Self {
        Self { from: Some(time), until: Some(time) }
    }
}

/// A time as RFC 3339, in UTC.
pub fn rfc3339(at: TimestampNs) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(at)).map_or_else(|_| format!("{at}ns"), |time| time.to_string())
}

impl fmt::Display for TimeRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.from, self.until) {
            (Some(from), Some(until)) if from == until => write!(f, "at {}", rfc3339(from)),
            (Some(from), Some(until)) => write!(f, "between {} and {}", rfc3339(from), rfc3339(until)),
            (Some(from), None) => write!(f, "after {}", rfc3339(from)),
            (None, Some(until)) => write!(f, "before {}", rfc3339(until)),
            (None, None) => f.write_str("at an unknown time"),
        }
    }
}

/// Records that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The first of them.
    pub first: Seq,
    /// The record behind them.
    pub next: Seq,
    /// Samples in them.
    pub samples: u64,
    /// When they were appended.
    pub appended: TimeRange,
}

impl Gap {
    pub(super) fn between(from: Position, until: Position, appended: TimeRange) -> Self {
        let samples = until.ordinal.saturating_sub(from.ordinal);
        Self { first: from.seq, next: until.seq, samples, appended }
    }

    /// How many records.
    pub fn records(&self) -> u64 {
        self.next.saturating_sub(self.first)
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, next, samples, appended } = self;
        write!(f, "records {first} to {} damaged, {samples} samples, appended {appended}", next.saturating_sub(1))
    }
}

/// The damage met since the log was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// Bytes cut off the end at open: a group whose write was interrupted.
    pub torn_bytes: u64,
    /// Records that cannot be read, as they are met; the first [`DAMAGE_SHOWN_MAX`].
    pub gaps: Vec<Gap>,
    /// Files that are not read here, under the names they were given instead; the first [`DAMAGE_SHOWN_MAX`].
    pub set_aside: Vec<PathBuf>,
}

impl Damage {
    /// Keeps a gap to be shown, unless it is known: every output meets it.
    pub(super) fn meet(&mut self, gap: Gap) {
        let known = self.gaps.iter().any(|known| known.first <= gap.first && gap.next <= known.next);
        if !known && self.gaps.len() < DAMAGE_SHOWN_MAX {
            self.gaps.push(gap);
        }
    }

    pub(super) fn note_set_aside(&mut self, path: PathBuf) {
        if self.set_aside.len() < DAMAGE_SHOWN_MAX {
            self.set_aside.push(path);
        }
    }
}

/// Why a file is set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aside {
    /// Nothing in it can be read.
    Damaged,
    /// A later version wrote it.
    Newer,
    /// What it holds does not fit into the bounds of this start.
    NoRoom,
}

impl Aside {
    /// What is added to the file's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Damaged => "damaged",
            Self::Newer => "newer",
            Self::NoRoom => "no_room",
        }
    }

    /// The name that a file had before it was set aside; none if it was not.
    pub(super) fn name_before(file: &str) -> Option<&str> {
        let of = |why: Self| file.rsplit_once(why.as_str()).and_then(|(name, _)| name.strip_suffix('.'));
        [Self::Damaged, Self::Newer, Self::NoRoom].into_iter().find_map(of)
    }
}

/// Gives a file another name in its directory, so that nothing reads, overwrites or trims it any more. Its new path.
pub(super) fn set_aside(storage: &dyn Storage, path: &Path, why: Aside) -> io::Result<PathBuf> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let taken = storage.list(dir)?;
    let plain = format!("{name}.{}", why.as_str());
    let numbered = (1..=taken.len()).map(|number| format!("{plain}.{number}"));
    let free = std::iter::once(plain.clone()).chain(numbered).find(|name| !taken.contains(name)).unwrap_or(plain);
    let aside = dir.join(free);
    storage.rename(path, &aside)?;
    storage.sync_dir(dir)?;
    tracing::error!(path = %path.display(), set_aside = %aside.display(), why = why.as_str(), "a file of the log is not read here; it is kept under another name");
    Ok(aside)
}
