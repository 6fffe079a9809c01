//! What opening a log finds and mends: the position behind the last record, and a torn end.

use super::payload::{Accepted, decode_checkpoint};
use super::record::{Header, Kind};
use super::segment::{Segment, Walk, segment_name, segment_names, segments_dir};
use super::{LogError, Position, Storage, cursor};
use crate::model::Format;
use std::collections::VecDeque;
use std::io;
use std::path::Path;

/// What recovery cut off or found unreadable in the segment written last. Older segments are judged when they are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// Bytes cut off the end: a group whose write was interrupted.
    pub torn_bytes: u64,
    /// Records that cannot be read any more.
    pub lost_records: u64,
    /// Samples in them.
    pub lost_samples: u64,
}

#[derive(Debug, Default)]
pub(super) struct Recovered {
    pub(super) segments: VecDeque<Segment>,
    pub(super) end: Position,
    pub(super) accepted: Accepted,
    pub(super) damage: Damage,
}

/// How far a segment is read at open.
#[derive(Clone, Copy)]
enum Scan {
    Begin,
    SumUp,
    Mend,
}

/// Reads the segments' beginnings and walks through the last one. A segment is never written again after a restart.
pub(super) fn recover(storage: &dyn Storage, dir: &Path) -> Result<Recovered, LogError> {
    let mut recovered = Recovered::default();
    let segments = segments_dir(dir);
    let names = segment_names(storage, dir)?;
    for (index, name) in names.iter().enumerate() {
        let path = segments.join(segment_name(*name));
        // The last segment may have lost its beginning or all it holds: then the one before tells where it began.
        let scan = match names.len() - index {
            1 => Scan::Mend,
            2 => Scan::SumUp,
            _ => Scan::Begin,
        };
        recovered.add(storage, &path, *name, scan).map_err(LogError::at(&path))?;
    }
    let acknowledged = cursor::furthest(storage, dir)?;
    let format = Format::ALL[recovered.last_format()];
    recovered.advance(acknowledged, format);
    Ok(recovered)
}

impl Recovered {
    fn add(&mut self, storage: &dyn Storage, path: &Path, name: u64, scan: Scan) -> io::Result<()> {
        let file = storage.open(path, false)?;
        let len = file.size()?;
        let mut walk = Walk::new(file, len);
        // A beginning that is damaged is taken to be where the segment before ended, as far as that is known.
        let first = match walk.step()? {
            Some((_, header)) if header.position.seq == name => header.position,
            Some((_, header)) => Position { seq: name, ordinal: self.end.ordinal.min(header.position.ordinal) },
            None => Position { seq: name, ordinal: self.end.ordinal },
        };
        self.end = Position { seq: name.max(self.end.seq), ordinal: first.ordinal.max(self.end.ordinal) };
        self.segments.push_back(Segment { name, first, bytes: len });
        match scan {
            Scan::Begin => Ok(()),
            Scan::SumUp => self.sum_up(walk),
            Scan::Mend => self.mend(storage, path, walk, len),
        }
    }

    /// Learns what the headers of an older segment tell, without its payloads.
    fn sum_up(&mut self, mut walk: Walk) -> io::Result<()> {
        walk.go_to(0);
        while let Some((offset, header)) = walk.step()? {
            self.learn(&mut walk, offset, &header)?;
        }
        Ok(())
    }

    /// Walks through the segment written last and cuts off its torn end.
    fn mend(&mut self, storage: &dyn Storage, path: &Path, mut walk: Walk, len: u64) -> io::Result<()> {
        let sound_bytes = sound_end(&mut walk)?;
        walk = Walk::new(storage.open(path, true)?, sound_bytes);
        let begin = self.end;
        let mut reached = begin;
        while let Some((offset, header)) = walk.step()? {
            if header.position.seq > reached.seq {
                self.damage.lost_records += header.position.seq - reached.seq;
                self.damage.lost_samples += header.position.ordinal.saturating_sub(reached.ordinal);
            }
            if header.kind == Kind::Samples && walk.payload(offset, &header)?.is_none() {
                self.damage.lost_records += 1;
                self.damage.lost_samples += u64::from(header.count);
            }
            reached = reached.max(header.next());
            self.learn(&mut walk, offset, &header)?;
        }
        self.damage.torn_bytes = len - sound_bytes;
        if self.end.seq == begin.seq {
            // Not one record: the next segment will need the name.
            self.segments.pop_back();
            storage.remove(path)?;
        } else if sound_bytes < len {
            let mut file = storage.open(path, true)?;
            file.truncate(sound_bytes)?;
            file.sync()?;
            self.segments.iter_mut().next_back().into_iter().for_each(|segment| segment.bytes = sound_bytes);
        }
        path.parent().map_or(Ok(()), |dir| storage.sync_dir(dir))
    }

    fn learn(&mut self, walk: &mut Walk, offset: u64, header: &Header) -> io::Result<()> {
        let checkpoint = if header.kind == Kind::Checkpoint { walk.payload(offset, header)? } else { None };
        if let Some(Ok(accepted)) = checkpoint.map(decode_checkpoint)
            && header.position >= self.end
        {
            self.accepted = accepted;
            self.end = header.position;
        }
        // What damage hid is counted with the format that reveals it.
        self.advance(header.position, header.format);
        self.advance(header.next(), header.format);
        Ok(())
    }

    fn advance(&mut self, to: Position, format: Format) {
        let accepted = &mut self.accepted[format as usize];
        *accepted = accepted.saturating_add(to.ordinal.saturating_sub(self.end.ordinal));
        self.end.ordinal = self.end.ordinal.max(to.ordinal);
        self.end.seq = self.end.seq.max(to.seq);
    }

    /// The format that brought most so far: the best guess for samples of which only a cursor tells.
    fn last_format(&self) -> usize {
        (0..Format::COUNT).max_by_key(|index| self.accepted[*index]).unwrap_or_default()
    }
}

/// Where the sound part of a segment ends: behind the last intact checkpoint, and behind the intact records that follow it
/// without a gap. What comes then was never acknowledged.
fn sound_end(walk: &mut Walk) -> io::Result<u64> {
    walk.go_to(0);
    let (mut end, mut gapless) = (0, true);
    while let Some((offset, header)) = walk.step()? {
        let intact = walk.payload(offset, &header)?.is_some();
        gapless &= intact && offset == end;
        if gapless || (intact && header.kind == Kind::Checkpoint) {
            end = walk.offset();
            gapless = true;
        }
    }
    Ok(end)
}
