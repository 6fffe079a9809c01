//! What stands in a log's records, for people: reads, changes nothing, needs no lock.

use super::damage::{Gap, TimeRange};
use super::payload::{Definitions, decode_batch};
use super::reader::collect_definitions;
use super::record::{Header, Kind};
use super::segment::{Walk, segment_name, segment_names, segments_dir};
use super::{Disk, LogError, Position, Record, Seq, Storage};
use crate::model::{Batch, SeriesTable, TimestampNs};
use std::io;
use std::ops::{ControlFlow, RangeInclusive};
use std::path::Path;

/// A record met by [`inspect`].
#[derive(Debug)]
pub enum Inspected<'a> {
    /// A batch, and the table that knows its series.
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
    // One a segment, so that no more than a segment's series are held.
    let table = SeriesTable::default();
    let mut definitions = Definitions::default();
    collect_definitions(&mut walk, &table, &mut definitions)?;
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
            let record = read(&mut walk, offset, &header, &definitions, &table)?;
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

fn read(
    walk: &mut Walk,
    offset: u64,
    header: &Header,
    definitions: &Definitions,
    table: &SeriesTable,
) -> io::Result<Option<Record>> {
    let Some(payload) = walk.payload(offset, header)? else { return Ok(None) };
    let mut batch = Batch::new(header.format, table.pin());
    let Position { seq, ordinal } = header.position;
    let decoded = decode_batch(payload, header.count, definitions, table, &mut batch);
    Ok(decoded.ok().map(|()| Record { seq, ordinal, appended_at: header.appended_at, batch: batch.into() }))
}
