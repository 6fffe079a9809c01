//! See `sluicegate::fuzzing::prometheus_text`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluicegate::fuzzing::prometheus_text(data));
