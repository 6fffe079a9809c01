//! Reads the log for a dispatcher in a task of its own, a little ahead, so that waiting for it can be given up at any point.

use crate::log::{Entry, ReadError, Reader};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::task::AbortOnDropHandle;

/// Bytes of batches that are read ahead; of larger ones, each is read when the one before is encoded.
const AHEAD_BYTES_MAX: usize = 1 << 20;

/// An entry, and the room it takes until it is encoded.
pub(super) type Read = (Entry, OwnedSemaphorePermit);

/// See the module's documentation; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Ahead {
    /// `None` when the log was closed and read to its end.
    entries: mpsc::Receiver<Option<Read>>,
    _reading: AbortOnDropHandle<()>,
}

impl Ahead {
    pub(super) fn of(reader: Reader) -> Self {
        let (entries, reading) = read_ahead(reader);
        Self { entries, _reading: reading }
    }
}

/// The next entry, once it is read; for ever without a task that reads.
pub(super) async fn next(ahead: Option<&mut Ahead>) -> Option<Option<Read>> {
    match ahead {
        Some(ahead) => ahead.entries.recv().await,
        None => std::future::pending().await,
    }
}

fn read_ahead(mut reader: Reader) -> (mpsc::Receiver<Option<Read>>, AbortOnDropHandle<()>) {
    const PAUSE: Duration = Duration::from_secs(1);
    // One waits while another is encoded.
    let (sender, receiver) = mpsc::channel(1);
    let room = Arc::new(Semaphore::new(AHEAD_BYTES_MAX));
    let reading = tokio::spawn(async move {
        loop {
            let Ok(mut taken) = Arc::clone(&room).acquire_owned().await else { return };
            match reader.next().await {
                Ok(entry) => {
                    let bytes = match &entry {
                        Entry::Record(record) => record.batch.bytes().clamp(1, AHEAD_BYTES_MAX),
                        Entry::Lost { .. } => 1,
                    };
                    let more = Arc::clone(&room).acquire_many_owned(bytes as u32 - 1).await;
                    taken.merge(match more {
                        Ok(more) => more,
                        Err(_) => return,
                    });
                    if sender.send(Some((entry, taken))).await.is_err() {
                        return;
                    }
                }
                Err(ReadError::Closed) => {
                    let _ = sender.send(None).await;
                    return;
                }
                Err(error) => {
                    tracing::error!(%error, "the log cannot be read; trying again");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    });
    (receiver, AbortOnDropHandle::new(reading))
}
