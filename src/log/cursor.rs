//! Cursors: the places of outputs, by name, and the ledger of what became of everything before them.
//!
//! One file each, replaced as a whole: temporary file, fsync, rename, fsync of the directory. It holds the same line of JSON
//! twice, each guarded by its own checksum, so that damage to one is repaired from the other:
//!
//! ```text
//! {"version":2,"crc32c":N,"state":{"seq":N,"ordinal":N,"delivered":N,"dropped":{"reason":N}},"log_end":{"seq":N,"ordinal":N}}
//! ```
//!
//! * Version 1 (sluicegate 0.1.0) was the bare `state`, once and without a checksum; it is read and replaced.
//! * `log_end` is how far the log had come, so that losing the newest segment is noticed and counted. It is brought up to
//!   date whenever the cursor is saved, when a segment begins, and when the log closes. All zero: not told (version 1), or the
//!   log went on without this cursor, so that what is missing when it comes back was trimmed in good order.
//! * A file of which nothing can be read, or of a later version, never stops the start and is never overwritten: it is set
//!   aside, the output starts from the oldest record kept, and what lies before counts as [`Loss::CursorDamaged`].

use super::damage::{Aside, set_aside};
use super::shared::Shared;
use super::storage::{is_full, is_unreadable};
use super::{Disk, LogError, Position, Reader, Seq, Storage};
use crate::model::Loss;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Cursor files are far smaller; what is larger is not one.
const FILE_BYTES_MAX: usize = 1 << 20;
const EXTENSION: &str = ".json";
const VERSION: u64 = 2;
/// How each line begins. It cannot stand inside of one: names of reasons have no quotes that are not escaped.
const LINE_BEGINS: &[u8] = br#"{"version":"#;
/// A dot would allow `..`, and names that end in `.tmp` would meet the temporary files.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_');

pub(super) fn cursors_dir(dir: &Path) -> PathBuf {
    dir.join("cursors")
}

/// Where an output stands and what became of all samples before: `delivered` and `dropped` together are `ordinal`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CursorState {
    /// Every record before this one is acknowledged.
    pub seq: Seq,
    /// Samples before it.
    pub ordinal: u64,
    /// Samples that the destination took.
    pub delivered: u64,
    /// Samples that it did not get, by [`Loss`] name.
    pub dropped: BTreeMap<String, u64>,
}

impl CursorState {
    /// Its place.
    pub fn position(&self) -> Position {
        Position { seq: self.seq, ordinal: self.ordinal }
    }

    /// Whether every sample before it is accounted for.
    pub fn adds_up(&self) -> bool {
        let parts = self.dropped.values().try_fold(self.delivered, |sum, count| sum.checked_add(*count));
        parts == Some(self.ordinal)
    }
}

/// A line of a cursor's file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    version: u64,
    crc32c: u32,
    state: CursorState,
    log_end: Position,
}

impl Line {
    fn new(state: CursorState, log_end: Position) -> Self {
        let mut line = Self { version: VERSION, crc32c: 0, state, log_end };
        line.crc32c = line.checksum();
        line
    }

    /// A cursor's file.
    fn twice(&self) -> io::Result<Vec<u8>> {
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        Ok(line.repeat(2))
    }

    /// Over what it means rather than how it is spelt.
    fn checksum(&self) -> u32 {
        let meaning = (self.version, &self.state, self.log_end);
        serde_json::to_vec(&meaning).map_or(0, |bytes| crc32c::crc32c(&bytes))
    }
}

/// A cursor's file, as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CursorFile {
    /// The cursor's name.
    pub name: String,
    /// Where it stands; else why that cannot be read.
    pub state: Result<CursorState, Aside>,
    /// How far the log had come when it was saved, as far as the file tells.
    pub log_end: Position,
    /// Whether all of the file is as this version writes it; if not, it is written anew.
    pub sound: bool,
}

/// A cursor as the log keeps it in memory.
#[derive(Debug)]
pub(super) struct Slot {
    state: CursorState,
    /// What the file says.
    saved: CursorState,
    /// Up to where the file says that the log had come.
    saved_end: Position,
    /// Whether the file needs to be written even if nothing moves.
    unsound: bool,
    /// Whether the log ran without this cursor before it was opened: what is missing then was trimmed in good order.
    was_absent: bool,
    open: bool,
}

impl Slot {
    #[cfg(test)]
    pub(super) fn live(&self) -> &CursorState {
        &self.state
    }

    /// What is acknowledged, though perhaps not saved.
    pub(super) fn live_seq(&self) -> Seq {
        self.state.seq
    }

    /// What the log must keep for this cursor, even if the process dies now.
    pub(super) fn saved_seq(&self) -> Seq {
        self.saved.seq
    }
}

/// An output's place in the log. While the process lives it holds the records behind it in the log, even when dropped;
/// only [`Cursor::release`] lets them go.
#[derive(Debug)]
pub struct Cursor {
    shared: Arc<Shared>,
    name: String,
}

impl Cursor {
    pub(super) fn open(shared: &Arc<Shared>, name: &str) -> Result<Self, LogError> {
        let _no_trimming_meanwhile = shared.upkeep.lock();
        let reopened = shared.state.lock().cursors.get_mut(name).map(|slot| std::mem::replace(&mut slot.open, true));
        match reopened {
            Some(true) => return Err(LogError::CursorInUse(name.to_owned())),
            Some(false) => {}
            None => {
                let slot = load_or_create(shared, name)?;
                shared.state.lock().cursors.insert(name.to_owned(), slot);
            }
        }
        Ok(Self { shared: Arc::clone(shared), name: name.to_owned() })
    }

    /// The name it was opened by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it stands.
    pub fn state(&self) -> CursorState {
        self.shared.state.lock().cursors.get(&self.name).map(|slot| slot.state.clone()).unwrap_or_default()
    }

    /// A reader that begins where the cursor stands.
    pub fn reader(&self) -> Reader {
        let was_absent = self.shared.state.lock().cursors.get(&self.name).is_some_and(|slot| slot.was_absent);
        Reader::new(Arc::clone(&self.shared), self.state().position(), was_absent)
    }

    /// Moves it forward; saved within [`super::UPKEEP_INTERVAL`]. False, and nothing happens, when the state goes back, goes
    /// beyond the log, or does not add up.
    #[must_use]
    pub fn acknowledge(&self, to: CursorState) -> bool {
        let mut state = self.shared.state.lock();
        let end = state.end;
        let Some(slot) = state.cursors.get_mut(&self.name) else { return false };
        let sound = to.adds_up()
            && (slot.state.seq..=end.seq).contains(&to.seq)
            && (slot.state.ordinal..=end.ordinal).contains(&to.ordinal);
        if sound {
            slot.state = to;
            state.trimming = true;
        }
        sound
    }

    /// Stops to hold the log back: the output is gone. Its file stays, should it come back.
    pub fn release(self) {
        self.shared.upkeep();
        self.shared.state.lock().cursors.remove(&self.name);
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        if let Some(slot) = self.shared.state.lock().cursors.get_mut(&self.name) {
            slot.open = false;
        }
    }
}

/// A cursor that begins at the oldest record.
fn fresh(oldest: Position, why: Loss) -> CursorState {
    let mut dropped = BTreeMap::new();
    if oldest.ordinal > 0 {
        dropped.insert(why.as_str().to_owned(), oldest.ordinal);
    }
    CursorState { seq: oldest.seq, ordinal: oldest.ordinal, delivered: 0, dropped }
}

/// A name of an output as it stands in file names: percent-encoded, without dots.
pub fn encoded_name(name: &str) -> String {
    utf8_percent_encode(name, ENCODED).to_string()
}

/// The name that is encoded so.
pub fn decoded_name(encoded: &str) -> String {
    percent_decode_str(encoded).decode_utf8_lossy().into_owned()
}

fn file_name(name: &str) -> String {
    encoded_name(name) + EXTENSION
}

fn path_of(dir: &Path, name: &str) -> PathBuf {
    cursors_dir(dir).join(file_name(name))
}

fn load_or_create(shared: &Shared, name: &str) -> Result<Slot, LogError> {
    let (storage, dir) = (&*shared.storage, &shared.config.dir);
    let path = path_of(dir, name);
    match load(storage, &path, name)? {
        Some(CursorFile { state: Ok(state), log_end, sound, .. }) => {
            let was_absent = log_end == Position::default();
            return Ok(Slot {
                saved: state.clone(),
                state,
                saved_end: log_end,
                unsound: !sound,
                was_absent,
                open: true,
            });
        }
        Some(CursorFile { state: Err(why), .. }) => {
            let aside = set_aside(storage, &path, why).map_err(LogError::at(&path))?;
            shared.state.lock().damage.note_set_aside(aside);
        }
        None => {}
    }
    // Looked for, and not remembered: a crash may have come between setting aside and creating.
    let file = file_name(name);
    let kept = storage.list(&cursors_dir(dir)).map_err(LogError::at(&path))?;
    let damaged = kept.iter().any(|kept| Aside::name_before(kept) == Some(&file));
    let why = if damaged { Loss::CursorDamaged } else { Loss::BeforeOutput };
    let (oldest, end) = {
        let state = shared.state.lock();
        (state.oldest(), state.end)
    };
    let state = fresh(oldest, why);
    if damaged {
        tracing::error!(
            output = name,
            samples = oldest.ordinal,
            reason = why.as_str(),
            "the cursor of this output was damaged: it begins at the oldest record kept, and sends again what it sent"
        );
    }
    match replace(storage, dir, name, &state, end) {
        Ok(()) => {
            Ok(Slot { saved: state.clone(), state, saved_end: end, unsound: false, was_absent: false, open: true })
        }
        // Upkeep saves it as soon as there is room; until then it holds the whole log.
        Err(error) if is_full(&error) => {
            tracing::warn!(output = name, %error, "the cursor of this output could not be saved yet");
            Ok(Slot {
                saved: CursorState::default(),
                state,
                saved_end: end,
                unsound: true,
                was_absent: false,
                open: true,
            })
        }
        Err(error) => Err(LogError::at(&path)(error)),
    }
}

/// Takes the log's end out of the file of a cursor that this run of the log goes on without: should it come back, what is
/// missing was trimmed in good order.
pub(super) fn abandon(shared: &Shared, name: &str, state: &CursorState) -> Result<(), LogError> {
    let path = path_of(&shared.config.dir, name);
    let replaced = replace(&*shared.storage, &shared.config.dir, name, state, Position::default());
    replaced.map_err(LogError::at(&path))
}

/// The cursor in that file; none when there is no file.
fn load(storage: &dyn Storage, path: &Path, name: &str) -> Result<Option<CursorFile>, LogError> {
    let mut bytes = Vec::new();
    match storage.open(path, false).and_then(|mut file| file.read_at(0, FILE_BYTES_MAX, &mut bytes)) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if is_unreadable(&error) => bytes.clear(),
        Err(error) => return Err(LogError::at(path)(error)),
    }
    Ok(Some(parse(&bytes, name.to_owned())))
}

fn parse(bytes: &[u8], name: String) -> CursorFile {
    let mut lines = Vec::new();
    let mut later = false;
    for at in memchr::memmem::find_iter(bytes, LINE_BEGINS) {
        // A value ends where its braces do, whatever comes behind it.
        let text = &bytes[at..];
        let line = serde_json::Deserializer::from_slice(text).into_iter::<Line>().next();
        lines
            .extend(line.and_then(Result::ok).filter(|line| line.version == VERSION && line.crc32c == line.checksum()));
        let any = serde_json::Deserializer::from_slice(text).into_iter::<serde_json::Value>().next();
        later |= any.and_then(Result::ok).is_some_and(|any| any["version"].as_u64() > Some(VERSION));
    }
    let sound = lines.first().and_then(|line| line.twice().ok()).is_some_and(|written| written == bytes);
    let line = lines.into_iter().next().filter(|line| line.state.adds_up());
    let first_version = || serde_json::from_slice(bytes).ok().filter(CursorState::adds_up);
    let (state, log_end) = if let Some(line) = line {
        (Ok(line.state), line.log_end)
    } else {
        let why = if later { Aside::Newer } else { Aside::Damaged };
        (first_version().ok_or(why), Position::default())
    };
    CursorFile { name, state, log_end, sound }
}

/// The furthest place that any cursor file tells of: what lies before it was given out once.
pub(super) fn furthest(files: &[CursorFile]) -> Position {
    let mut furthest = Position::default();
    for file in files {
        for place in file.state.iter().map(CursorState::position).chain([file.log_end]) {
            furthest.seq = furthest.seq.max(place.seq);
            furthest.ordinal = furthest.ordinal.max(place.ordinal);
        }
    }
    furthest
}

/// The cursors of the log in that directory, by name, as their files have them. Reads only.
pub fn cursors(dir: &Path) -> Result<Vec<CursorFile>, LogError> {
    list(&Disk, dir)
}

pub(super) fn list(storage: &dyn Storage, dir: &Path) -> Result<Vec<CursorFile>, LogError> {
    let dir = cursors_dir(dir);
    let mut cursors = Vec::new();
    for file in storage.list(&dir).map_err(LogError::at(&dir))? {
        let Some(encoded) = file.strip_suffix(EXTENSION) else { continue };
        cursors.extend(load(storage, &dir.join(&file), &decoded_name(encoded))?);
    }
    cursors.sort_by(|left, right| left.name.cmp(&right.name));
    Ok(cursors)
}

/// Sets files aside that cannot be read, and writes those anew that are damaged in part: their names.
pub(super) fn repair(storage: &dyn Storage, dir: &Path) -> Result<Vec<String>, LogError> {
    let mut repaired = Vec::new();
    for file in list(storage, dir)?.into_iter().filter(|file| !file.sound) {
        let path = path_of(dir, &file.name);
        let done = match &file.state {
            Ok(state) => replace(storage, dir, &file.name, state, file.log_end),
            Err(why) => set_aside(storage, &path, *why).map(drop),
        };
        done.map_err(LogError::at(&path))?;
        repaired.push(file.name);
    }
    Ok(repaired)
}

/// Replaces a cursor's file as a whole.
pub(super) fn replace(
    storage: &dyn Storage,
    dir: &Path,
    name: &str,
    state: &CursorState,
    log_end: Position,
) -> io::Result<()> {
    super::replace(storage, &path_of(dir, name), &Line::new(state.clone(), log_end).twice()?, true)
}

/// Saves every cursor whose file is behind, whatever becomes of the others; the errors. The caller holds the upkeep lock.
pub(super) fn save_moved(shared: &Shared) -> Vec<LogError> {
    let (moved, end) = {
        let state = shared.state.lock();
        let newest = state.segments.back().map_or(state.end, |segment| segment.first);
        let told = if state.closed { state.end } else { newest };
        let behind = |slot: &Slot| slot.state != slot.saved || slot.unsound || slot.saved_end.seq < told.seq;
        let moved = state.cursors.iter().filter(|(_, slot)| behind(slot));
        let moved: Vec<_> = moved.map(|(name, slot)| (name.clone(), slot.state.clone())).collect();
        (moved, state.end)
    };
    let mut errors = Vec::new();
    for (name, state) in moved {
        let path = path_of(&shared.config.dir, &name);
        match replace(&*shared.storage, &shared.config.dir, &name, &state, end).map_err(LogError::at(&path)) {
            Ok(()) => {
                if let Some(slot) = shared.state.lock().cursors.get_mut(&name) {
                    (slot.saved, slot.saved_end, slot.unsound) = (state, end, false);
                }
            }
            Err(error) => errors.push(error),
        }
    }
    errors
}
