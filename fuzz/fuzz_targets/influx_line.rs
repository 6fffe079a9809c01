//! See `sluicegate::fuzzing::influx_line`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluicegate::fuzzing::influx_line(data));
