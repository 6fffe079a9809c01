//! What opening a log finds and mends: the position behind the last record, a torn end, and files that nobody here can read.
//!
//! Every step may be interrupted by another crash, or fail, and be done again at the next open.

use super::cursor::{self, CursorFile};
use super::damage::{Aside, Damage, Gap, TimeRange, set_aside};
use super::payload::{Accepted, decode_checkpoint};
use super::record::{Header, Kind};
use super::segment::{Segment, Walk, segment_name, segment_names, segments_dir};
use super::{Disk, LogError, Position, Seq, Storage, lock};
use crate::model::{Format, TimestampNs};
use std::collections::VecDeque;
use std::io;
use std::path::Path;

#[derive(Debug, Default)]
pub(super) struct Recovered {
    pub(super) segments: VecDeque<Segment>,
    pub(super) end: Position,
    pub(super) accepted: Accepted,
    pub(super) damage: Damage,
    /// When what lies right before `end` was appended, as far as headers tell.
    reached_at: Option<TimestampNs>,
}

/// What [`repair`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repaired {
    /// What opening the log does, too.
    pub damage: Damage,
    /// Cursors whose files were written anew, or set aside.
    pub cursors: Vec<String>,
}

/// Does at rest what opening the log would do: cuts off a torn end, sets aside what cannot be read, and writes half-damaged
/// cursor files anew. Refused while another process has the log open.
pub fn repair(dir: &Path) -> Result<Repaired, LogError> {
    segment_names(&Disk, dir)?;
    let _lock = lock(&Disk, dir)?;
    let damage = recover(&Disk, dir)?.damage;
    Ok(Repaired { damage, cursors: cursor::repair(&Disk, dir)? })
}

/// Reads the segments' beginnings and walks through the last one. A segment is never written again after a restart.
pub(super) fn recover(storage: &dyn Storage, dir: &Path) -> Result<Recovered, LogError> {
    let mut recovered = Recovered::default();
    let mut names = segment_names(storage, dir)?;
    let newest = names.last().copied();
    let mut set_aside = Ok(());
    names.retain(|name| {
        let path = segments_dir(dir).join(segment_name(*name));
        let kept = recovered.keeps(storage, &path, Some(*name) == newest);
        kept.unwrap_or_else(|error| {
            set_aside = Err(LogError::at(&path)(error));
            true
        })
    });
    set_aside?;
    for (index, name) in names.iter().enumerate() {
        let path = segments_dir(dir).join(segment_name(*name));
        recovered.add(storage, dir, *name, index + 1 == names.len()).map_err(LogError::at(&path))?;
    }
    recovered.respect_set_aside(storage, dir)?;
    let cursors = cursor::list(storage, dir)?;
    recovered.advance(cursor::furthest(&cursors), recovered.last_format());
    recovered.tell(dir, &cursors);
    Ok(recovered)
}

impl Recovered {
    /// Sets aside a segment that a later version wrote or of which nothing can be read. The newest may be a first group that
    /// never came to be, so that is for [`Recovered::mend`] to tell.
    fn keeps(&mut self, storage: &dyn Storage, path: &Path, newest: bool) -> io::Result<bool> {
        let file = storage.open(path, false)?;
        let len = file.size()?;
        let mut walk = Walk::new(file, len).lenient();
        let why = match walk.first()? {
            Some(header) if header.later => Aside::Newer,
            Some(_) => return Ok(true),
            None if walk.begins_later()? => Aside::Newer,
            None if newest => return Ok(true),
            None => Aside::Damaged,
        };
        self.damage.note_set_aside(set_aside(storage, path, why)?);
        Ok(false)
    }

    fn add(&mut self, storage: &dyn Storage, dir: &Path, name: Seq, last: bool) -> io::Result<()> {
        let path = segments_dir(dir).join(segment_name(name));
        let file = storage.open(&path, false)?;
        let len = file.size()?;
        let mut walk = Walk::new(file, len).lenient();
        let begin = walk.first()?;
        let begins_at_name = begin.is_some_and(|header| header.position.seq == name);
        // Where the beginning is damaged, the segment before tells where it was; and the last may turn out to hold nothing.
        if (last || !begins_at_name)
            && let Some(before) = self.segments.back().copied()
        {
            let file = storage.open(&segments_dir(dir).join(segment_name(before.name)), false)?;
            self.sum_up(Walk::new(file, before.bytes).lenient(), name)?;
        }
        let first = match begin {
            Some(header) if begins_at_name || self.end.seq != name => header.position,
            _ => Position { seq: name, ordinal: self.end.ordinal },
        };
        self.end = Position { seq: first.seq.max(self.end.seq), ordinal: first.ordinal.max(self.end.ordinal) };
        self.segments.push_back(Segment { name, first, bytes: len, begun: begin.map(|header| header.appended_at) });
        if last { self.mend(storage, &path, walk, len) } else { Ok(()) }
    }

    /// Learns what the headers of a segment tell of the records before `until`, without its payloads.
    fn sum_up(&mut self, mut walk: Walk, until: Seq) -> io::Result<()> {
        walk.go_to(0);
        while let Some((offset, header)) = walk.step()? {
            if header.position.seq < until || header.next().seq <= until {
                self.learn(&mut walk, offset, &header)?;
            }
        }
        Ok(())
    }

    /// What later versions wrote holds its numbers, although nothing else of it is known.
    fn respect_set_aside(&mut self, storage: &dyn Storage, dir: &Path) -> Result<(), LogError> {
        let segments = segments_dir(dir);
        for file in storage.list(&segments).map_err(LogError::at(&segments))? {
            let Some((name, _)) = file.split_once(".log.newer") else { continue };
            let path = segments.join(&file);
            let summed = storage.open(&path, false).and_then(|file| {
                let len = file.size()?;
                self.sum_up(Walk::new(file, len).lenient(), Seq::MAX)
            });
            summed.map_err(LogError::at(&path))?;
            self.end.seq = self.end.seq.max(name.parse().unwrap_or_default());
        }
        Ok(())
    }

    /// Walks through the segment written last, cuts off its torn end, and makes the rest safe.
    fn mend(&mut self, storage: &dyn Storage, path: &Path, mut walk: Walk, len: u64) -> io::Result<()> {
        let mut sound_bytes = sound_end(&mut walk)?;
        let unreadable = walk.met_unreadable();
        if unreadable {
            // What the disk does not tell now may have been acknowledged: nothing is cut.
            sound_bytes = len;
        }
        walk = Walk::new(storage.open(path, false)?, sound_bytes).lenient();
        let begin = self.end;
        let mut reached = begin;
        self.reached_at = None;
        while let Some((offset, header)) = walk.step()? {
            if header.position.seq > reached.seq {
                let appended = TimeRange::between(self.reached_at, Some(header.appended_at));
                self.damage.meet(Gap::between(reached, header.position, appended));
            }
            if header.kind == Kind::Samples && walk.payload(offset, &header)?.is_none() {
                let appended = TimeRange::at(header.appended_at);
                self.damage.meet(Gap::between(header.position, header.next(), appended));
            }
            reached = reached.max(header.next());
            self.learn(&mut walk, offset, &header)?;
        }
        self.damage.torn_bytes = len - sound_bytes;
        if self.end.seq == begin.seq {
            // Not one record: the next segment will need the name.
            self.segments.pop_back();
            if unreadable {
                self.damage.note_set_aside(set_aside(storage, path, Aside::Damaged)?);
            } else {
                storage.remove(path)?;
            }
        } else {
            // What a process that died has written may be with the operating system only: it is safe before anybody sees it.
            let mut file = storage.open(path, true)?;
            if sound_bytes < len {
                file.truncate(sound_bytes)?;
            }
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
        self.reached_at = Some(header.appended_at);
        Ok(())
    }

    fn advance(&mut self, to: Position, format: Format) {
        let accepted = &mut self.accepted[format as usize];
        *accepted = accepted.saturating_add(to.ordinal.saturating_sub(self.end.ordinal));
        self.end.ordinal = self.end.ordinal.max(to.ordinal);
        self.end.seq = self.end.seq.max(to.seq);
    }

    /// The format that brought most so far: the best guess for samples of which only a cursor tells.
    fn last_format(&self) -> Format {
        let most = (0..Format::COUNT).max_by_key(|index| self.accepted[*index]).unwrap_or_default();
        Format::ALL[most]
    }

    fn tell(&self, dir: &Path, cursors: &[CursorFile]) {
        let dir = dir.display();
        if self.damage.torn_bytes > 0 {
            let bytes = self.damage.torn_bytes;
            tracing::warn!(%dir, bytes, "the end of the log was torn by a crash and is cut off; it was never acknowledged");
        }
        for gap in &self.damage.gaps {
            tracing::error!(%dir, "{gap}");
        }
        for file in cursors.iter().filter(|file| file.state.is_ok() && !file.sound) {
            tracing::warn!(%dir, output = file.name, "the cursor's file is damaged in part, or of an older version; it is written anew");
        }
    }
}

/// Where the sound part of a segment ends: behind the last intact checkpoint, and behind the intact records that follow it
/// without a gap. What comes then was never acknowledged.
pub(super) fn sound_end(walk: &mut Walk) -> io::Result<u64> {
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
