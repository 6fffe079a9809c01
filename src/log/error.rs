//! Why the log does not open, or does not take a batch.

use super::storage;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Why a log does not open, or a cursor does not.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Another process has the log open.
    #[error("{}: in use by another process", .0.display())]
    Locked(PathBuf),
    /// The disk refused an operation.
    #[error("{}: {source}", .path.display())]
    Storage {
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The cursor of that name is open already.
    #[error("cursor {0:?} is open already")]
    CursorInUse(String),
}

impl LogError {
    pub(super) fn is_disk_full(&self) -> bool {
        matches!(self, Self::Storage { source, .. } if storage::is_full(source))
    }

    pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        |source| Self::Storage { path: path.to_owned(), source }
    }
}

/// Why a batch is not in the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The log or the disk is full.
    #[error("the log is full")]
    Full {
        /// When to try again.
        retry_after: Duration,
    },
    /// A write failed, now or earlier; nothing more is accepted until a restart.
    #[error("the log has failed: {0}")]
    Failed(Arc<str>),
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
    /// The batch would be a record beyond half a segment or [`RECORD_BYTES_MAX`](super::RECORD_BYTES_MAX).
    #[error("the batch is too large for the log: {bytes} bytes, {bytes_max} allowed")]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The bound.
        bytes_max: u64,
    },
    /// The batch names a series that this log's table does not know.
    #[error("the batch was made with another series table")]
    UnknownSeries,
}
