//! Why nothing of a request was taken: to a status, to the headers of an answer, to the reason it is counted under.

use crate::ingest::answer::{Answer, COME_AGAIN, come_again};
use crate::log::AppendError;
use crate::model::{Denied, Refusal};
use crate::wire::compression::DecompressError;
use hyper::StatusCode;
use hyper::header::{CONNECTION, HeaderValue};
use std::time::Duration;

/// Why nothing of a request was taken. Text for a person; [`IntakeError::status`] for the sender's program.
#[derive(Debug, thiserror::Error)]
pub(in crate::ingest) enum IntakeError {
    /// More bytes on the wire than allowed.
    #[error("expected at most {bytes_max} bytes of body (limits.max_body_bytes), found more")]
    TooLarge { bytes_max: usize },
    /// More bytes after decompression than allowed.
    #[error(
        "expected at most {bytes_max} bytes of body after decompression (limits.max_decompressed_bytes), found more"
    )]
    TooLargeDecompressed { bytes_max: usize },
    /// More samples than one record of the log can hold.
    #[error("the body holds more than one record of the log can take; send it in parts")]
    TooManySamples,
    /// A `Content-Encoding` that is not known, or not for this path.
    #[error("Content-Encoding {name:?} is not accepted here")]
    UnknownEncoding { name: String },
    /// A `Content-Type` that is not known.
    #[error("Content-Type {name:?} is accepted with encoding=delimited only")]
    UnknownType { name: String },
    /// Bytes that are not what their `Content-Encoding` or `Content-Type` says.
    #[error("{0}")]
    Corrupt(String),
    /// The body did not arrive in time.
    #[error("expected the body without a pause of {0:?} (limits.read_timeout), found one, or ten times that in all")]
    Slow(Duration),
    /// The connection ended before the body did.
    #[error("the body ended early")]
    Cut,
    /// Too many bytes of other requests are in flight.
    #[error("too much is being received at once")]
    Overloaded,
    /// No room for the series that a pushed group needs.
    #[error("{0}")]
    SeriesLimit(#[from] Denied),
    /// The samples of a push are in the log, and the disk does not take what is to be remembered of its group.
    #[error("the metrics are passed on, but their group cannot be saved; push again ({0})")]
    GroupNotSaved(std::io::Error),
    /// The process is near its limit of memory.
    #[error("memory is short (limits.memory_limit)")]
    Memory,
    /// The log is full.
    #[error("the log is full: an output lags or is down")]
    LogFull { retry_after: Duration },
    /// The log failed and takes no more.
    #[error("the log failed and takes nothing more")]
    LogFailed,
    /// The decoder panicked: a bug of the gateway's.
    #[error("the gateway met a bug of its own in this body; please report it")]
    Bug,
    /// The gateway is shutting down.
    #[error("the gateway is shutting down")]
    Closed,
}

impl IntakeError {
    /// The HTTP status that tells a sender whether to come again.
    pub(in crate::ingest) fn status(&self) -> StatusCode {
        match self {
            Self::TooLarge { .. } | Self::TooLargeDecompressed { .. } | Self::TooManySamples => {
                StatusCode::PAYLOAD_TOO_LARGE
            }
            Self::UnknownEncoding { .. } | Self::UnknownType { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Corrupt(_) | Self::Cut => StatusCode::BAD_REQUEST,
            Self::Bug => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Slow(_) => StatusCode::REQUEST_TIMEOUT,
            Self::LogFull { .. } | Self::SeriesLimit(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Overloaded | Self::Memory | Self::GroupNotSaved(_) | Self::LogFailed | Self::Closed => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }

    /// The answer, phrased by the ecosystem, with the headers that hold for all of them.
    pub(in crate::ingest) fn answer(&self, phrase: impl FnOnce(StatusCode, &str) -> Answer) -> Answer {
        let mut answer = phrase(self.status(), &self.to_string());
        match self {
            Self::LogFull { retry_after } => answer = come_again(answer, *retry_after),
            _ if matches!(self.status(), StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) => {
                answer = come_again(answer, COME_AGAIN);
            }
            _ => {}
        }
        if matches!(self, Self::Closed | Self::Slow(_) | Self::Cut) {
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        answer
    }

    /// What one request refused for this reason counts as: its samples cannot be told apart.
    pub(super) fn refusal(&self) -> Refusal {
        match self {
            Self::LogFull { .. } | Self::GroupNotSaved(_) | Self::LogFailed | Self::Closed => Refusal::Log,
            Self::SeriesLimit(_) => Refusal::SeriesLimit,
            Self::Overloaded | Self::Memory => Refusal::Memory,
            Self::TooLarge { .. } | Self::TooLargeDecompressed { .. } | Self::TooManySamples => Refusal::TooLong,
            Self::UnknownEncoding { .. } | Self::UnknownType { .. } => Refusal::Unsupported,
            Self::Bug => Refusal::Bug,
            Self::Corrupt(_) | Self::Slow(_) | Self::Cut => Refusal::Body,
        }
    }
}

impl From<DecompressError> for IntakeError {
    fn from(error: DecompressError) -> Self {
        match error {
            DecompressError::TooLarge { bytes_max } => Self::TooLargeDecompressed { bytes_max },
            DecompressError::Corrupt { .. } => Self::Corrupt(error.to_string()),
        }
    }
}

impl From<AppendError> for IntakeError {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Full { retry_after } => Self::LogFull { retry_after },
            AppendError::Failed(_) | AppendError::UnknownSeries => Self::LogFailed,
            AppendError::Closed => Self::Closed,
            AppendError::TooLarge { .. } => Self::TooManySamples,
        }
    }
}
