//! Arbitrary bytes as the snapshot of a table: no panic, nothing out of proportion to the bytes,
//! and what is accepted is written again to a file that is read as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| topiclite::table_fuzzing::table_snapshot(bytes));
