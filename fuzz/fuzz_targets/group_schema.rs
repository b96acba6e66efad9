//! Arbitrary bytes as records of the offsets topic: no panic, what decodes is encoded again to
//! bytes that decode alike, and the groups that come of them live and end.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| topiclite::replay_arbitrary(bytes));
