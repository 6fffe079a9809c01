//! See `sluicegate::fuzzing::openmetrics`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluicegate::fuzzing::openmetrics(data));
