//! Each rule of the format has a test of its name.

use super::*;

fn record(timestamp: i64) -> RecordInput<'static> {
    RecordInput { timestamp, key: Some(b"k"), value: Some(b"v"), headers: &[] }
}

fn first_fault(payload: &[u8], count: i32) -> BatchFault {
    read(&batch_of(payload, Codec::None, count)).unwrap_err()
}

#[test]
fn the_header_has_its_fields_at_the_places_of_the_table() {
    let header = BatchHeader {
        base_offset: 0x0102_0304_0506_0708,
        batch_length: 0x1112_1314,
        leader_epoch: 0x2122_2324,
        magic: 2,
        crc: 0x3132_3334,
        attributes: 0x4142,
        last_offset_delta: 0x5152_5354,
        base_timestamp: 0x6162_6364_6566_6768,
        max_timestamp: 0x7172_7374_7576_7778,
        producer_id: 0x0a0b_0c0d_0e0f_1011,
        producer_epoch: 0x1a1b,
        base_sequence: 0x2a2b_2c2d,
        records_count: 0x3a3b_3c3d,
    };
    let bytes = header.encode();
    let at = |from: usize, to: usize| &bytes[from..to];
    assert_eq!(at(0, 8), [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(at(8, 12), [0x11, 0x12, 0x13, 0x14]);
    assert_eq!(at(12, 16), [0x21, 0x22, 0x23, 0x24]);
    assert_eq!(at(16, 17), [2]);
    assert_eq!(at(17, 21), [0x31, 0x32, 0x33, 0x34]);
    assert_eq!(at(21, 23), [0x41, 0x42]);
    assert_eq!(at(23, 27), [0x51, 0x52, 0x53, 0x54]);
    assert_eq!(at(27, 35), [0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68]);
    assert_eq!(at(35, 43), [0x71, 0x72, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78]);
    assert_eq!(at(43, 51), [0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f, 0x10, 0x11]);
    assert_eq!(at(51, 53), [0x1a, 0x1b]);
    assert_eq!(at(53, 57), [0x2a, 0x2b, 0x2c, 0x2d]);
    assert_eq!(at(57, 61), [0x3a, 0x3b, 0x3c, 0x3d]);
    assert_eq!(BatchHeader::parse(&bytes), Ok(header));
}

#[test]
fn a_length_of_zero_is_told_from_a_wrong_one() {
    let mut bytes = hex(A);
    let mut with_length = |length: i32| {
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        BatchHeader::parse(&bytes).unwrap_err()
    };
    assert_eq!(with_length(0), BatchFault::Zeros);
    assert_eq!(with_length(-1), BatchFault::BadLength(-1));
    assert_eq!(with_length(i32::MIN), BatchFault::BadLength(i32::MIN));
    assert_eq!(with_length(13), BatchFault::BadLength(13));
    assert_eq!(with_length(48), BatchFault::BadLength(48));
    assert_eq!(BatchHeader::parse(&[0; 12]), Err(BatchFault::Zeros));
    assert_eq!(BatchHeader::parse(&[0; 11]), Err(BatchFault::Incomplete { needed: 12 }));
    assert_eq!(BatchHeader::parse(&[0; 100]), Err(BatchFault::Zeros));
}

#[test]
fn old_and_unknown_formats_are_named() {
    let mut bytes = hex(A);
    for magic in [0, 1, 3, -1] {
        bytes[16] = i8::cast_unsigned(magic);
        assert_eq!(BatchHeader::parse(&bytes), Err(BatchFault::BadMagic(magic)));
        // Version 0 has batches that are shorter than a header of version 2.
        bytes[8..12].copy_from_slice(&14i32.to_be_bytes());
        assert_eq!(BatchHeader::parse(&bytes[..26]), Err(BatchFault::BadMagic(magic)));
    }
}

#[test]
fn the_largest_declared_length_is_awaited_and_not_allocated() {
    let mut bytes = hex(A);
    bytes[8..12].copy_from_slice(&i32::MAX.to_be_bytes());
    let needed = i32::MAX as usize + 12;
    assert_eq!(RecordBatch::parse(&bytes).unwrap_err(), BatchFault::Incomplete { needed });
    assert_eq!(BatchHeader::parse(&bytes).unwrap().size(), needed);
}

#[test]
fn attributes_say_codec_timestamp_type_and_flags() {
    let mut header = BatchHeader::parse(&hex(A)).unwrap();
    for codec in Codec::ALL {
        header.attributes = codec.id();
        assert_eq!(header.codec(), Ok(codec));
        assert_eq!(Codec::from_name(codec.name()), Some(codec));
    }
    for id in 5..=7 {
        header.attributes = id;
        assert_eq!(header.codec(), Err(BatchFault::BadAttributes(id)));
        assert_eq!(read(&batch_with(header)).unwrap_err(), BatchFault::BadAttributes(id));
    }
    header.attributes = 0x08;
    assert_eq!(header.timestamp_type(), TimestampType::LogAppendTime);
    header.attributes = 0x10;
    assert!(header.is_transactional() && !header.is_control());
    header.attributes = 0x20;
    assert!(header.is_control() && !header.is_transactional());
    header.attributes = 0x40;
    assert_eq!(header.delete_horizon_ms(), Some(1000));
    header.attributes = 0x3f80;
    assert_eq!(header.codec(), Ok(Codec::None));
}

fn batch_with(header: BatchHeader) -> Vec<u8> {
    let mut bytes = hex(A);
    bytes[..BATCH_OVERHEAD].copy_from_slice(&header.encode());
    reseal(&mut bytes);
    bytes
}

#[test]
fn sequences_wrap_behind_the_largest() {
    let mut header = BatchHeader::parse(&hex(D)).unwrap();
    header.base_sequence = i32::MAX - 1;
    header.last_offset_delta = 4;
    assert_eq!(header.last_sequence(), 2);
    header.last_offset_delta = 1;
    assert_eq!(header.last_sequence(), i32::MAX);
    header.last_offset_delta = 2;
    assert_eq!(header.last_sequence(), 0);
    header.base_sequence = -1;
    assert_eq!(header.last_sequence(), -1);
}

#[test]
fn damaged_offsets_and_timestamps_wrap_and_do_not_panic() {
    let mut header = BatchHeader::parse(&hex(B)).unwrap();
    header.base_offset = i64::MAX;
    header.last_offset_delta = i32::MAX;
    header.base_timestamp = i64::MIN;
    let mut bytes = hex(B);
    bytes[..BATCH_OVERHEAD].copy_from_slice(&header.encode());
    reseal(&mut bytes);
    let records = read(&bytes).unwrap();
    assert_eq!(records[1].0, i64::MIN);
    assert_eq!(records[1].1.timestamp, i64::MIN.wrapping_sub(5));
    assert!(header.next_offset() < 0);
}

#[test]
fn a_count_that_does_not_fit_the_bytes_is_an_error_behind_the_good_records() {
    let bytes = hex(B);
    let payload = &bytes[BATCH_OVERHEAD..];
    for (count, good) in [(0, 0), (1, 1), (3, 2), (i32::MAX, 2)] {
        let batch = batch_of(payload, Codec::None, count);
        let batch = RecordBatch::parse(&batch).unwrap();
        let mut scratch = Vec::new();
        let mut records = batch.records(&mut scratch).unwrap();
        assert!(records.size_hint().1.unwrap() <= payload.len() / 7 + 1);
        for _ in 0..good {
            assert!(records.next().unwrap().is_ok(), "count {count}");
        }
        assert!(matches!(records.next(), Some(Err(BatchFault::BadRecords(_)))), "count {count}");
        assert!(records.next().is_none(), "count {count}");
        assert!(records.next().is_none(), "count {count}");
    }
    assert!(matches!(first_fault(payload, -1), BatchFault::BadRecords(_)));
}

#[test]
fn the_length_of_a_record_has_to_be_that_of_its_fields() {
    // length 7, attributes, deltas, key "k", null value, no headers
    let good = [0x0e, 0, 0, 0, 2, b'k', 1, 0];
    assert_eq!(read(&batch_of(&good, Codec::None, 1)).unwrap().len(), 1);
    for length in [0x0c, 0x10, 0x00, 0x01, 0x0d] {
        let mut bad = good;
        bad[0] = length;
        assert!(matches!(first_fault(&bad, 1), BatchFault::BadRecords(_)), "{length:#x}");
    }
    let mut longer = good.to_vec();
    longer[0] = 0x10;
    longer.push(0);
    assert!(matches!(first_fault(&longer, 1), BatchFault::BadRecords(_)));
}

#[test]
fn negative_lengths_are_null_and_attributes_of_records_are_ignored() {
    for negative in [0x01, 0x03, 0x7f] {
        let payload = [0x0c, 0x55, 0, 0, negative, negative, 0];
        let records = read(&batch_of(&payload, Codec::None, 1)).unwrap();
        assert_eq!((&records[0].1.key, &records[0].1.value), (&None, &None));
    }
}

#[test]
fn headers_are_checked_when_the_record_is_decoded() {
    let with_headers = |tail: &[u8]| {
        let mut payload = vec![(6 + tail.len() as u8) << 1, 0, 0, 0, 1, 1];
        payload[0] = (5 + tail.len() as u8) << 1;
        payload.extend_from_slice(tail);
        read(&batch_of(&payload, Codec::None, 1))
    };
    let good = with_headers(&[4, 2, b'a', 1, 2, b'a', 0]).unwrap();
    assert_eq!(good[0].1.headers.len(), 2);
    assert_eq!(good[0].1.headers[1].value, Some(Vec::new()));
    for bad in [
        &[0x01][..],                    // a negative count
        &[0x02],                        // a header that is not there
        &[0x02, 0x01, 0x01],            // a header without a name
        &[0x02, 0x02, b'a', 0x04, 1],   // a value that is cut off
        &[0xfe, 0xff, 0xff, 0xff, 0xf], // 2^31 - 1 headers
        &[0x00, 0x00],                  // a byte too many
    ] {
        assert!(matches!(with_headers(bad), Err(BatchFault::BadRecords(_))), "{bad:x?}");
    }
}

#[test]
fn headers_keep_order_and_repetitions_and_names_that_are_no_utf8_are_readable() {
    let payload = [0x20, 0, 0, 0, 1, 1, 6, 2, 0xff, 2, b'1', 2, b'a', 1, 2, 0xff, 1];
    let bytes = batch_of(&payload, Codec::None, 1);
    let mut scratch = Vec::new();
    let batch = RecordBatch::parse(&bytes).unwrap();
    let record = batch.records(&mut scratch).unwrap().next().unwrap().unwrap();
    let headers = record.headers();
    assert_eq!((headers.len(), headers.iter().len(), headers.is_empty()), (3, 3, false));
    let names: Vec<_> = headers.iter().map(|h| h.name().into_owned()).collect();
    assert_eq!(names, ["\u{fffd}", "a", "\u{fffd}"]);
    assert_eq!(headers.iter().next().unwrap().name_bytes(), [0xff]);
    assert_eq!(headers.last("a").unwrap().value(), None);
    assert!(headers.last("b").is_none());
    assert!(Headers::EMPTY.is_empty());
    assert_eq!(record.encoded_size(), payload.len());
}

#[test]
fn with_log_append_time_every_record_has_the_time_of_the_batch() {
    for codec in available() {
        let stamp = Stamp::plain(5, 1).log_append_time(77_777);
        let bytes = build(codec, &sample(), &stamp);
        let header = BatchHeader::parse(&bytes).unwrap();
        assert_eq!(header.timestamp_type(), TimestampType::LogAppendTime);
        assert_eq!(header.base_timestamp, sample()[0].timestamp, "the producer's stays");
        assert_eq!(header.max_timestamp, 77_777);
        for (_, record) in read(&bytes).unwrap() {
            assert_eq!(record.timestamp, 77_777);
        }
    }
}

#[test]
fn setting_the_append_time_rewrites_attributes_timestamp_and_checksum() {
    for codec in available() {
        let stamp = Stamp::plain(5, 1).producer(3, 2, 1).transactional();
        let mut bytes = build(codec, &sample(), &stamp);
        // An unknown bit is dropped, the known ones stay.
        bytes[21] = 0x80;
        set_log_append_time(&mut bytes, 88_888);
        assert_eq!(bytes, build(codec, &sample(), &stamp.log_append_time(88_888)));
    }
    let mut marker = hex(C);
    set_log_append_time(&mut marker, 5);
    let header = BatchHeader::parse(&marker).unwrap();
    assert!(header.is_control() && header.is_transactional());
    assert_eq!(header.max_timestamp, 5);
    RecordBatch::parse(&marker).unwrap().check_crc().unwrap();
}

#[test]
fn restamping_leaves_the_checksum_as_it_is() {
    let mut bytes = hex(B);
    restamp(&mut bytes, 1 << 40, 12);
    let batch = RecordBatch::parse(&bytes).unwrap();
    batch.check_crc().unwrap();
    assert_eq!((batch.header().base_offset, batch.header().leader_epoch), (1 << 40, 12));
    assert_eq!(read(&bytes).unwrap()[1].0, (1 << 40) + 1);
    restamp(&mut bytes, 42, 7);
    assert_eq!(bytes, hex(B));
}

#[test]
fn the_base_timestamp_is_the_first_and_the_maximum_that_of_all() {
    let mut builder = BatchBuilder::new(Codec::None, None).unwrap();
    for timestamp in [50, 90, 10] {
        builder.append(&record(timestamp)).unwrap();
    }
    let bytes = builder.finish(&Stamp::plain(0, 0)).unwrap();
    let header = BatchHeader::parse(bytes).unwrap();
    assert_eq!((header.base_timestamp, header.max_timestamp), (50, 90));
    let times: Vec<_> = read(bytes).unwrap().into_iter().map(|(_, r)| r.timestamp).collect();
    assert_eq!(times, [50, 90, 10]);
    builder.clear();
    builder.append(&record(-1)).unwrap();
    let header = BatchHeader::parse(builder.finish(&Stamp::plain(0, 0)).unwrap()).unwrap();
    assert_eq!((header.base_timestamp, header.max_timestamp), (-1, -1));
}

#[test]
fn a_delete_horizon_takes_the_place_of_the_base_timestamp() {
    for codec in available() {
        let mut builder = BatchBuilder::new(codec, None).unwrap();
        builder.set_delete_horizon(1_000_000).unwrap();
        builder.append_at(3, &record(500)).unwrap();
        builder.append_at(9, &record(700)).unwrap();
        assert!(builder.set_delete_horizon(1).is_err());
        let bytes = builder.finish(&Stamp::plain(20, 0)).unwrap().to_vec();
        let header = BatchHeader::parse(&bytes).unwrap();
        assert_eq!(header.delete_horizon_ms(), Some(1_000_000));
        assert_eq!((header.max_timestamp, header.last_offset()), (700, 29));
        let records = read(&bytes).unwrap();
        assert_eq!((records[0].0, records[0].1.timestamp), (23, 500));
        assert_eq!((records[1].0, records[1].1.timestamp), (29, 700));
        builder.clear();
        builder.append(&record(500)).unwrap();
        let header = BatchHeader::parse(builder.finish(&Stamp::plain(0, 0)).unwrap()).unwrap();
        assert_eq!(header.delete_horizon_ms(), None);
    }
}

#[test]
fn the_builder_refuses_what_no_batch_can_say_and_stays_as_it_was() {
    let mut builder = BatchBuilder::new(Codec::None, None).unwrap();
    let kind = |result: crate::Result<()>| result.unwrap_err().kind();
    assert_eq!(
        builder.finish(&Stamp::plain(0, 0)).unwrap_err().kind(),
        crate::ErrorKind::IllegalState
    );
    builder.append_at(4, &record(0)).unwrap();
    let before = builder.finish(&Stamp::plain(0, 0)).unwrap().to_vec();
    assert_eq!(kind(builder.append_at(4, &record(0))), crate::ErrorKind::IllegalArgument);
    assert_eq!(kind(builder.append_at(-1, &record(0))), crate::ErrorKind::IllegalArgument);
    assert_eq!(kind(builder.append(&record(-2))), crate::ErrorKind::InvalidTimestamp);
    builder.append_at(i32::MAX, &record(0)).unwrap();
    assert_eq!(kind(builder.append(&record(0))), crate::ErrorKind::IllegalArgument);
    builder.clear();
    assert!(builder.is_empty());
    builder.append_at(4, &record(0)).unwrap();
    assert_eq!(builder.finish(&Stamp::plain(0, 0)).unwrap(), before);
}

#[test]
fn sizes_are_known_before_anything_is_encoded() {
    let mut builder = BatchBuilder::new(Codec::None, None).unwrap();
    for owned in sample() {
        let headers = owned.header_inputs();
        let record = input(&owned, &headers);
        let expected = builder.uncompressed_size() + builder.size_of_next(&record);
        builder.append(&record).unwrap();
        assert_eq!(builder.uncompressed_size(), expected);
        assert_eq!(builder.estimated_size(), expected);
    }
    let size = builder.uncompressed_size();
    assert_eq!(builder.finish(&Stamp::plain(0, 0)).unwrap().len(), size);
}

#[test]
fn control_records_are_decoded_or_refused() {
    let control = |key: &[u8], value: Option<&[u8]>| {
        let record = RecordInput { timestamp: 1, key: Some(key), value, headers: &[] };
        let mut bytes = Vec::new();
        encode_single(&mut bytes, &record, &Stamp::plain(0, 0));
        bytes[22] |= 0x20;
        reseal(&mut bytes);
        RecordBatch::parse(&bytes).unwrap().control()
    };
    let value = [0, 0, 0, 0, 0, 9];
    let commit = ControlRecord { kind: ControlType::Commit, coordinator_epoch: Some(9) };
    assert_eq!(control(&[0, 0, 0, 1], Some(&value)), Ok(Some(commit)));
    assert_eq!(control(&[0, 7, 0, 1], Some(&value)), Ok(Some(commit)), "a later version");
    assert_eq!(control(&[0, 0, 0, 1, 8], Some(&[0, 9, 0, 0, 0, 9, 1])), Ok(Some(commit)));
    for id in [2, 3, 4, 5, 6, 7, 99] {
        let found = control(&[0, 0, 0, id], None).unwrap().unwrap();
        assert_eq!((found.kind.id(), found.coordinator_epoch), (i16::from(id), None));
        assert!(!found.kind.is_marker());
        assert_eq!(matches!(found.kind, ControlType::Unknown(_)), id > 6);
    }
    for (key, value) in [
        (&[0, 0, 0][..], Some(&value[..])),
        (&[0xff, 0xff, 0, 1], Some(&value)),
        (&[0, 0, 0, 1], Some(&value[..5])),
        (&[0, 0, 0, 0], None),
        (&[0, 0, 0, 0], Some(&[0x80, 0, 0, 0, 0, 9])),
    ] {
        assert!(matches!(control(key, value), Err(BatchFault::BadRecords(_))), "{key:?} {value:?}");
    }
    let mut emptied = hex(D);
    emptied[22] |= 0x30;
    reseal(&mut emptied);
    assert_eq!(RecordBatch::parse(&emptied).unwrap().control(), Ok(None));
    for id in -3..12 {
        assert_eq!(ControlType::from_id(id).id(), id);
    }
}

#[test]
fn an_iteration_goes_on_where_another_stopped() {
    for stamp in [Stamp::plain(40, 0), Stamp::plain(40, 0).log_append_time(9)] {
        let bytes = build(Codec::None, &sample(), &stamp);
        let batch = RecordBatch::parse(&bytes).unwrap();
        let mut scratch = Vec::new();
        let mut whole = batch.records(&mut scratch).unwrap();
        for taken in 0..=sample().len() {
            let at = batch.payload().len() - whole.rest().len();
            let resumed = Records::resume(batch.header(), batch.payload(), taken, at);
            let left = |records: Records<'_>| -> Vec<(i64, OwnedRecord)> {
                records.map(Result::unwrap).map(|r| (r.offset(), OwnedRecord::from(&r))).collect()
            };
            assert_eq!(left(resumed), left(whole.clone()), "{taken}");
            assert_eq!(whole.next().is_some(), taken < sample().len());
        }
        // A place that is none.
        for (records, bytes) in [(0, 1), (3, usize::MAX), (usize::MAX, 0), (1, 0)] {
            let odd = Records::resume(batch.header(), batch.payload(), records, bytes);
            assert!(odd.last().is_none_or(|last| last.is_err()), "{records} {bytes}");
        }
        assert_eq!(Records::EMPTY.count(), 0);
    }
}

#[test]
fn a_batch_is_only_its_own_bytes() {
    let mut bytes = hex(A);
    bytes.extend(hex(B));
    let first = RecordBatch::parse(&bytes).unwrap();
    assert_eq!(first.bytes(), hex(A));
    let second = RecordBatch::parse(&bytes[first.bytes().len()..]).unwrap();
    assert_eq!(second.bytes(), hex(B));
    assert_eq!(second.payload().len(), hex(B).len() - BATCH_OVERHEAD);
    second.check_crc().unwrap();
}

proptest! {
    #[test]
    fn a_single_record_is_encoded_as_the_builder_does(
        record in any_record(), stamp in any_stamp(),
    ) {
        let headers = record.header_inputs();
        let record = input(&record, &headers);
        let mut single = Vec::new();
        encode_single(&mut single, &record, &stamp);
        prop_assert_eq!(single.len(), single_batch_size(&record));
        let mut builder = BatchBuilder::new(Codec::None, None).unwrap();
        builder.append(&record).unwrap();
        prop_assert_eq!(&single[..], builder.finish(&stamp).unwrap());
    }
}

/// Checks that each byte is put once, the header after all others.
#[derive(Default)]
struct Ordered {
    put: Vec<bool>,
    header: bool,
}

impl Sink for Ordered {
    fn put(&mut self, at: usize, bytes: &[u8]) {
        assert!(!self.header, "a put behind the header");
        self.put.resize(self.put.len().max(at + bytes.len()), false);
        for slot in &mut self.put[at..at + bytes.len()] {
            assert!(!*slot, "a byte is put twice");
            *slot = true;
        }
        self.header = at == 0;
    }
}

#[test]
fn the_header_of_a_single_record_comes_last_and_no_byte_twice() {
    let headers = vec![HeaderInput { name: "a-name", value: Some(&[7; 50]) }; 20];
    for len in [0, 1, 40, 63, 64, 65, 100, 150, 200, 256, 257, 300, 511, 512, 1024, 100_000] {
        for headers in [&headers[..0], &headers[..1], &headers[..]] {
            let value = vec![1; len];
            for key in [None, Some(&value[..len.min(300)])] {
                let record = RecordInput { timestamp: 7, key, value: Some(&value), headers };
                let mut sink = Ordered::default();
                encode_single(&mut sink, &record, &Stamp::plain(0, 0));
                assert!(sink.header && sink.put.iter().all(|&put| put));
                assert_eq!(sink.put.len(), single_batch_size(&record));
                let mut bytes = Vec::new();
                encode_single(&mut bytes, &record, &Stamp::plain(0, 0));
                let read = read(&bytes).unwrap();
                assert_eq!(read[0].1.value.as_deref(), Some(&value[..]));
                assert_eq!(read[0].1.headers.len(), headers.len());
            }
        }
    }
}

/// What encodes many records in place gives the builder's bytes.
fn assert_in_place_as_built(records: &[OwnedRecord], stamp: &Stamp) {
    let headers: Vec<_> = records.iter().map(OwnedRecord::header_inputs).collect();
    let inputs: Vec<_> = records.iter().zip(&headers).map(|(r, h)| input(r, h)).collect();
    let measured = Measured::of(&inputs).unwrap();
    let mut bytes = Vec::new();
    encode_many(&mut bytes, &inputs, &measured, stamp);
    let built = build(Codec::None, records, stamp);
    assert_eq!(measured.size, built.len());
    assert_eq!(bytes, built);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn many_records_in_place_are_what_the_builder_makes(
        records in proptest::collection::vec(any_record(), 1..40), stamp in any_stamp(),
    ) {
        assert_in_place_as_built(&records, &stamp);
    }
}

#[test]
fn fields_around_the_size_of_the_buffer_are_encoded_in_place_too() {
    let sizes = (0..12).chain(2020..2060).chain(4030..4110).chain([9000]);
    for size in sizes {
        let one = |size: usize| OwnedRecord {
            timestamp: i64::MAX - size as i64,
            key: Some(vec![size as u8; size / 3]),
            value: Some(vec![7; size]),
            ..OwnedRecord::default()
        };
        let negative = OwnedRecord { timestamp: -1, ..one(5) };
        assert_in_place_as_built(&[negative, one(size), one(1), one(size)], &Stamp::plain(7, 1));
    }
}

#[test]
fn what_no_batch_can_be_is_refused_before_a_byte_is_written() {
    use crate::error::ErrorKind;
    let kind = |records: &[RecordInput<'_>]| Measured::of(records).unwrap_err().kind();
    assert_eq!(kind(&[]), ErrorKind::IllegalState);
    assert_eq!(kind(&[record(1), record(-2)]), ErrorKind::InvalidTimestamp);
}
