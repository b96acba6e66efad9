//! Arbitrary bytes as a producer snapshot: no panic, nothing out of proportion to the bytes, and
//! what is accepted is written again as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| topiclite::log_fuzzing::producer_snapshot(bytes));
