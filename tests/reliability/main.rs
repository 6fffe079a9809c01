//! Attacks on the built binary: what was acknowledged reaches every output bit for bit, no output hurts another, and the
//! ledger balances at every look.
//!
//! Each test inflicts one fault and appends what it cost to `target/test-report/reliability.tsv`. `SLUICEGATE_LONG=1` runs
//! the long versions, `scripts/reliability` prints the table. Random moments come from a seed that is printed;
//! `SLUICEGATE_SEED` repeats them.

#![allow(
    clippy::float_cmp,
    clippy::format_collect,
    clippy::format_push_string,
    clippy::needless_pass_by_value,
    clippy::print_stdout,
    reason = "counts pass through unchanged, and a test may allocate and print"
)]

#[path = "../support"]
#[expect(dead_code, reason = "each program uses its part")]
mod support {
    pub(crate) mod component;
    pub(crate) mod counting_sink;
    pub(crate) mod destination;
    pub(crate) mod gateway;
    pub(crate) mod http;
    pub(crate) mod load;
    pub(crate) mod numbered;
    pub(crate) mod server;
    pub(crate) mod wavefront_line;
}

mod damage;
mod disk;
mod freshness;
mod isolation;
mod kill;
mod overload;
mod report;
mod sinks;
