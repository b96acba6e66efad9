//! Batches against the golden vectors, the rules of the format, and damage.

use super::*;

/// Vectors that Kafka 3.9.2 parsed as valid; A and C are also what it wrote itself.
const A: &str = "00000000000000000000003a0000000002716a618900000000000000000000000003e800000000000003\
                 e8ffffffffffffffffffffffffffff0000000110000000026b027600";
const B: &str = "000000000000002a0000004a0000000702ae8037060000000000010000018bcfe568000000018bcfe568\
                 00ffffffffffffffffffffffffffff0000000216000000010a68656c6c6f0018000902066b6579010202\
                 6801";
const C: &str = "000000000000000a00000042000000000274ac036800300000000000000000000003e800000000000003\
                 e8000000000000004d0003ffffffff000000012000000008000000000c00000000000500";
const D: &str = "0000000000000064000000310000000002e638a876000000000004ffffffffffffffff00000000000004\
                 d2000000000000000900000000001400000000";

pub(super) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().map(|c| (c as char).to_digit(16).unwrap() as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

#[test]
fn golden_a_is_parsed_and_written() {
    let record = RecordInput { timestamp: 1000, key: Some(b"k"), value: Some(b"v"), headers: &[] };
    let stamp = Stamp::plain(0, 0);
    let mut single = Vec::new();
    encode_single(&mut single, &record, &stamp);
    assert_eq!(single, hex(A));
    assert_eq!(single_batch_size(&record), single.len());
    let mut builder = BatchBuilder::new(Codec::None, None).unwrap();
    builder.append(&record).unwrap();
    assert_eq!(builder.finish(&stamp).unwrap(), hex(A));

    let batch = RecordBatch::parse(&single).unwrap();
    batch.check_crc().unwrap();
    assert_eq!(batch.header().crc, 0x716a_6189);
    let mut scratch = Vec::new();
    let records: Vec<_> = batch.records(&mut scratch).unwrap().map(Result::unwrap).collect();
    let [record] = records[..] else { panic!("{records:?}") };
    assert_eq!((record.offset(), record.timestamp()), (0, 1000));
    assert_eq!((record.key(), record.value()), (Some(&b"k"[..]), Some(&b"v"[..])));
    assert!(record.headers().is_empty());
}
