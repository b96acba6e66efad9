//! Bytes as the files of a partition: opened, read whole, repaired, opened again to the same.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| topiclite::log_fuzzing::segment_recover(bytes));
