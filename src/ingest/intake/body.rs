//! A body of HTTP to its bytes, bounded in size, time and memory; or to nothing, where its head was enough to refuse it.

use super::buffers::Buffer;
use super::error::IntakeError;
use super::flight::Charge;
use crate::ingest::Gate;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use std::time::Duration;
use tokio::time::timeout;

/// What is allocated at most on the word of a `Content-Length`. A buffer that grew beyond is not kept for the next body.
pub(in crate::ingest) const ANNOUNCED_BYTES_MAX: usize = 1 << 20;
/// A body that announces less gets a buffer of its own: memory of that size is at hand.
const BUFFERED_BYTES_MIN: usize = 64 << 10;
/// What is read and thrown away of a body that was refused by its head, so that its sender gets to read the answer.
const DISCARD_BYTES_MAX: usize = 64 << 20;
/// How long that may take.
const DISCARD_WAIT: Duration = Duration::from_secs(2);

pub(super) async fn read(
    gate: &Gate,
    body: &mut Incoming,
    gap_max: Duration,
    charge: &mut Charge,
) -> Result<Buffer, IntakeError> {
    let bytes_max = gate.limits.body_bytes_max;
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > bytes_max {
        return Err(IntakeError::TooLarge { bytes_max });
    }
    let mut buffer = if announced < BUFFERED_BYTES_MIN { Buffer::default() } else { gate.bodies.take() };
    let bytes = &mut buffer.bytes;
    bytes.clear();
    bytes.reserve_exact(announced.min(ANNOUNCED_BYTES_MAX));
    while let Some(frame) = timeout(gap_max, body.frame()).await.map_err(|_| IntakeError::Slow(gap_max))? {
        let frame = frame.map_err(|_| IntakeError::Cut)?;
        // Trailers are of no interest.
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > bytes_max {
            return Err(IntakeError::TooLarge { bytes_max });
        }
        if gate.memory.is_short() {
            return Err(IntakeError::Memory);
        }
        charge.raise(bytes.len() + data.len()).await?;
        bytes.extend_from_slice(&data);
    }
    Ok(buffer)
}

/// Reads what is left of a body that was refused. A socket closed on unread bytes is reset, and the reset can overtake the
/// answer.
pub(in crate::ingest) async fn discard(mut body: Incoming) {
    let drain = async {
        let mut bytes = 0;
        while let Some(Ok(frame)) = body.frame().await {
            bytes += frame.data_ref().map_or(0, bytes::Bytes::len);
            if bytes > DISCARD_BYTES_MAX {
                break;
            }
        }
    };
    let _ = timeout(DISCARD_WAIT, drain).await;
}
