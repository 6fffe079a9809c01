//! See `sluicegate::fuzzing::translate`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluicegate::fuzzing::translate(data));
