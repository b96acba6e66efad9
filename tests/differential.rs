//! Our record batches against those of the crate `kafka-protocol`, an independent implementation
//! with codecs of its own (its LZ4 is the C library). Both decode what the other encoded.
//!
//! Its known differences, which the tests step around or pin down:
//! - A record's headers are a map there: repeated names collapse, the last value wins.
//! - Records of a batch with log append time get the timestamps that the producer gave.
//! - The base timestamp it writes is the least of the batch, not the first, and its deltas have
//!   32 bits, so it refuses batches that span more than 24 days.
//! - It writes neither log append time nor a delete horizon, and gives a record without sequence
//!   the sequence -1 plus its offset delta.
//! - It does not look for bytes behind the last record.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

use bytes::{Bytes, BytesMut};
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::{
    Compression, Record as TheirRecord, RecordBatchDecoder, RecordBatchEncoder,
    RecordEncodeOptions, RecordSet, TimestampType as TheirType,
};
use proptest::prelude::*;
use topiclite::record::{
    BatchBuilder, BatchHeader, Codec, ControlType, OwnedHeader, OwnedRecord, RecordBatch,
    RecordInput, Stamp, encode_marker, encode_single,
};

fn theirs(codec: Codec) -> Compression {
    match codec {
        Codec::None => Compression::None,
        Codec::Gzip => Compression::Gzip,
        Codec::Snappy => Compression::Snappy,
        Codec::Lz4 => Compression::Lz4,
        Codec::Zstd => Compression::Zstd,
    }
}

fn available() -> impl Iterator<Item = Codec> {
    Codec::ALL.into_iter().filter(|codec| codec.is_available())
}

fn we_encode(codec: Codec, records: &[OwnedRecord], stamp: &Stamp) -> Vec<u8> {
    let mut builder = BatchBuilder::new(codec, None).unwrap();
    for record in records {
        let headers = record.header_inputs();
        builder.append(&input(record, &headers)).unwrap();
    }
    builder.finish(stamp).unwrap().to_vec()
}

fn input<'a>(
    record: &'a OwnedRecord,
    headers: &'a [topiclite::record::HeaderInput<'a>],
) -> RecordInput<'a> {
    RecordInput {
        timestamp: record.timestamp,
        key: record.key.as_deref(),
        value: record.value.as_deref(),
        headers,
    }
}

fn we_decode(bytes: &[u8]) -> Vec<(i64, OwnedRecord)> {
    let batch = RecordBatch::parse(bytes).unwrap();
    assert_eq!(batch.bytes().len(), bytes.len());
    batch.check_crc().unwrap();
    let mut scratch = Vec::new();
    let records = batch.records(&mut scratch).unwrap();
    records
        .map(|record| record.map(|record| (record.offset(), OwnedRecord::from(&record))).unwrap())
        .collect()
}

fn they_encode(codec: Codec, records: &[TheirRecord]) -> Vec<u8> {
    let options = RecordEncodeOptions { version: 2, compression: theirs(codec) };
    let mut buffer = BytesMut::new();
    RecordBatchEncoder::encode(&mut buffer, records, &options).unwrap();
    buffer.to_vec()
}

fn they_decode(bytes: &[u8]) -> RecordSet {
    let mut buffer = Bytes::copy_from_slice(bytes);
    let set = RecordBatchDecoder::decode(&mut buffer).unwrap();
    assert!(buffer.is_empty());
    set
}

/// Our record as theirs would show it.
fn as_theirs(index: usize, record: &OwnedRecord, stamp: &Stamp) -> TheirRecord {
    let delta = i32::try_from(index).unwrap();
    let mut headers = IndexMap::new();
    for header in &record.headers {
        let name = StrBytes::from_string(header.name.clone());
        headers.insert(name, header.value.clone().map(Bytes::from));
    }
    TheirRecord {
        transactional: stamp.transactional,
        control: false,
        partition_leader_epoch: stamp.leader_epoch,
        producer_id: stamp.producer_id,
        producer_epoch: stamp.producer_epoch,
        timestamp_type: TheirType::Creation,
        offset: stamp.base_offset + i64::from(delta),
        sequence: stamp.base_sequence.wrapping_add(delta),
        timestamp: record.timestamp,
        key: record.key.clone().map(Bytes::from),
        value: record.value.clone().map(Bytes::from),
        headers,
    }
}

/// The base timestamp is the producer's first, so what differs is where deltas count from.
fn assert_decoded_alike(set: &RecordSet, records: &[OwnedRecord], stamp: &Stamp) {
    assert_eq!(set.records.len(), records.len());
    for (index, (found, record)) in set.records.iter().zip(records).enumerate() {
        assert_eq!(*found, as_theirs(index, record, stamp), "record {index}");
    }
}

prop_compose! {
    fn any_record()(
        timestamp in 1_700_000_000_000..1_702_000_000_000i64,
        key in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..60)),
        value in proptest::option::of(prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..400),
            (any::<u8>(), 0usize..5000).prop_map(|(byte, len)| vec![byte; len]),
        ]),
        headers in proptest::collection::btree_map(
            ".{0,10}", proptest::option::of(proptest::collection::vec(any::<u8>(), 0..30)), 0..4),
    ) -> OwnedRecord {
        let headers = headers.into_iter().map(|(name, value)| OwnedHeader { name, value });
        OwnedRecord { timestamp, key, value, headers: headers.collect() }
    }
}

prop_compose! {
    fn any_stamp()(
        base_offset in 0..i64::MAX / 2,
        leader_epoch in -1..i32::MAX,
        producer in proptest::option::of((0..i64::MAX, 0..i16::MAX, 0..i32::MAX - 100)),
        transactional in any::<bool>(),
    ) -> Stamp {
        let mut stamp = Stamp::plain(base_offset, leader_epoch);
        if let Some((id, epoch, sequence)) = producer {
            stamp = stamp.producer(id, epoch, sequence);
        }
        stamp.transactional = transactional;
        stamp
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn they_decode_what_we_encode(
        records in proptest::collection::vec(any_record(), 1..12), stamp in any_stamp(),
    ) {
        for codec in available() {
            let set = they_decode(&we_encode(codec, &records, &stamp));
            assert_eq!(set.compression, theirs(codec));
            assert_decoded_alike(&set, &records, &stamp);
        }
        let headers = records[0].header_inputs();
        let mut single = Vec::new();
        encode_single(&mut single, &input(&records[0], &headers), &stamp);
        assert_decoded_alike(&they_decode(&single), &records[..1], &stamp);
    }

    #[test]
    fn we_decode_what_they_encode(
        records in proptest::collection::vec(any_record(), 1..12), stamp in any_stamp(),
    ) {
        let given: Vec<_> =
            records.iter().enumerate().map(|(i, record)| as_theirs(i, record, &stamp)).collect();
        for codec in available() {
            let bytes = they_encode(codec, &given);
            let header = BatchHeader::parse(&bytes).unwrap();
            prop_assert_eq!(header.codec(), Ok(codec));
            prop_assert_eq!(header.base_offset, stamp.base_offset);
            prop_assert_eq!(header.records_count as usize, records.len());
            prop_assert_eq!(header.leader_epoch, stamp.leader_epoch);
            prop_assert_eq!(header.is_transactional(), stamp.transactional);
            prop_assert_eq!(
                (header.producer_id, header.producer_epoch, header.base_sequence),
                (stamp.producer_id, stamp.producer_epoch, stamp.base_sequence)
            );
            let least = records.iter().map(|record| record.timestamp).min();
            prop_assert_eq!(Some(header.base_timestamp), least, "theirs is the least");
            for (i, (offset, record)) in we_decode(&bytes).into_iter().enumerate() {
                prop_assert_eq!(offset, stamp.base_offset + i as i64);
                prop_assert_eq!(&record, &records[i]);
            }
        }
    }

    #[test]
    fn uncompressed_batches_are_the_same_bytes_when_timestamps_do_not_go_back(
        mut records in proptest::collection::vec(any_record(), 1..12), stamp in any_stamp(),
    ) {
        records.sort_by_key(|record| record.timestamp);
        let given: Vec<_> =
            records.iter().enumerate().map(|(i, record)| as_theirs(i, record, &stamp)).collect();
        prop_assert_eq!(we_encode(Codec::None, &records, &stamp), they_encode(Codec::None, &given));
    }

    #[test]
    fn damage_that_we_refuse_they_refuse_and_the_reverse(
        records in proptest::collection::vec(any_record(), 1..4),
        at in any::<prop::sample::Index>(), bit in 0..8u8,
    ) {
        let mut bytes = we_encode(Codec::None, &records, &Stamp::plain(3, 0));
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let ours = RecordBatch::parse(&bytes).is_ok_and(|batch| batch.check_crc().is_ok());
        let mut buffer = Bytes::copy_from_slice(&bytes);
        prop_assert_eq!(ours, RecordBatchDecoder::decode(&mut buffer).is_ok());
    }
}

#[test]
fn they_collapse_repeated_header_names_and_we_keep_them() {
    let header = |name: &str, value: &[u8]| OwnedHeader {
        name: name.to_owned(),
        value: Some(value.to_vec()),
    };
    let record = OwnedRecord {
        headers: vec![header("a", b"1"), header("b", b"2"), header("a", b"3")],
        ..OwnedRecord::default()
    };
    let bytes = we_encode(Codec::None, std::slice::from_ref(&record), &Stamp::plain(0, 0));
    assert_eq!(we_decode(&bytes)[0].1, record);
    let theirs = they_decode(&bytes);
    let found: Vec<_> = theirs.records[0].headers.iter().map(|(k, v)| (&k[..], v)).collect();
    let (one, two) = (Some(Bytes::from_static(b"3")), Some(Bytes::from_static(b"2")));
    assert_eq!(found, [("a", &one), ("b", &two)], "the fault is gone, compare headers in full");
}

#[test]
fn they_give_records_with_append_time_the_time_of_the_producer() {
    let record = OwnedRecord { timestamp: 5, ..OwnedRecord::default() };
    let stamp = Stamp::plain(0, 0).log_append_time(99);
    let bytes = we_encode(Codec::None, &[record], &stamp);
    assert_eq!(we_decode(&bytes)[0].1.timestamp, 99);
    let theirs = they_decode(&bytes);
    assert_eq!(theirs.records[0].timestamp_type, TheirType::LogAppend);
    assert_eq!(theirs.records[0].timestamp, 5, "the fault is gone, compare append times too");
}

#[test]
fn they_do_not_miss_bytes_behind_the_last_record_and_we_do() {
    let records = vec![OwnedRecord::default(); 2];
    let mut bytes = we_encode(Codec::None, &records, &Stamp::plain(0, 0));
    bytes[57..61].copy_from_slice(&1i32.to_be_bytes());
    let crc = topiclite::record::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    let mut scratch = Vec::new();
    let mut found = RecordBatch::parse(&bytes).unwrap().records(&mut scratch).unwrap();
    assert!(found.next().unwrap().is_ok());
    assert!(found.next().unwrap().is_err());
    assert_eq!(they_decode(&bytes).records.len(), 1);
}

#[test]
fn they_read_our_markers() {
    let stamp = Stamp::plain(12, 4).producer(77, 3, -1);
    for kind in [ControlType::Abort, ControlType::Commit] {
        let theirs = they_decode(&encode_marker(kind, 5, 1000, &stamp));
        let [marker] = &theirs.records[..] else { panic!("{theirs:?}") };
        assert!(marker.control && marker.transactional);
        assert_eq!((marker.producer_id, marker.producer_epoch, marker.offset), (77, 3, 12));
        let type_id = i16::from_be_bytes(marker.key.as_ref().unwrap()[2..].try_into().unwrap());
        assert_eq!(type_id, kind.id());
        assert_eq!(marker.value.as_deref(), Some(&[0, 0, 0, 0, 0, 5][..]));
    }
}
