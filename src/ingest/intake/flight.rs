//! The memory that requests occupy together, in shares that grow as bytes arrive.

use super::error::IntakeError;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// How long a request waits for its share of the memory in flight before it is refused.
pub(super) const FLIGHT_WAIT: Duration = Duration::from_secs(5);

/// Memory that requests occupy, all together.
#[derive(Debug)]
pub(in crate::ingest) struct Flight {
    free_kib: Arc<Semaphore>,
    kib_max: u32,
}

impl Flight {
    /// That much, all together.
    pub(in crate::ingest) fn new(bytes_max: usize) -> Self {
        let kib_max = u32::try_from(bytes_max / 1024).unwrap_or(u32::MAX).max(1);
        Self { free_kib: Arc::new(Semaphore::new(kib_max as usize)), kib_max }
    }

    /// How much there is.
    pub(in crate::ingest) fn bytes_max(&self) -> usize {
        self.kib_max as usize * 1024
    }

    /// Whether nobody has a share.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(in crate::ingest) fn is_free(&self) -> bool {
        self.free_kib.available_permits() == self.kib_max as usize
    }

    /// All of it.
    #[cfg(test)]
    pub(in crate::ingest) async fn all(&self) -> Charge {
        let mut charge = self.charge();
        charge.raise(self.kib_max as usize * 1024).await.unwrap();
        charge
    }

    /// A share of it, empty at first.
    pub(in crate::ingest) fn charge(&self) -> Charge {
        Charge { free_kib: Arc::clone(&self.free_kib), kib_max: self.kib_max, permit: None }
    }
}

/// One request's share of the memory in flight, given back when it is dropped.
#[derive(Debug)]
pub(in crate::ingest) struct Charge {
    free_kib: Arc<Semaphore>,
    kib_max: u32,
    permit: Option<OwnedSemaphorePermit>,
}

impl Charge {
    /// Waits until the share covers that many bytes. It never shrinks; what exceeds all memory is charged as all of it.
    pub(in crate::ingest) async fn raise(&mut self, bytes: usize) -> Result<(), IntakeError> {
        let wanted = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX).min(self.kib_max);
        let held = self.permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits) as u32;
        if wanted <= held {
            return Ok(());
        }
        // Requests that wait for each other's shares give up after a while, some before others.
        let more = timeout(FLIGHT_WAIT, Arc::clone(&self.free_kib).acquire_many_owned(wanted - held)).await;
        let Ok(Ok(more)) = more else { return Err(IntakeError::Overloaded) };
        match &mut self.permit {
            Some(permit) => permit.merge(more),
            none => *none = Some(more),
        }
        Ok(())
    }
}
