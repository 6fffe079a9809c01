//! See `sluicegate::fuzzing::identity`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluicegate::fuzzing::identity(data));
