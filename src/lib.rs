//! sluicegate: a metrics gateway and format translator.
//!
//! A sample's walk: [`ingest`] reads a request, [`wire`] decodes it into a [`model`] batch, the [`log`] keeps it and the
//! client is answered, and each [`output`] encodes it again and sends it at its own pace. ARCHITECTURE.md tells the rest.

pub mod bench;
pub mod cli;
pub mod clock;
pub mod config;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod gateway;
pub mod ingest;
pub mod ledger;
pub mod log;
pub mod memory;
pub mod micrometer;
pub mod model;
pub mod open_files;
pub mod output;
pub mod relabel;
pub mod telemetry;
pub mod ui;
pub mod wire;
