//! See `sluicegate::fuzzing::metric_families`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluicegate::fuzzing::metric_families(data));
