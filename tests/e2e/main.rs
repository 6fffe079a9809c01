//! End to end: the built binary between real clients and real servers.
//!
//! A test whose server or client is not installed is skipped and says so; `scripts/test` installs them all.

#![allow(
    clippy::float_cmp,
    clippy::format_push_string,
    clippy::format_collect,
    reason = "values pass through unchanged, and a test may allocate"
)]

#[path = "../support"]
#[expect(dead_code, reason = "each program uses its part")]
mod support {
    pub(crate) mod browser;
    pub(crate) mod component;
    #[expect(dead_code, reason = "the tests of outputs use the rest")]
    pub(crate) mod destination;
    pub(crate) mod destinations;
    pub(crate) mod everywhere;
    pub(crate) mod gateway;
    pub(crate) mod http;
    pub(crate) mod server;
    pub(crate) mod wavefront_line;
    pub(crate) mod wavefront_proxy;
}

mod bad_input;
mod buttons;
mod clients;
mod counters;
mod main_job;
mod micrometer;
mod poison;
mod presets;
mod pushgateway;
mod restart;
mod rsocket;
mod servers;
mod translation;
