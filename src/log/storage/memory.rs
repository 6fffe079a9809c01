//! A file system in memory that knows which bytes and names would survive a power failure.

use super::{Storage, StorageFile};
use parking_lot::Mutex;
use std::any::Any;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a file's name leads to.
#[derive(Clone, Debug, Default)]
struct Inode {
    live: Vec<u8>,
    durable: Vec<u8>,
}

type Shared = Arc<Mutex<Inode>>;

/// Files by path: what a disk looks like at one moment.
pub(crate) type Image = BTreeMap<PathBuf, Vec<u8>>;

#[derive(Debug, Default)]
struct State {
    live: BTreeMap<PathBuf, Shared>,
    durable: BTreeMap<PathBuf, Shared>,
    /// Changes that still succeed; then all fail.
    countdown: Option<u64>,
    error: Option<io::ErrorKind>,
    /// The next change meets a bug.
    panics: bool,
    /// Bytes of all files together.
    capacity: Option<usize>,
    /// What a power failure right after each sync would leave.
    images: Option<Vec<Image>>,
}

/// See the module's documentation.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory(Arc<Mutex<State>>);

#[derive(Debug)]
struct MemoryFile {
    storage: Memory,
    inode: Shared,
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl State {
    fn change(&mut self) -> io::Result<()> {
        assert!(!std::mem::take(&mut self.panics), "a bug");
        match &mut self.countdown {
            Some(0) => Err(self.error.unwrap_or(io::ErrorKind::Other).into()),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn room(&self, bytes: usize) -> io::Result<()> {
        let held: usize = self.live.values().map(|inode| inode.lock().live.len()).sum();
        if self.capacity.is_some_and(|capacity| held + bytes > capacity) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn survivors(&self) -> Image {
        self.durable.iter().map(|(path, inode)| (path.clone(), inode.lock().durable.clone())).collect()
    }

    fn remember(&mut self) {
        let image = self.survivors();
        self.images.iter_mut().for_each(|images| images.push(image.clone()));
    }
}

impl Memory {
    pub(crate) fn from_image(image: &Image) -> Self {
        let memory = Self::default();
        {
            let mut state = memory.0.lock();
            for (path, bytes) in image {
                let inode = Arc::new(Mutex::new(Inode { live: bytes.clone(), durable: bytes.clone() }));
                state.live.insert(path.clone(), Arc::clone(&inode));
                state.durable.insert(path.clone(), inode);
            }
        }
        memory
    }

    /// Lets that many changes succeed and refuses all behind them.
    pub(crate) fn fail_after(&self, changes: u64, error: io::ErrorKind) {
        let mut state = self.0.lock();
        state.countdown = Some(changes);
        state.error = Some(error);
    }

    /// Lets the next change panic.
    pub(crate) fn panic_next(&self) {
        self.0.lock().panics = true;
    }

    /// Makes the disk that large.
    pub(crate) fn resize(&self, capacity: usize) {
        self.0.lock().capacity = Some(capacity);
    }

    pub(crate) fn recover(&self) {
        self.0.lock().countdown = None;
    }

    /// Starts to take a picture at every sync.
    pub(crate) fn take_images(&self) {
        self.0.lock().images = Some(Vec::new());
    }

    pub(crate) fn images(&self) -> Vec<Image> {
        self.0.lock().images.clone().unwrap_or_default()
    }

    /// What a power failure would leave.
    pub(crate) fn survivors(&self) -> Image {
        self.0.lock().survivors()
    }

    /// What a crash of the process alone would leave.
    pub(crate) fn live(&self) -> Image {
        self.0.lock().live.iter().map(|(path, inode)| (path.clone(), inode.lock().live.clone())).collect()
    }
}

impl Storage for Memory {
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        self.0.lock().change()
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.0.lock();
        let inside = state.live.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn StorageFile>> {
        let mut state = self.0.lock();
        state.change()?;
        if state.live.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = Shared::default();
        state.live.insert(path.to_owned(), Arc::clone(&inode));
        Ok(Box::new(MemoryFile { storage: self.clone(), inode }))
    }

    fn open(&self, path: &Path, _: bool) -> io::Result<Box<dyn StorageFile>> {
        let inode = self.0.lock().live.get(path).cloned().ok_or_else(not_found)?;
        Ok(Box::new(MemoryFile { storage: self.clone(), inode }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.change()?;
        let inode = state.live.remove(from).ok_or_else(not_found)?;
        state.live.insert(to.to_owned(), inode);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.change()?;
        state.live.remove(path).map(drop).ok_or_else(not_found)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.change()?;
        let inside = |path: &Path| path.parent() == Some(dir);
        state.durable.retain(|path, _| !inside(path));
        let live: Vec<_> =
            state.live.iter().filter(|(path, _)| inside(path)).map(|(p, i)| (p.clone(), i.clone())).collect();
        state.durable.extend(live);
        state.remember();
        Ok(())
    }

    fn lock(&self, _: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        Ok(Box::new(()))
    }
}

impl StorageFile for MemoryFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.storage.0.lock();
        let verdict = state.change().and_then(|()| state.room(bytes.len()));
        drop(state);
        // Half of a refused write arrives: the worst that a disk may do.
        let written = if verdict.is_ok() { bytes.len() } else { bytes.len() / 2 };
        self.inode.lock().live.extend_from_slice(&bytes[..written]);
        verdict
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.storage.0.lock();
        state.change()?;
        {
            let mut inode = self.inode.lock();
            inode.durable = inode.live.clone();
        }
        state.remember();
        Ok(())
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.inode.lock().live.truncate(len as usize);
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.inode.lock().live.len() as u64)
    }

    fn read_at(&mut self, offset: u64, len: usize, into: &mut Vec<u8>) -> io::Result<()> {
        let inode = self.inode.lock();
        let start = (offset as usize).min(inode.live.len());
        let end = start.saturating_add(len).min(inode.live.len());
        into.clear();
        into.extend_from_slice(&inode.live[start..end]);
        Ok(())
    }
}
