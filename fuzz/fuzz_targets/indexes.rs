//! Arbitrary bytes as index files: no panic, what is accepted is written back as it was, lookups
//! are
//! what a linear search finds.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| topiclite::log_fuzzing::indexes(bytes));
