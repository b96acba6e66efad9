//! Arbitrary bytes as checkpoint and properties files: no panic, what is accepted is written to a
//! text
//! that is read as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| topiclite::log_fuzzing::checkpoint(bytes));
