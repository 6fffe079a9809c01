//! Why an application did not give what it was asked for, or what it gave is of no use.

use super::cipher::OpenError;
use super::frame::ErrorFrame;
use crate::ingest::intake::IntakeError;
use std::time::Duration;

/// Costs that one scrape or push; the link goes on where it can.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("the connection ended")]
    Closed,
    #[error("expected an answer within {0:?}, found none")]
    Timeout(Duration),
    #[error("expected an answer to the scrape before, found none yet")]
    Stuck,
    #[error("the application answered with an error, code {:#x}: {}", .0.code, .0.message)]
    Refused(ErrorFrame),
    #[error("expected text, found an empty answer")]
    Empty,
    #[error("expected metadata that ends within its frame")]
    Malformed,
    #[error("expected at most {bytes_max} bytes (limits.max_body_bytes), found more")]
    TooLarge { bytes_max: usize },
    #[error("too much is being received at once")]
    Overloaded,
    #[error(transparent)]
    Sealed(#[from] OpenError),
    #[error("{0}")]
    Text(IntakeError),
    #[error("expected lines of text exposition, found none: {0}")]
    NoLine(String),
    #[error("the gateway met a bug of its own; please report it")]
    Bug,
}

/// All of [`Failure::name`], behind what success is called.
pub(super) const NAMES: [&str; 13] = [
    "none",
    "closed",
    "timeout",
    "stuck",
    "refused",
    "empty",
    "malformed",
    "too_large",
    "overloaded",
    "sealed",
    "text",
    "no_line",
    "bug",
];

impl Failure {
    /// The value of the label `exception`.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Timeout(_) => "timeout",
            Self::Stuck => "stuck",
            Self::Refused(_) => "refused",
            Self::Empty => "empty",
            Self::Malformed => "malformed",
            Self::TooLarge { .. } => "too_large",
            Self::Overloaded => "overloaded",
            Self::Sealed(_) => "sealed",
            Self::Text(_) => "text",
            Self::NoLine(_) => "no_line",
            Self::Bug => "bug",
        }
    }
}
