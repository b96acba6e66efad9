//! Arbitrary bytes as record batches: no panic, no memory out of proportion, and whatever decodes
//! is encoded again to records that decode alike.
#![no_main]

use libfuzzer_sys::fuzz_target;
use topiclite::record::{
    BATCH_OVERHEAD, BatchBuilder, Codec, HeaderInput, OwnedRecord, RecordBatch, RecordInput, Stamp,
    DECOMPRESSED_MAX, crc32c, encode_single, set_log_append_time, single_batch_size,
};

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    while let Ok(batch) = RecordBatch::parse(rest) {
        let sealed = batch.check_crc().is_ok();
        let records = read(&batch);
        if sealed {
            in_place(batch.bytes());
        }
        rest = &rest[batch.bytes().len()..];
        drop(records);
    }
    // The checksum keeps a fuzzer from the records, so it is also set to what it should be.
    if bytes.len() >= BATCH_OVERHEAD {
        let mut resealed = bytes.to_vec();
        let length = i32::try_from(bytes.len() - 12).unwrap();
        resealed[8..12].copy_from_slice(&length.to_be_bytes());
        resealed[16] = 2;
        let crc = crc32c(&resealed[21..]);
        resealed[17..21].copy_from_slice(&crc.to_be_bytes());
        let batch = RecordBatch::parse(&resealed).unwrap();
        batch.check_crc().unwrap();
        for (_, record) in read(&batch) {
            encoded_again(&record);
        }
        in_place(&resealed);
    }
});

/// Everything that can be asked of a batch, up to the first fault.
fn read(batch: &RecordBatch<'_>) -> Vec<(i64, OwnedRecord)> {
    let header = batch.header();
    assert_eq!(header.size(), batch.bytes().len());
    assert_eq!(header.next_offset(), header.last_offset().wrapping_add(1));
    let _control = batch.control();
    let mut scratch = Vec::new();
    let mut found = Vec::new();
    if let Ok(records) = batch.records(&mut scratch) {
        let mut size = 0;
        for record in records.map_while(Result::ok) {
            size += record.encoded_size();
            assert_eq!(record.headers().len(), record.headers().iter().count());
            found.push((record.offset(), OwnedRecord::from(&record)));
        }
        if header.codec() == Ok(Codec::None) {
            assert!(size <= batch.payload().len());
        }
    }
    assert!(scratch.len() <= DECOMPRESSED_MAX);
    found
}

/// A record that was decoded, written in both ways and read again.
fn encoded_again(record: &OwnedRecord) {
    if record.timestamp < -1 {
        return;
    }
    let headers: Vec<HeaderInput<'_>> = record.header_inputs();
    let input = RecordInput {
        timestamp: record.timestamp,
        key: record.key.as_deref(),
        value: record.value.as_deref(),
        headers: &headers,
    };
    let stamp = Stamp::plain(7, 1);
    let mut single = Vec::new();
    encode_single(&mut single, &input, &stamp);
    assert_eq!(single.len(), single_batch_size(&input));
    let mut builder = BatchBuilder::new(Codec::None, None).unwrap();
    builder.append(&input).unwrap();
    assert_eq!(single, builder.finish(&stamp).unwrap());
    let batch = RecordBatch::parse(&single).unwrap();
    batch.check_crc().unwrap();
    assert_eq!(read(&batch), [(7, record.clone())]);
}

/// What the log changes in a stored batch leaves it readable.
fn in_place(batch: &[u8]) {
    let before = RecordBatch::parse(batch).unwrap();
    let mut changed = batch.to_vec();
    set_log_append_time(&mut changed, 5);
    let after = RecordBatch::parse(&changed).unwrap();
    after.check_crc().unwrap();
    let records = read(&after);
    assert_eq!(records.len(), read(&before).len());
    assert!(records.iter().all(|(_, record)| record.timestamp == 5));
}
