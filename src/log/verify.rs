//! A look at a log's segments from outside: reads everything, changes nothing, needs no lock.

use super::record::Kind;
use super::segment::{Walk, segment_name, segment_names, segments_dir};
use super::{Disk, LogError, Position, Storage};
use std::io;
use std::path::Path;

/// What [`verify`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// The segments, oldest first.
    pub segments: Vec<SegmentReport>,
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
    /// The position behind the last.
    pub end: Position,
    /// Batches that can be read.
    pub records: u64,
    /// Samples in them.
    pub samples: u64,
    /// Batches that are damaged.
    pub lost_records: u64,
    /// Samples in them.
    pub lost_samples: u64,
    /// Bytes that belong to no intact record.
    pub damaged_bytes: u64,
}

impl VerifyReport {
    /// Whether every byte is as it was written.
    pub fn sound(&self) -> bool {
        self.segments.iter().all(|segment| segment.damaged_bytes == 0 && segment.lost_records == 0)
    }
}

/// Checks every record of the log in that directory. Of a log in use, the record being written may look damaged.
pub fn verify(dir: &Path) -> Result<VerifyReport, LogError> {
    verify_on(&Disk, dir)
}

pub(super) fn verify_on(storage: &dyn Storage, dir: &Path) -> Result<VerifyReport, LogError> {
    let mut report = VerifyReport::default();
    for name in segment_names(storage, dir)? {
        let path = segments_dir(dir).join(segment_name(name));
        report.segments.push(verify_segment(storage, &path, segment_name(name)).map_err(LogError::at(&path))?);
    }
    Ok(report)
}

fn verify_segment(storage: &dyn Storage, path: &Path, name: String) -> io::Result<SegmentReport> {
    let file = storage.open(path, false)?;
    let bytes = file.size()?;
    let mut report = SegmentReport { name, bytes, damaged_bytes: bytes, ..SegmentReport::default() };
    let mut walk = Walk::new(file, bytes);
    let mut reached = None;
    while let Some((offset, header)) = walk.step()? {
        let intact = walk.payload(offset, &header)?.is_some();
        let before = reached.unwrap_or(header.position);
        report.first = if reached.is_none() { header.position } else { report.first };
        report.lost_records += header.position.seq.saturating_sub(before.seq);
        report.lost_samples += header.position.ordinal.saturating_sub(before.ordinal);
        report.damaged_bytes -= if intact { header.record_bytes() } else { 0 };
        match (header.kind, intact) {
            (Kind::Samples, true) => {
                report.records += 1;
                report.samples += u64::from(header.count);
            }
            (Kind::Samples, false) => {
                report.lost_records += 1;
                report.lost_samples += u64::from(header.count);
            }
            _ => {}
        }
        report.end = header.next();
        reached = Some(report.end);
    }
    Ok(report)
}
