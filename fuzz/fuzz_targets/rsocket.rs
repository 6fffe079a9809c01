//! See `sluicegate::fuzzing::rsocket`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluicegate::fuzzing::rsocket(data));
