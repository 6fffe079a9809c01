//! What stands in a log's records, for people: reads, changes nothing, needs no lock.

use super::damage::{Gap, TimeRange};
use super::definitions::Definitions;
use super::reader::{collect_definitions, read_batch};
use super::record::Kind;
use super::segment::{Walk, segment_name, segment_names, segments_dir};
use super::{Disk, LogError, Position, Record, Seq, Storage};
use crate::model::{SeriesTable, TimestampNs};
use std::io;
use std::ops::{ControlFlow, RangeInclusive};
use std::path::Path;
use std::sync::Arc;

/// A record met by [`inspect`].
#[derive(Debug)]
pub enum Inspected<'a> {
    /// A batch, and the table to ask for its series with.
    Record(&'a Record, &'a SeriesTable),
    /// Records that cannot be read.
    Damaged(Gap),
}

/// Shows the records in that range, in order, until told to stop. Of a log in use, the record being written may look damaged.
pub fn inspect(
    dir: &Path,
    range: RangeInclusive<Seq>,
    mut visit: impl FnMut(&Inspected<'_>) -> ControlFlow<()>,
) -> Result<(), LogError> {
    let names = segment_names(&Disk, dir)?;
    let first = names.partition_point(|name| name <= range.start()).saturating_sub(1);
    let mut reached = None;
    for (index, name) in names.iter().enumerate().skip(first).take_while(|(_, name)| *name <= range.end()) {
        let path = segments_dir(dir).join(segment_name(*name));
        let until = names.get(index + 1).copied().unwrap_or(Seq::MAX);
        if inspect_segment(&path, until, &range, &mut reached, &mut visit).map_err(LogError::at(&path))?.is_break() {
            break;
        }
    }
    Ok(())
}

/// `reached` is the place behind the last intact header, and when that was written; `until` is the next segment's name.
fn inspect_segment(
    path: &Path,
    until: Seq,
    range: &RangeInclusive<Seq>,
    reached: &mut Option<(Position, TimestampNs)>,
    visit: &mut impl FnMut(&Inspected<'_>) -> ControlFlow<()>,
) -> io::Result<ControlFlow<()>> {
    let file = Disk.open(path, false)?;
    let bytes = file.size()?;
    let mut walk = Walk::new(file, bytes).lenient();
    // Nobody sends: every series is a recalled one.
    let table = Arc::new(SeriesTable::default());
    let mut definitions = Definitions::new(Disk.open(path, false)?, true, &table);
    collect_definitions(&mut walk, &mut definitions)?;
    walk.go_to(0);
    while let Some((offset, header)) = walk.step()? {
        if header.next().seq > until {
            continue;
        }
        let (before, since) = reached.unwrap_or((header.position, header.appended_at));
        *reached = Some((header.next().max(before), header.appended_at));
        let mut shown = ControlFlow::Continue(());
        let skipped = before.seq..header.position.seq;
        if !skipped.is_empty() && skipped.start <= *range.end() && skipped.end > *range.start() {
            let appended = TimeRange::between(Some(since), Some(header.appended_at));
            shown = visit(&Inspected::Damaged(Gap::between(before, header.position, appended)));
        }
        if shown.is_continue() && header.kind == Kind::Samples && range.contains(&header.position.seq) {
            definitions.make_room();
            let Position { seq, ordinal } = header.position;
            let batch = read_batch(&mut walk, offset, &header, &mut definitions, table.pin())?;
            let record = batch.map(|batch| {
                let (appended_at, batch) = (header.appended_at, batch.into());
                Record { seq, ordinal, appended_at, batch }
            });
            let appended = TimeRange::at(header.appended_at);
            shown = match &record {
                Some(record) => visit(&Inspected::Record(record, &table)),
                None => visit(&Inspected::Damaged(Gap::between(header.position, header.next(), appended))),
            };
        }
        if shown.is_break() {
            return Ok(shown);
        }
    }
    Ok(ControlFlow::Continue(()))
}
