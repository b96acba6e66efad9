//! Arbitrary bytes as records of the topic of transactional ids: no panic, what decodes is encoded
//! again to bytes that decode alike, and the transactions that come of them end.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| topiclite::replay_arbitrary_transactions(bytes));
