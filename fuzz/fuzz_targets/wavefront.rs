//! See `sluicegate::fuzzing::wavefront`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluicegate::fuzzing::wavefront(data));
