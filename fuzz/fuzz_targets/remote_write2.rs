//! See `sluicegate::fuzzing::remote_write2`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluicegate::fuzzing::remote_write2(data));
