//! The seam between the log and the disk. Every file operation of the log goes through [`Storage`], so that tests can
//! refuse any one of them and can take the picture that a power failure would leave behind.
//!
//! What an operation promises is what POSIX promises: bytes are safe after [`StorageFile::sync`], names (created, renamed,
//! removed) after [`Storage::sync_dir`]. Nothing here retries.

use std::any::Any;
use std::fmt::Debug;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// A file system, as far as the log needs one.
pub trait Storage: Debug + Send + Sync {
    /// Creates a directory and its parents.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// The names of the files in a directory, in any order.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Creates a file that must not exist yet, to append to it.
    fn create(&self, path: &Path) -> io::Result<Box<dyn StorageFile>>;
    /// Opens a file; it is written only by recovery.
    fn open(&self, path: &Path, writable: bool) -> io::Result<Box<dyn StorageFile>>;
    /// Puts a file in the place of another.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory safe.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Locks against other processes for as long as the returned value lives; [`io::ErrorKind::WouldBlock`] when taken.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any + Send + Sync>>;
}

/// One open file.
pub trait StorageFile: Debug + Send {
    /// Writes at the end. A failure may leave any part written.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes the bytes safe. After a failure nothing is known of what was not safe before.
    fn sync(&mut self) -> io::Result<()>;
    /// Cuts the file.
    fn truncate(&mut self, len: u64) -> io::Result<()>;
    /// The length of the file.
    fn size(&self) -> io::Result<u64>;
    /// Reads up to `len` bytes from `offset` into the emptied buffer; fewer only at the end of the file.
    fn read_at(&mut self, offset: u64, len: usize, into: &mut Vec<u8>) -> io::Result<()>;
}

/// Removes a file that may be gone.
pub(crate) fn remove(storage: &dyn Storage, path: &Path) -> io::Result<()> {
    storage.remove(path).or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

/// The file that [`replace`] writes first.
pub(crate) fn temporary(path: &Path) -> PathBuf {
    path.with_extension("tmp")
}

/// Puts a file of those bytes in the place of another as a whole; when it returns, a power failure leaves it there, if that is
/// wanted. What a crash left unfinished is replaced by the next call.
pub(crate) fn replace(storage: &dyn Storage, path: &Path, bytes: &[u8], safely: bool) -> io::Result<()> {
    let temporary = temporary(path);
    remove(storage, &temporary)?;
    let replaced = (|| {
        let mut file = storage.create(&temporary)?;
        file.append(bytes)?;
        if safely {
            file.sync()?;
        }
        storage.rename(&temporary, path)?;
        if safely { storage.sync_dir(path.parent().unwrap_or(Path::new("."))) } else { Ok(()) }
    })();
    // On a full disk, what was begun is in the way of others.
    replaced.inspect_err(|_| drop(storage.remove(&temporary)))
}

/// Whether an operation was refused for want of room.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Whether a file was not opened because too many are: nothing has happened, and it passes.
pub(super) fn is_out_of_files(error: &io::Error) -> bool {
    // ENFILE and EMFILE.
    matches!(error.raw_os_error(), Some(23 | 24))
}

/// Whether the disk cannot read what it holds, and trying again does not help for long.
pub(super) fn is_unreadable(error: &io::Error) -> bool {
    // EIO; EBADMSG and EUCLEAN, which file systems answer when their own checksum fails.
    matches!(error.raw_os_error(), Some(5 | 74 | 117))
}

/// The machine's file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl Storage for Disk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            // A name that is not UTF-8 is none of ours.
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn StorageFile>> {
        Ok(Box::new(OpenOptions::new().read(true).append(true).create_new(true).open(path)?))
    }

    fn open(&self, path: &Path, writable: bool) -> io::Result<Box<dyn StorageFile>> {
        Ok(Box::new(OpenOptions::new().read(true).write(writable).open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(file)),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

impl StorageFile for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&mut self, offset: u64, len: usize, into: &mut Vec<u8>) -> io::Result<()> {
        into.clear();
        self.seek(SeekFrom::Start(offset))?;
        self.take(len as u64).read_to_end(into)?;
        Ok(())
    }
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod memory;
