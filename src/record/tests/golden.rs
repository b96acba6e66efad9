//! The four vectors, both ways.

use super::*;

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
    assert_eq!(builder.uncompressed_size(), single.len());
    assert_eq!(builder.finish(&stamp).unwrap(), hex(A));

    let batch = RecordBatch::parse(&single).unwrap();
    batch.check_crc().unwrap();
    let header = batch.header();
    assert_eq!(header.crc, 0x716a_6189);
    assert_eq!((header.base_offset, header.last_offset(), header.next_offset()), (0, 0, 1));
    assert_eq!((header.base_timestamp, header.max_timestamp), (1000, 1000));
    assert_eq!((header.leader_epoch, header.records_count), (0, 1));
    assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (-1, -1, -1));
    assert_eq!((header.last_sequence(), header.has_producer_id()), (-1, false));
    assert_eq!(
        (header.codec(), header.timestamp_type()),
        (Ok(Codec::None), TimestampType::CreateTime)
    );
    assert!(!header.is_control() && !header.is_transactional());
    assert_eq!((header.size(), header.delete_horizon_ms()), (single.len(), None));
    assert_eq!(batch.control(), Ok(None));
    let records = read(&single).unwrap();
    let expected = OwnedRecord {
        timestamp: 1000,
        key: Some(b"k".to_vec()),
        value: Some(b"v".to_vec()),
        headers: Vec::new(),
    };
    assert_eq!(records, [(0, expected)]);
}

#[test]
fn golden_b_is_parsed_and_written() {
    let headers = [HeaderInput { name: "h", value: None }];
    let mut builder = BatchBuilder::new(Codec::None, None).unwrap();
    let first = RecordInput {
        timestamp: 1_700_000_000_000,
        value: Some(b"hello"),
        ..RecordInput::default()
    };
    let second = RecordInput {
        timestamp: 1_699_999_999_995,
        key: Some(b"key"),
        value: None,
        headers: &headers,
    };
    builder.append(&first).unwrap();
    builder.append(&second).unwrap();
    let bytes = builder.finish(&Stamp::plain(42, 7)).unwrap().to_vec();
    assert_eq!(bytes, hex(B));

    let records = read(&bytes).unwrap();
    assert_eq!(records.len(), 2);
    let (offset, hello) = &records[0];
    assert_eq!((*offset, hello.timestamp, &hello.key), (42, 1_700_000_000_000, &None));
    assert_eq!(hello.value.as_deref(), Some(&b"hello"[..]));
    let (offset, tombstone) = &records[1];
    assert_eq!((*offset, tombstone.timestamp), (43, 1_699_999_999_995));
    assert_eq!((tombstone.key.as_deref(), &tombstone.value), (Some(&b"key"[..]), &None));
    assert_eq!(tombstone.headers, [OwnedHeader { name: "h".to_owned(), value: None }]);
    assert_eq!(BatchHeader::parse(&bytes).unwrap().leader_epoch, 7);
}

#[test]
fn golden_c_is_parsed_and_written() {
    let stamp = Stamp::plain(10, 0).producer(77, 3, 5);
    let bytes = encode_marker(ControlType::Abort, 5, 1000, &stamp);
    assert_eq!(bytes[..], hex(C));
    assert_eq!(bytes.len(), MARKER_BATCH_SIZE);

    let batch = RecordBatch::parse(&bytes).unwrap();
    batch.check_crc().unwrap();
    let header = batch.header();
    assert!(header.is_control() && header.is_transactional());
    assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (77, 3, -1));
    let control = batch.control().unwrap().unwrap();
    assert_eq!(control, ControlRecord { kind: ControlType::Abort, coordinator_epoch: Some(5) });

    let commit = encode_marker(ControlType::Commit, 5, 1000, &stamp.log_append_time(9));
    let control = RecordBatch::parse(&commit).unwrap().control().unwrap().unwrap();
    assert_eq!(control.kind, ControlType::Commit);
    assert_eq!(BatchHeader::parse(&commit).unwrap().max_timestamp, 1000);
}

#[test]
fn golden_d_is_parsed_and_written() {
    let bytes = hex(D);
    let batch = RecordBatch::parse(&bytes).unwrap();
    batch.check_crc().unwrap();
    let header = *batch.header();
    assert_eq!((header.base_offset, header.last_offset(), header.next_offset()), (100, 104, 105));
    assert_eq!((header.base_sequence, header.last_sequence()), (20, 24));
    assert_eq!((header.base_timestamp, header.max_timestamp), (-1, 1234));
    assert_eq!((header.producer_id, header.records_count), (9, 0));
    let mut scratch = Vec::new();
    assert_eq!(batch.records(&mut scratch).unwrap().count(), 0);

    // The batch it was before: five records, a codec, a delete horizon.
    let before = BatchHeader {
        batch_length: 400,
        attributes: 0x44,
        base_timestamp: 99,
        records_count: 5,
        ..header
    };
    assert_eq!(encode_emptied(&before)[..], bytes);
}
