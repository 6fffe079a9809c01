//! Buffers that outlive their request: memory that is new costs a page fault every 4 KiB.
//!
//! At most [`PLACES`] buffers are kept or lent at a time, so that senders who take long over their bodies hold no more memory
//! than that beside their share of what is in flight. Whoever comes when all places are taken gets a buffer of its own.

use parking_lot::Mutex;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Buffers that are kept or lent.
const PLACES: usize = 8;

/// Buffers of one purpose.
#[derive(Debug)]
pub(in crate::ingest) struct Buffers {
    kept: Mutex<Vec<Vec<u8>>>,
    places: Arc<Semaphore>,
    /// A larger one is not kept.
    bytes_max: usize,
}

/// A buffer. What it holds at first is of no meaning.
#[derive(Debug, Default)]
pub(in crate::ingest) struct Buffer {
    pub(super) bytes: Vec<u8>,
    place: Option<OwnedSemaphorePermit>,
}

impl Buffers {
    /// Buffers of which those up to that size are kept.
    pub(in crate::ingest) fn new(bytes_max: usize) -> Self {
        Self { kept: Mutex::default(), places: Arc::new(Semaphore::new(PLACES)), bytes_max }
    }

    pub(super) fn take(&self) -> Buffer {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else { return Buffer::default() };
        let bytes = self.kept.lock().pop().unwrap_or_default();
        Buffer { bytes, place: Some(place) }
    }

    /// Keeps a buffer for the next request. One that is dropped instead gives its memory back.
    pub(super) fn keep(&self, buffer: Buffer) {
        if buffer.place.is_some() && buffer.bytes.capacity() <= self.bytes_max {
            self.kept.lock().push(buffer.bytes);
        }
    }
}

impl From<Vec<u8>> for Buffer {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, place: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_are_kept_and_lent_than_there_are_places() {
        let buffers = Buffers::new(1000);
        let take = || -> Vec<Buffer> {
            let taken = (0..PLACES + 2).map(|_| buffers.take());
            taken
                .map(|mut buffer| {
                    buffer.bytes.resize(500, 7);
                    buffer
                })
                .collect()
        };
        for buffer in take() {
            buffers.keep(buffer);
        }
        assert_eq!(buffers.kept.lock().len(), PLACES);
        let lent = take();
        assert_eq!(buffers.kept.lock().len(), 0);
        drop(lent);
        let mut large = buffers.take();
        assert!(large.place.is_some(), "places come back");
        large.bytes.resize(2000, 7);
        buffers.keep(large);
        buffers.keep(Buffer::from(vec![7; 10]));
        assert_eq!(buffers.kept.lock().len(), 0);
    }
}
