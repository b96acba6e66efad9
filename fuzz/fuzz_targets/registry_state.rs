//! Arbitrary bytes as the registry of topics and as the state file: no panic, nothing out of
//! proportion, what is accepted is written to bytes that are read as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| topiclite::broker_fuzzing::registry_state(bytes));
