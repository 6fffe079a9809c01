//! A file system in memory: it refuses what it is told to refuse, and knows what a power failure would leave.
//!
//! Bytes are safe after `sync`, names after `sync_dir`. Of everything else a power failure leaves any part, in any order:
//! [`Memory::after_power_failure`] draws one such [`Image`], [`Memory::survivors`] is the one in which nothing of it arrived.

use super::{Storage, StorageFile};
use parking_lot::{Condvar, Mutex};
use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Error numbers of Linux.
pub(crate) const EIO: i32 = 5;
#[cfg(test)]
pub(crate) const EROFS: i32 = 30;
pub(crate) const ENOSPC: i32 = 28;
pub(crate) const EDQUOT: i32 = 122;

/// What a disk writes as a whole.
const SECTOR_BYTES: usize = 512;

/// Files by path: what a disk looks like at one moment.
pub(crate) type Image = BTreeMap<PathBuf, Vec<u8>>;

/// Something that changes the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    CreateDir,
    Create,
    Append,
    Truncate,
    Sync,
    Rename,
    Remove,
    SyncDir,
}

/// A change of bytes that is not safe yet.
#[derive(Clone, Debug)]
enum Write {
    Append { at: usize, bytes: Vec<u8> },
    Truncate(usize),
}

/// A change of names that is not safe yet.
#[derive(Clone, Debug)]
enum Naming {
    CreateDir(PathBuf),
    Create(PathBuf, usize),
    Rename(PathBuf, PathBuf, usize),
    Remove(PathBuf),
}

impl Naming {
    fn dir(&self) -> Option<&Path> {
        match self {
            Self::CreateDir(path) | Self::Create(path, _) | Self::Rename(_, path, _) | Self::Remove(path) => {
                path.parent()
            }
        }
    }
}

/// What a file's name leads to.
#[derive(Clone, Debug, Default)]
struct Inode {
    live: Vec<u8>,
    durable: Vec<u8>,
    unsafe_yet: Vec<Write>,
}

/// Which changes are refused.
#[derive(Clone, Copy, Debug)]
struct Fault {
    after: u64,
    once: bool,
    errno: i32,
    /// Only of those that open a file or directory.
    opening: bool,
}

#[derive(Clone, Debug, Default)]
struct State {
    inodes: Vec<Inode>,
    live: BTreeMap<PathBuf, usize>,
    durable: BTreeMap<PathBuf, usize>,
    durable_dirs: BTreeSet<PathBuf>,
    unsafe_yet: Vec<Naming>,
    fault: Option<Fault>,
    /// The next change meets a bug.
    panics: bool,
    /// Bytes of all files together.
    capacity: Option<usize>,
    /// What cannot be read.
    bad: Vec<(PathBuf, Range<u64>)>,
    /// Every change asked for, and whether it succeeded.
    changes: Vec<(Change, PathBuf, bool)>,
    /// A note of the test, to be found in the moments.
    #[cfg(test)]
    mark: u64,
    moments: Option<Vec<Self>>,
    /// Changes of this kind wait.
    held: Option<Change>,
    /// How many do.
    waiting: usize,
}

/// See the module's documentation.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory(Arc<(Mutex<State>, Condvar)>);

#[derive(Debug)]
struct MemoryFile {
    storage: Memory,
    path: PathBuf,
    inode: usize,
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl Inode {
    /// What of the bytes a power failure leaves.
    fn after_power_failure(&self, random: &mut fastrand::Rng) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        let safe = bytes.len();
        for write in &self.unsafe_yet {
            match write {
                Write::Truncate(len) if random.bool() => bytes.truncate(*len),
                Write::Truncate(_) => {}
                Write::Append { at, bytes: new } => {
                    bytes.resize(bytes.len().max(at + new.len()), 0);
                    let mut from = *at;
                    while from < at + new.len() {
                        let until = ((from / SECTOR_BYTES + 1) * SECTOR_BYTES).min(at + new.len());
                        let sector = &mut bytes[from..until];
                        match random.u8(..10) {
                            0 => sector.fill(0),
                            1 => sector.iter_mut().for_each(|byte| *byte = random.u8(..)),
                            2 | 3 => {}
                            _ => sector.copy_from_slice(&new[from - at..until - at]),
                        }
                        from = until;
                    }
                }
            }
        }
        // The new length may have arrived, or not, or in part.
        if bytes.len() > safe && random.u8(..4) == 0 {
            bytes.truncate(random.usize(safe..=bytes.len()));
        }
        bytes
    }
}

impl State {
    fn change(&mut self, change: Change, path: &Path) -> io::Result<()> {
        assert!(!std::mem::take(&mut self.panics), "a bug");
        // What frees room is not refused for want of it.
        let frees = matches!(change, Change::Truncate | Change::Remove);
        let opens = matches!(change, Change::Create | Change::SyncDir);
        let verdict = match &mut self.fault {
            Some(Fault { opening: true, .. }) if !opens => Ok(()),
            Some(Fault { errno: ENOSPC | EDQUOT, .. }) if frees => Ok(()),
            Some(Fault { after: 0, errno, once, .. }) => {
                let error = io::Error::from_raw_os_error(*errno);
                if *once {
                    self.fault = None;
                }
                Err(error)
            }
            Some(Fault { after, .. }) => {
                *after -= 1;
                Ok(())
            }
            None => Ok(()),
        };
        self.changes.push((change, path.to_owned(), verdict.is_ok()));
        verdict
    }

    fn room(&self, bytes: usize) -> io::Result<()> {
        let held: usize = self.live.values().map(|inode| self.inodes[*inode].live.len()).sum();
        if self.capacity.is_some_and(|capacity| held + bytes > capacity) {
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        Ok(())
    }

    /// The moment before something becomes safe: the most that can still be lost.
    fn remember(&mut self) {
        if let Some(mut moments) = self.moments.take() {
            moments.push(self.clone());
            self.moments = Some(moments);
        }
    }

    fn files(&self, names: &BTreeMap<PathBuf, usize>, bytes: impl FnMut(&Inode) -> Vec<u8>) -> Image {
        let mut bytes = bytes;
        names.iter().map(|(path, inode)| (path.clone(), bytes(&self.inodes[*inode]))).collect()
    }
}

/// Names whose directories are there.
fn reachable(names: &BTreeMap<PathBuf, usize>, dirs: &BTreeSet<PathBuf>) -> BTreeMap<PathBuf, usize> {
    let root = |dir: &Path| dir.parent().is_none();
    let there = |path: &Path| path.ancestors().skip(1).all(|dir| root(dir) || dirs.contains(dir));
    names.iter().filter(|(path, _)| there(path)).map(|(path, inode)| (path.clone(), *inode)).collect()
}

impl Memory {
    pub(crate) fn from_image(image: &Image) -> Self {
        let mut state = State::default();
        for (path, bytes) in image {
            let inode = state.inodes.len();
            state.inodes.push(Inode { live: bytes.clone(), durable: bytes.clone(), unsafe_yet: Vec::new() });
            state.live.insert(path.clone(), inode);
            state.durable.insert(path.clone(), inode);
            state.durable_dirs.extend(path.ancestors().skip(1).map(Path::to_owned));
        }
        Self::of(state)
    }

    fn of(state: State) -> Self {
        Self(Arc::new((Mutex::new(state), Condvar::new())))
    }

    fn state(&self) -> parking_lot::MutexGuard<'_, State> {
        self.0.0.lock()
    }

    /// The disk, once changes of that kind may go on.
    fn when_free(&self, change: Change) -> parking_lot::MutexGuard<'_, State> {
        let mut state = self.state();
        state.waiting += 1;
        self.0.1.wait_while(&mut state, |state| state.held == Some(change));
        state.waiting -= 1;
        state
    }

    /// Lets that many changes succeed and refuses all behind them.
    pub(crate) fn fail_after(&self, after: u64, errno: i32) {
        self.state().fault = Some(Fault { after, once: false, errno, opening: false });
    }

    /// Lets that many changes succeed and refuses the one behind them.
    pub(crate) fn fail_once(&self, after: u64, errno: i32) {
        self.state().fault = Some(Fault { after, once: true, errno, opening: false });
    }

    /// Refuses nothing any more.
    pub(crate) fn recover(&self) {
        self.state().fault = None;
    }

    /// Makes the disk that large.
    pub(crate) fn resize(&self, capacity: Option<usize>) {
        self.state().capacity = capacity;
    }

    /// What a power failure would leave, in the worst order there is for the log or any other: the seed decides.
    pub(crate) fn after_power_failure(&self, seed: u64) -> Image {
        let mut random = fastrand::Rng::with_seed(seed);
        let state = self.state();
        let (mut names, mut dirs) = (state.durable.clone(), state.durable_dirs.clone());
        for naming in &state.unsafe_yet {
            if random.bool() {
                continue;
            }
            match naming {
                Naming::CreateDir(path) => drop(dirs.insert(path.clone())),
                Naming::Create(path, inode) => drop(names.insert(path.clone(), *inode)),
                Naming::Remove(path) => drop(names.remove(path)),
                Naming::Rename(from, to, inode) => {
                    names.remove(from);
                    names.insert(to.clone(), *inode);
                }
            }
        }
        state.files(&reachable(&names, &dirs), |inode| inode.after_power_failure(&mut random))
    }

    /// What a crash of the process alone would leave.
    pub(crate) fn live(&self) -> Image {
        let state = self.state();
        state.files(&state.live, |inode| inode.live.clone())
    }
}

#[cfg(test)]
impl Memory {
    /// What a power failure leaves of which nothing arrived that was not safe.
    pub(crate) fn survivors(&self) -> Image {
        let state = self.state();
        state.files(&reachable(&state.durable, &state.durable_dirs), |inode| inode.durable.clone())
    }

    /// Lets the next change panic.
    pub(crate) fn panic_next(&self) {
        self.state().panics = true;
    }

    /// From now on these bytes of the file cannot be read.
    pub(crate) fn spoil(&self, path: &Path, bytes: Range<u64>) {
        self.state().bad.push((path.to_owned(), bytes));
    }

    /// Lets changes of that kind wait until this is called with `None`.
    pub(crate) fn hold(&self, change: Option<Change>) {
        self.state().held = change;
        self.0.1.notify_all();
    }

    /// Whether something waits for [`Memory::hold`].
    pub(crate) fn is_waited_for(&self) -> bool {
        self.state().waiting > 0
    }

    /// Every change asked for so far, and whether it succeeded.
    pub(crate) fn changes(&self) -> Vec<(Change, PathBuf, bool)> {
        self.state().changes.clone()
    }

    /// Lets that many changes succeed that open a file or directory, and refuses the one behind them.
    pub(crate) fn refuse_opening(&self, after: u64, errno: i32) {
        self.state().fault = Some(Fault { after, once: true, errno, opening: true });
    }

    /// Starts to remember the moments before anything becomes safe.
    pub(crate) fn remember_moments(&self) {
        self.state().moments = Some(Vec::new());
    }

    /// Notes something that is true from now on.
    pub(crate) fn mark(&self, mark: u64) {
        self.state().mark = mark;
    }

    /// The moments, each with what was noted then, and the present.
    pub(crate) fn moments(&self) -> Vec<(u64, Self)> {
        let state = self.state();
        let present = Some(State { moments: None, ..state.clone() });
        let moments = state.moments.iter().flatten().cloned().chain(present);
        moments.map(|moment| (moment.mark, Self::of(moment))).collect()
    }
}

impl Storage for Memory {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.change(Change::CreateDir, dir)?;
        let missing = dir.ancestors().filter(|dir| !state.durable_dirs.contains(*dir)).map(Path::to_owned);
        let missing: Vec<_> = missing.map(Naming::CreateDir).collect();
        state.unsafe_yet.extend(missing);
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        let inside = state.live.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn StorageFile>> {
        let mut state = self.state();
        state.change(Change::Create, path)?;
        if state.live.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = state.inodes.len();
        state.inodes.push(Inode::default());
        state.live.insert(path.to_owned(), inode);
        state.unsafe_yet.push(Naming::Create(path.to_owned(), inode));
        Ok(Box::new(MemoryFile { storage: self.clone(), path: path.to_owned(), inode }))
    }

    fn open(&self, path: &Path, _: bool) -> io::Result<Box<dyn StorageFile>> {
        let inode = self.state().live.get(path).copied().ok_or_else(not_found)?;
        Ok(Box::new(MemoryFile { storage: self.clone(), path: path.to_owned(), inode }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.change(Change::Rename, to)?;
        let inode = state.live.remove(from).ok_or_else(not_found)?;
        state.live.insert(to.to_owned(), inode);
        state.unsafe_yet.push(Naming::Rename(from.to_owned(), to.to_owned(), inode));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.when_free(Change::Remove);
        state.change(Change::Remove, path)?;
        state.live.remove(path).ok_or_else(not_found)?;
        state.unsafe_yet.push(Naming::Remove(path.to_owned()));
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.remember();
        state.change(Change::SyncDir, dir)?;
        let inside = |path: &Path| path.parent() == Some(dir);
        state.durable.retain(|path, _| !inside(path));
        let live: Vec<_> = state.live.iter().filter(|(path, _)| inside(path)).map(|(p, i)| (p.clone(), *i)).collect();
        state.durable.extend(live);
        let (safe, unsafe_yet) =
            std::mem::take(&mut state.unsafe_yet).into_iter().partition(|naming| naming.dir() == Some(dir));
        state.unsafe_yet = unsafe_yet;
        let safe: Vec<_> = safe;
        state.durable_dirs.extend(safe.into_iter().filter_map(|naming| match naming {
            Naming::CreateDir(dir) => Some(dir),
            _ => None,
        }));
        Ok(())
    }

    fn lock(&self, _: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        Ok(Box::new(()))
    }
}

impl StorageFile for MemoryFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.storage.when_free(Change::Append);
        let verdict = state.change(Change::Append, &self.path).and_then(|()| state.room(bytes.len()));
        // Half of a refused write arrives: the worst that a disk may do.
        let written = if verdict.is_ok() { bytes } else { &bytes[..bytes.len() / 2] };
        let inode = &mut state.inodes[self.inode];
        let at = inode.live.len();
        inode.live.extend_from_slice(written);
        inode.unsafe_yet.push(Write::Append { at, bytes: written.to_vec() });
        verdict
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.storage.when_free(Change::Sync);
        state.remember();
        state.change(Change::Sync, &self.path)?;
        let inode = &mut state.inodes[self.inode];
        inode.durable = inode.live.clone();
        inode.unsafe_yet.clear();
        Ok(())
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        let mut state = self.storage.state();
        state.change(Change::Truncate, &self.path)?;
        let inode = &mut state.inodes[self.inode];
        inode.live.truncate(len as usize);
        inode.unsafe_yet.push(Write::Truncate(len as usize));
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.storage.state().inodes[self.inode].live.len() as u64)
    }

    fn read_at(&mut self, offset: u64, len: usize, into: &mut Vec<u8>) -> io::Result<()> {
        let state = self.storage.state();
        let until = offset + len as u64;
        let bad =
            |(path, bytes): &(PathBuf, Range<u64>)| *path == self.path && bytes.start < until && bytes.end > offset;
        if state.bad.iter().any(bad) {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        let live = &state.inodes[self.inode].live;
        let start = (offset as usize).min(live.len());
        let end = start.saturating_add(len).min(live.len());
        into.clear();
        into.extend_from_slice(&live[start..end]);
        Ok(())
    }
}
