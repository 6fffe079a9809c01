//! See `sluicegate::fuzzing::remote_write`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluicegate::fuzzing::remote_write(data));
