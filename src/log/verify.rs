//! A look at a log from outside: reads everything, changes nothing, needs no lock.

use super::cursor::{self, CursorFile};
use super::damage::{Aside, DAMAGE_SHOWN_MAX, Gap, TimeRange};
use super::record::Kind;
use super::recovery::sound_end;
use super::segment::{Walk, segment_name, segment_names, segments_dir};
use super::{Disk, LogError, Position, Seq, Storage};
use crate::model::TimestampNs;
use std::io;
use std::path::Path;

/// What [`verify`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// The segments, oldest first.
    pub segments: Vec<SegmentReport>,
    /// The cursors, by name.
    pub cursors: Vec<CursorFile>,
    /// Records that cannot be read, oldest first; the first [`DAMAGE_SHOWN_MAX`].
    pub gaps: Vec<Gap>,
    /// Batches that are damaged, or that belong to a segment that is missing.
    pub lost_records: u64,
    /// Samples in them.
    pub lost_samples: u64,
    /// Bytes at the very end that no intact checkpoint follows: never acknowledged, and cut off when the log opens.
    pub torn_bytes: u64,
    /// Names of files that were set aside before.
    pub set_aside: Vec<String>,
}

/// What [`verify`] found in one segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SegmentReport {
    /// The file's name.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// The position of the first intact header.
    pub first: Position,
    /// Batches that can be read.
    pub records: u64,
    /// Samples in them.
    pub samples: u64,
    /// Bytes that belong to no intact record.
    pub damaged_bytes: u64,
    /// Whether a later version wrote it: it is set aside when the log opens.
    pub newer: bool,
}

impl VerifyReport {
    /// Whether every byte is as it was written.
    pub fn sound(&self) -> bool {
        let segments = self.segments.iter().all(|segment| segment.damaged_bytes == 0 && !segment.newer);
        segments && self.lost_records == 0 && self.cursors.iter().all(|cursor| cursor.sound)
    }

    fn lose(&mut self, from: Position, until: Position, appended: TimeRange) {
        let gap = Gap::between(from, until, appended);
        self.lost_records += gap.records();
        self.lost_samples += gap.samples;
        let shown = self.gaps.len() < DAMAGE_SHOWN_MAX;
        match self.gaps.last_mut() {
            Some(last) if last.next == gap.first => {
                last.next = gap.next;
                last.samples += gap.samples;
                last.appended.until = gap.appended.until;
            }
            _ if shown => self.gaps.push(gap),
            _ => {}
        }
    }
}

/// Checks every record and every cursor of the log in that directory. Of a log in use, the record being written may look
/// damaged.
pub fn verify(dir: &Path) -> Result<VerifyReport, LogError> {
    verify_on(&Disk, dir)
}

pub(super) fn verify_on(storage: &dyn Storage, dir: &Path) -> Result<VerifyReport, LogError> {
    let names = segment_names(storage, dir)?;
    let mut report = VerifyReport { cursors: cursor::list(storage, dir)?, ..VerifyReport::default() };
    for folder in [segments_dir(dir), cursor::cursors_dir(dir)] {
        let files = storage.list(&folder).map_err(LogError::at(&folder))?;
        report.set_aside.extend(files.into_iter().filter(|file| Aside::name_before(file).is_some()));
    }
    // What a cursor waits for was in the log once.
    let owed = report.cursors.iter().filter_map(|file| Some(file.state.as_ref().ok()?.position())).min();
    let missing = owed.filter(|owed| names.first().is_some_and(|first| owed.seq < *first));
    let mut reached = missing.map(|position| (position, None));
    for (index, name) in names.iter().enumerate() {
        let path = segments_dir(dir).join(segment_name(*name));
        let until = names.get(index + 1).copied();
        verify_segment(storage, &path, *name, until, &mut reached, &mut report).map_err(LogError::at(&path))?;
    }
    let (at, since) = reached.or(owed.map(|owed| (owed, None))).unwrap_or_default();
    let furthest = cursor::furthest(&report.cursors);
    if furthest.seq > at.seq {
        report.lose(at, furthest, TimeRange::between(since, None));
    }
    Ok(report)
}

/// `reached` is the place behind the last intact header, and when that was written; `until` is the next segment's name.
fn verify_segment(
    storage: &dyn Storage,
    path: &Path,
    name: Seq,
    until: Option<Seq>,
    reached: &mut Option<(Position, Option<TimestampNs>)>,
    report: &mut VerifyReport,
) -> io::Result<()> {
    let file = storage.open(path, false)?;
    let bytes = file.size()?;
    let mut segment =
        SegmentReport { name: segment_name(name), bytes, damaged_bytes: bytes, ..SegmentReport::default() };
    let mut walk = Walk::new(file, bytes).lenient();
    segment.newer = match walk.first()? {
        Some(header) => header.later,
        None => walk.begins_later()?,
    };
    let mut limit = bytes;
    if until.is_none() && !segment.newer {
        let sound = sound_end(&mut walk)?;
        limit = if walk.met_unreadable() { bytes } else { sound };
        report.torn_bytes = bytes - limit;
    }
    walk.go_to(0);
    let mut begun = false;
    while let Some((offset, header)) = walk.step()? {
        if walk.offset() > limit || until.is_some_and(|until| header.next().seq > until) {
            continue;
        }
        if !begun {
            segment.first = header.position;
            begun = true;
        }
        let (before, since) = reached.unwrap_or((header.position, None));
        if header.position.seq > before.seq {
            report.lose(before, header.position, TimeRange::between(since, Some(header.appended_at)));
        }
        let intact = walk.payload(offset, &header)?.is_some();
        segment.damaged_bytes -= if intact { header.record_bytes() } else { 0 };
        match (header.kind, intact) {
            (Kind::Samples, true) => {
                segment.records += 1;
                segment.samples += u64::from(header.count);
            }
            (Kind::Samples, false) => report.lose(header.position, header.next(), TimeRange::at(header.appended_at)),
            _ => {}
        }
        *reached = Some((header.next().max(before), Some(header.appended_at)));
    }
    report.segments.push(segment);
    Ok(())
}
