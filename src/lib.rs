//! sluicegate: a metrics gateway and format translator.
//!
//! A sample's walk: [`wire`] decodes a request body into a [`model`] batch, the log keeps it, and each output encodes it
//! again at its own pace. ARCHITECTURE.md tells the rest.

pub mod clock;
pub mod ledger;
pub mod model;
pub mod wire;
