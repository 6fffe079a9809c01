//! The bench harness: loads in every format, sinks that verify every sample, and a comparison of gateways.
//!
//! ```text
//! shape -> request -> load --HTTP--> gateway --HTTP--> sink -> arrivals
//!             |                         |                         |
//!           digest                   process                    digest
//! ```
//!
//! A load knows by an order-free checksum ([`digest`]) what it has sent, a sink what it has got: both are the same, or
//! something in between has lost, doubled or altered samples. What a gateway costs is read from outside of it
//! ([`process`]). Everything is bounded in count and time, and stays on this machine unless told otherwise.
//!
//! Not here: benches of single stages (`benches/`), and any number without the machine it was measured on.

pub mod arrivals;
pub mod compare;
pub mod contender;
pub mod digest;
pub mod http;
pub mod load;
pub mod machine;
pub mod process;
pub mod request;
pub mod shape;
pub mod sink;
mod snappy;
pub mod table;
#[cfg(test)]
mod tests;
