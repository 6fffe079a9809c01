//! Cursors: the places of outputs, by name, and the ledger of what became of everything before them.
//!
//! One JSON file each, replaced as a whole: temporary file, fsync, rename, fsync of the directory. A file that cannot be
//! understood stops the start instead of sending everything again or skipping anything.

use super::{Disk, LogError, Position, Reader, Seq, Shared, Storage};
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

/// A cursor as the log keeps it in memory.
#[derive(Debug)]
pub(super) struct Slot {
    state: CursorState,
    /// What the file says.
    saved: CursorState,
    open: bool,
}

impl Slot {
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
                let state = load_or_create(shared, name)?;
                let slot = Slot { saved: state.clone(), state, open: true };
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
        Reader::new(Arc::clone(&self.shared), self.state().position())
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

/// A cursor that was never there before.
fn fresh(oldest: Position) -> CursorState {
    let mut dropped = BTreeMap::new();
    if oldest.ordinal > 0 {
        dropped.insert(Loss::BeforeOutput.as_str().to_owned(), oldest.ordinal);
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

fn path_of(dir: &Path, name: &str) -> PathBuf {
    cursors_dir(dir).join(encoded_name(name) + EXTENSION)
}

fn load_or_create(shared: &Shared, name: &str) -> Result<CursorState, LogError> {
    let path = path_of(&shared.config.dir, name);
    if let Some(saved) = load_file(&*shared.storage, &path)? {
        return Ok(saved);
    }
    let fresh = fresh(shared.state.lock().oldest());
    replace(&*shared.storage, &shared.config.dir, name, &fresh).map_err(LogError::at(&path))?;
    Ok(fresh)
}

fn load_file(storage: &dyn Storage, path: &Path) -> Result<Option<CursorState>, LogError> {
    let mut bytes = Vec::new();
    match storage.open(path, false).and_then(|mut file| file.read_at(0, FILE_BYTES_MAX, &mut bytes)) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(LogError::at(path)(error)),
    }
    let broken = |why: String| LogError::CursorFile { path: path.to_owned(), why };
    let state: CursorState = serde_json::from_slice(&bytes).map_err(|error| broken(error.to_string()))?;
    if state.adds_up() { Ok(Some(state)) } else { Err(broken("delivered and dropped are not the ordinal".to_owned())) }
}

/// The furthest place that any cursor file tells of: what lies before it was given out once.
pub(super) fn furthest(storage: &dyn Storage, dir: &Path) -> Result<Position, LogError> {
    let mut furthest = Position::default();
    for (_, state) in list(storage, dir)? {
        furthest.seq = furthest.seq.max(state.seq);
        furthest.ordinal = furthest.ordinal.max(state.ordinal);
    }
    Ok(furthest)
}

/// The cursors of the log in that directory, by name, as their files have them. Reads only.
pub fn cursors(dir: &Path) -> Result<Vec<(String, CursorState)>, LogError> {
    list(&Disk, dir)
}

pub(super) fn list(storage: &dyn Storage, dir: &Path) -> Result<Vec<(String, CursorState)>, LogError> {
    let dir = cursors_dir(dir);
    let mut cursors = Vec::new();
    for file in storage.list(&dir).map_err(LogError::at(&dir))? {
        let Some(encoded) = file.strip_suffix(EXTENSION) else { continue };
        if let Some(state) = load_file(storage, &dir.join(&file))? {
            cursors.push((decoded_name(encoded), state));
        }
    }
    cursors.sort_by(|(left, _), (right, _)| left.cmp(right));
    Ok(cursors)
}

fn save(shared: &Shared, name: &str, state: &CursorState) -> Result<(), LogError> {
    let path = path_of(&shared.config.dir, name);
    replace(&*shared.storage, &shared.config.dir, name, state).map_err(LogError::at(&path))
}

/// Replaces a cursor's file as a whole.
pub(super) fn replace(storage: &dyn Storage, dir: &Path, name: &str, state: &CursorState) -> io::Result<()> {
    let path = path_of(dir, name);
    let temporary = path.with_extension("tmp");
    match storage.remove(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = storage.create(&temporary)?;
    file.append(&serde_json::to_vec(state)?)?;
    file.sync()?;
    storage.rename(&temporary, &path)?;
    storage.sync_dir(&cursors_dir(dir))
}

/// Saves every cursor that moved since it was saved last. The caller holds the upkeep lock.
pub(super) fn save_moved(shared: &Shared) -> Result<(), LogError> {
    let moved: Vec<_> = {
        let state = shared.state.lock();
        let moved = state.cursors.iter().filter(|(_, slot)| slot.state != slot.saved);
        moved.map(|(name, slot)| (name.clone(), slot.state.clone())).collect()
    };
    for (name, state) in moved {
        save(shared, &name, &state)?;
        if let Some(slot) = shared.state.lock().cursors.get_mut(&name) {
            slot.saved = state;
        }
    }
    Ok(())
}
