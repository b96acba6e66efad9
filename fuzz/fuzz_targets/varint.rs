//! Arbitrary bytes as variable-length integers: no panic, and what is read is written back in at
//! most as many bytes and read again as the same value.
#![no_main]

use libfuzzer_sys::fuzz_target;
use topiclite::record::varint;

fuzz_target!(|bytes: &[u8]| {
    let mut out = Vec::new();
    if let Ok((value, rest)) = varint::read_i64(bytes) {
        varint::put_i64(&mut out, value);
        assert_eq!(out.len(), varint::len_i64(value));
        assert!(out.len() <= bytes.len() - rest.len());
        assert_eq!(varint::read_i64(&out), Ok((value, &[][..])));
    }
    if let Ok((value, rest)) = varint::read_i32(bytes) {
        assert_eq!(varint::read_i64(bytes), Ok((i64::from(value), rest)));
        assert!(varint::len_i32(value) <= bytes.len() - rest.len());
    }
    assert_eq!(varint::read_u32(bytes).is_ok(), varint::read_i32(bytes).is_ok());
    assert_eq!(varint::read_u64(bytes).is_ok(), varint::read_i64(bytes).is_ok());
});
